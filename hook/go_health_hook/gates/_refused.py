# SPDX-License-Identifier: GPL-2.0-or-later
"""The deployments that were refused and why, kept over reboots; and, until the next boot, which locks are ours."""

from __future__ import annotations

import hashlib
import json
import os
import time

from go_health_hook import VERSION, files
from go_health_hook.errors import EXIT_BLOCK
from go_health_hook.records import Record
from go_health_hook.text import clean
from go_health_hook.verdict import Examination, Finding, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.deployments import Deployment
    from go_health_hook.subject import Subject

KEPT = "/var/lib/go-health-hook/refused.json"
NOTE = "/run/go-health-hook/staged.json"
MAX_REFUSED = 20
MAX_BYTES = 1 << 20
# What these find is about the machine at that moment, not about the commit: it is judged again each time.
OF_THE_MOMENT = ("cgroup", "gomaxprocs")


def fingerprint(settings: Config, severities: dict[str, str]) -> str:
    """What the verdicts depend on besides the commit: the settings and the hook's own version."""
    said = [VERSION, *(f"{name}={settings.get('checks', name)}" for name in sorted(severities))]
    said += [f"{key}={settings.get('toolchain', key)}" for key in ("goroot", "modules", "required")]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def remember(staged: Deployment, examination: Examination, mark: str, *, held: bool) -> None:
    """Keep a refusal over reboots. `held`: it is kept from being finalized. Raises OSError.

    `lasting` says that the same commit would be refused again: a hang or a limit is judged again each time.
    """
    blocking = [f for f in examination.findings if f.blocks]
    lasting = examination.verdict.exit_status == EXIT_BLOCK and not any(f.check in OF_THE_MOMENT for f in blocking)
    known = find(staged.checksum) or {}
    report = examination.to_dict()
    entry = {
        "checksum": staged.checksum,
        "digest": staged.digest or known.get("digest", ""),
        "base": staged.base or known.get("base", ""),
        "name": staged.name,
        "fingerprint": mark,
        "time": round(time.time(), 3),
        "held": held,
        "lasting": lasting and not examination.passing,
        "reboots": known.get("reboots", 0),
        "exit_status": report["exit_status"],
        "reason": report["reason"],
        "toolchain": report["toolchain"],
        "results": report["results"],
    }
    others = [e for e in _entries() if e["checksum"] != staged.checksum]
    _write(KEPT, {"schema": 1, "refused": [*others, entry][-MAX_REFUSED:]})


def change(checksum: str, **values: object) -> None:
    """Change what is kept of a refused commit, if anything is. Raises OSError."""
    entries = _entries()
    for entry in entries:
        if entry["checksum"] == checksum and any(entry.get(key) != value for key, value in values.items()):
            entry.update(values)
            _write(KEPT, {"schema": 1, "refused": entries})


def forget(checksum: str) -> None:
    """Drop what is kept of a commit. Raises OSError."""
    entries = _entries()
    others = [e for e in entries if e["checksum"] != checksum]
    if len(others) != len(entries):
        _write(KEPT, {"schema": 1, "refused": others})


def find(name: str) -> dict[str, Any] | None:
    """Return what is kept of the refused deployment with this checksum or image digest."""
    return next((e for e in _entries() if name and name in (e["checksum"], e["digest"])), None)


def held() -> list[dict[str, Any]]:
    """Return what is kept of the deployments that are kept from being finalized, the last refused first."""
    return [e for e in _entries() if e["held"]][::-1]


def is_held(name: str, staged: Deployment | None) -> bool:
    """Return whether the deployment with this checksum or image digest is kept from being finalized.

    By the record that lasts, or, where that could not be written, by the note of this boot about what is staged.
    """
    if any(name in (e["checksum"], e["digest"]) for e in held()):
        return True
    note = Note.read()
    if note.verdict != "block" or not name:
        return False
    return name == note.digest or (staged is not None and staged.id == note.deployment and name == staged.checksum)


def recall(staged: Deployment, mark: str, settings: Config, subject: Subject, deadline: Deadline) -> Examination | None:
    """Return the refusal of the same commit under the same settings as it was found then, or None."""
    for entry in _entries():
        if entry["checksum"] == staged.checksum and entry["fingerprint"] == mark and entry["lasting"]:
            verdict = Verdict(EXIT_BLOCK, clean(entry["reason"], 2000))
            findings = [Finding.from_dict(f) for f in entry["results"]]
            found = Examination(subject, deadline, verdict, settings.announce, findings, entry["toolchain"])
            found.elapsed_s = deadline.elapsed()
            return found
    return None


def _entries() -> list[dict[str, Any]]:
    """The well-formed entries; a damaged file is as good as none, for all is judged again then."""
    entries = files.read_object(KEPT, MAX_BYTES).get("refused")
    entries = entries if isinstance(entries, list) else []
    defaults = {"digest": "", "base": "", "held": True, "lasting": True, "reboots": 0}
    return [{**defaults, **e} for e in entries if _is_sound(e, defaults)]


def _is_sound(entry: Any, defaults: dict[str, Any]) -> bool:
    try:
        for finding in entry["results"]:
            Finding.from_dict(finding).to_dict()
        texts = ("checksum", "fingerprint", "reason", "name")
        return (
            all(isinstance(entry[t], str) for t in texts)
            and isinstance(entry["toolchain"], (dict, type(None)))
            and isinstance(entry["time"], (int, float))
            and all(isinstance(entry.get(key, value), type(value)) for key, value in defaults.items())
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


class Note(Record):
    """What was last done about the staged deployment in this boot.

    `deployment` is its id and `digest` its image's, `verdict` the last one, and `marks` the locks of it that are ours.
    `proven`: it was refused for a Go that was found broken, and did not only fail to answer.
    """

    deployment: str = ""
    verdict: str = ""
    marks: frozenset[str] = frozenset()
    digest: str = ""
    proven: bool = False

    @property
    def ours(self) -> bool:
        """Whether a lock of it is ours."""
        return bool(self.marks)

    @classmethod
    def read(cls) -> Note:
        """Return the note, an empty one where there is none or it makes no sense."""
        data = files.read_object(NOTE, MAX_BYTES)
        marks = data.get("marks")
        known = frozenset(m for m in marks if isinstance(m, str)) if isinstance(marks, list) else frozenset()
        texts = {key: str(data.get(key, "")) for key in ("deployment", "verdict", "digest")}
        return cls(**texts, marks=known, proven=data.get("proven") is True)

    def write(self) -> None:
        """Keep it until the next boot. Raises OSError."""
        data = {"deployment": self.deployment, "digest": self.digest, "verdict": self.verdict}
        _write(NOTE, {**data, "marks": sorted(self.marks), "proven": self.proven})


def _write(path: str, data: object) -> None:
    files.make_directory(os.path.dirname(path))
    files.replace(path, json.dumps(data) + "\n")
