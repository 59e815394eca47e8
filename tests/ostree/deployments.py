# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine with a booted and a staged deployment says on the bus, and a bus of the test's own to say it on."""

from __future__ import annotations

A, B = "a" * 64, "b" * 64
BOOTED = {"id": f"fedora-{A}.0", "osname": "fedora", "checksum": A, "serial": 0, "booted": True, "staged": False}
STAGED = {"id": f"fedora-{B}.0", "osname": "fedora", "checksum": B, "serial": 0, "booted": False, "staged": True}
DIFF = [
    [
        "golang",
        0,
        {"PreviousPackage": ["golang", "1.25.5-1", "x86_64"], "NewPackage": ["golang", "1.27.3-1", "x86_64"]},
    ],
    ["vim", 0, {"PreviousPackage": ["vim", "9.1-1", "x86_64"], "NewPackage": ["vim", "9.2-1", "x86_64"]}],
]
CACHED = {"rpm-diff": {"upgraded": [[0, "golang-bin", ["1.25.5-1", "x86_64"], ["1.27.3-1", "x86_64"]]]}}
CONFIG = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>"""
# Long enough for a machine under load: only answers that never come take it.
