# SPDX-License-Identifier: GPL-2.0-or-later
"""What rpm-ostree's daemon answered in some states of a machine, and a bus to ask its stand-in on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "unit/data/recorded"
# What the recorded update changes in Go.
GO = [f"{name} 1.25.5-1.fc45 -> 1.27.3-1.fc45" for name in ("golang", "golang-bin", "golang-src")]
CONFIG = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>"""


def recorded(name: str) -> dict[str, Any]:
    """What the real daemon answered in that state: booted-alone, update-known, staged, staged-locked."""
    data: dict[str, Any] = json.loads((RECORDED / f"rpm-ostree-{name}.json").read_text())
    return data
