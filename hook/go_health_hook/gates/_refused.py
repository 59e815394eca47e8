# SPDX-License-Identifier: GPL-2.0-or-later
"""The commits that were refused and why, kept over reboots; and, until the next boot, which lock is our own."""

from __future__ import annotations

import hashlib
import json
import os
import time

from go_health_hook import VERSION, files
from go_health_hook.errors import EXIT_BLOCK
from go_health_hook.text import clean
from go_health_hook.verdict import Examination, Finding, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.ostree import Deployment
    from go_health_hook.subject import Subject

KEPT = "/var/lib/go-health-hook/refused.json"
NOTE = "/run/go-health-hook/staged.json"
MAX_REFUSED = 20
MAX_BYTES = 1 << 20
# What these find is about the machine at that moment, not about the commit: it is judged anew each time.
OF_THE_MOMENT = ("cgroup", "gomaxprocs")


def fingerprint(settings: Config, severities: dict[str, str]) -> str:
    """What the verdicts depend on besides the commit: the settings and the hook's own version."""
    said = [VERSION, *(f"{name}={settings.get('checks', name)}" for name in sorted(severities))]
    said += [f"{key}={settings.get('toolchain', key)}" for key in ("goroot", "modules", "required")]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def remember(staged: Deployment, examination: Examination, mark: str) -> None:
    """Keep a refusal that will be the same next time. Raises OSError."""
    blocking = [f for f in examination.findings if f.blocks]
    lasting = examination.verdict.exit_status == EXIT_BLOCK and not any(f.check in OF_THE_MOMENT for f in blocking)
    if not lasting or examination.passing:
        return
    report = examination.to_dict()
    entry = {
        "checksum": staged.checksum,
        "name": staged.name,
        "fingerprint": mark,
        "time": round(time.time(), 3),
        "exit_status": report["exit_status"],
        "reason": report["reason"],
        "toolchain": report["toolchain"],
        "results": report["results"],
    }
    others = [e for e in _entries() if e["checksum"] != staged.checksum]
    _write(KEPT, {"schema": 1, "refused": [*others, entry][-MAX_REFUSED:]})


def forget(checksum: str) -> None:
    """Drop what is kept of a commit. Raises OSError."""
    entries = _entries()
    others = [e for e in entries if e["checksum"] != checksum]
    if len(others) != len(entries):
        _write(KEPT, {"schema": 1, "refused": others})


def recall(staged: Deployment, mark: str, settings: Config, subject: Subject, deadline: Deadline) -> Examination | None:
    """The refusal of the same commit under the same settings, as it was found then, or None."""
    for entry in _entries():
        if entry["checksum"] == staged.checksum and entry["fingerprint"] == mark:
            examination = Examination(subject, deadline)
            examination.announce = settings.announce
            examination.findings = [Finding.from_dict(f) for f in entry["results"]]
            examination.toolchain = entry["toolchain"]
            examination.verdict = Verdict(EXIT_BLOCK, clean(entry["reason"], 2000))
            examination.elapsed_s = deadline.elapsed()
            return examination
    return None


def _entries() -> list[dict[str, Any]]:
    """The well-formed entries; a damaged file is as good as none, for all is judged anew then."""
    entries = _read(KEPT).get("refused")
    return [e for e in entries if _sound(e)] if isinstance(entries, list) else []


def _sound(entry: Any) -> bool:
    try:
        for finding in entry["results"]:
            Finding.from_dict(finding).to_dict()
        texts = ("checksum", "fingerprint", "reason")
        return all(isinstance(entry[t], str) for t in texts) and isinstance(entry["toolchain"], (dict, type(None)))
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


class Note:
    """What was last done about the staged deployment in this boot: which one, what verdict, and whose lock it is."""

    __slots__ = ("deployment", "ours", "verdict")

    def __init__(self, deployment: str = "", verdict: str = "", ours: bool = False) -> None:
        self.deployment = deployment
        self.verdict = verdict
        self.ours = ours

    @classmethod
    def read(cls) -> Note:
        """The note, an empty one where there is none or it makes no sense."""
        data = _read(NOTE)
        return cls(str(data.get("deployment", "")), str(data.get("verdict", "")), data.get("ours") is True)

    def write(self) -> None:
        """Keep it until the next boot. Raises OSError."""
        _write(NOTE, {"deployment": self.deployment, "verdict": self.verdict, "ours": self.ours})


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(path: str, data: object) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    files.replace(path, json.dumps(data) + "\n")
