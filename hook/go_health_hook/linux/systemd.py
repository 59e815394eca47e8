# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd says of units, by one bounded `systemctl show`, and which unit a cgroup belongs to by its name.

The D-Bus library for Python takes five times as long to import as systemctl takes to answer.
"""

from __future__ import annotations

import os

from go_health_hook import files as bounded
from go_health_hook.records import Record
from go_health_hook.text import assignments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from go_health_hook.deadline import Deadline
    from go_health_hook.run.process import Running

UNIT_PATH = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
BOOTED = "/run/systemd/system"  # sd_booted(3)
SUFFIXES = (".slice", ".scope", ".service", ".mount", ".socket", ".swap")
# The settings that limit the CPU: systemd.resource-control(5), systemd.exec(5).
QUOTA = ("CPUQuota",)
CPUS = ("AllowedCPUs", "StartupAllowedCPUs", "CPUAffinity")
_FILE_MAX = 1 << 18
_STATE = "LoadState"


class Unit(Record):
    """What systemd says of the unit of a cgroup.

    name      as in "user-1000.slice"
    uid       whose manager runs it, or None for the system's
    files     its fragment and drop-ins in the order they are read
    set_by    the one of them that set the limit asked for; empty where none did, as when the limit was written straight
              to the cgroup
    """

    name: str
    uid: int | None
    files: Sequence[str] = ()
    set_by: str = ""


def show(
    names: Sequence[str], properties: Sequence[str], deadline: Deadline, *, uid: int | None = None
) -> dict[str, dict[str, str]]:
    """Properties of the units that are loaded, by the name that was asked for; times are seconds since 1970 or empty.

    `uid` is the user whose manager is asked, None for the system's. Empty where systemd does not run or does not answer
    in time, and for another user's manager, root's questions included: who answers there is not ours to trust.
    """
    return _answer(*_ask(names, properties, deadline, uid))


def _ask(
    names: Sequence[str], properties: Sequence[str], deadline: Deadline, uid: int | None
) -> tuple[list[str], Running | None]:
    """Start to ask, and return the names asked for. `show` says what is not asked at all."""
    names = [name for name in names if name and not set(name) & set("*?[")]  # those would be patterns
    if not names or not os.path.isdir(BOOTED) or uid not in (None, os.geteuid()):
        return [], None
    from go_health_hook.run import process

    command = ["systemctl", "show", "--no-pager", "--timestamp=unix", f"--property={','.join((_STATE, *properties))}"]
    env = {}
    if uid is not None:
        command.append("--user")
        env = {"XDG_RUNTIME_DIR": f"/run/user/{uid}"}
    return names, process.start([*command, "--", *names], deadline, env=env)


def _answer(names: list[str], running: Running | None) -> dict[str, dict[str, str]]:
    result = running.wait() if running else None
    if result is None or not result.ok:
        return {}
    blocks = zip(names, parse(result.out))
    return {name: block for name, block in blocks if block.get(_STATE) in ("loaded", "masked")}


def parse(text: str) -> list[dict[str, str]]:
    """The blocks of `systemctl show`, one for each unit, in the order of the question."""
    blocks = []
    for block in text.split("\n\n"):
        values: dict[str, str] = {}
        for key, _, value in (line.partition("=") for line in block.splitlines()):
            # A list of commands is a line each.
            values[key] = f"{values[key]}\n{value}" if key in values else _time(value)
        blocks.append(values)
    return blocks


def _time(value: str) -> str:
    return value[1:] if value.startswith("@") and value[1:].isdecimal() else value


def unit_of(path: str) -> tuple[str, int | None]:
    """The unit whose cgroup `path` is, "" where it is none, and the user whose manager runs it, or None.

    From the path alone: systemd names a unit's cgroup after it, with "_" in front of what a controller's file could be
    called (systemd's CGROUP_DELEGATION document), and runs users' units below user@UID.service.
    """
    parts = [part for part in path.split("/") if part]
    if not parts:
        return "", None
    name = parts[-1][1:] if parts[-1].startswith("_") else parts[-1]
    if not name.endswith(SUFFIXES):
        return "", None
    uid = None
    for part in parts[:-1]:
        if part.startswith("user@") and part.endswith(".service") and part[5:-8].isdecimal():
            uid = int(part[5:-8])
    return name, uid


def who_set(wanted: Iterable[tuple[str, tuple[str, ...]]], deadline: Deadline) -> dict[str, Unit]:
    """For cgroups and the settings that could have limited them (QUOTA, CPUS): their units, and who set the limit.

    Cgroups of no unit are left out. Where systemd cannot be asked in time, a unit has no files.
    """
    found: dict[str, Unit] = {}
    by_manager: dict[int | None, list[tuple[str, str, tuple[str, ...]]]] = {}
    for path, settings in wanted:
        name, uid = unit_of(path)
        if name:
            found[path] = Unit(name, uid)
            by_manager.setdefault(uid, []).append((path, name, settings))
    asked = [
        _ask([name for _, name, _ in units], ("FragmentPath", "DropInPaths"), deadline, uid)
        for uid, units in by_manager.items()
    ]
    for units, question in zip(by_manager.values(), asked):
        answers = _answer(*question)
        for path, name, settings in units:
            block = answers.get(name, {})
            files = [block.get("FragmentPath", ""), *block.get("DropInPaths", "").split()]
            files = [file for file in files if file.startswith("/")]
            found[path] = Unit(name, uid, files, setter(files, settings))
    return found


def load_state(unit: str, base: str = "") -> str:
    """Return `loaded`, `masked` or `not installed`, by the files below `base`; a link that leads nowhere is none."""
    for folder in UNIT_PATH:
        path = f"{base}{folder}/{unit}"
        if os.path.islink(path) and os.readlink(path) == "/dev/null":
            return "masked"
        try:
            return "loaded" if os.path.getsize(path) else "masked"
        except OSError:
            continue
    return "not installed"


def is_pulled_in(unit: str, base: str = "") -> bool:
    """Return whether a link below `base` has another unit want or require `unit`."""
    import glob

    links = (f"{base}{folder}/*.{kind}/{unit}" for folder in UNIT_PATH for kind in ("wants", "requires"))
    return any(os.path.lexists(path) for pattern in links for path in glob.glob(pattern))


def control_group(name: str, deadline: Deadline) -> str:
    """The cgroup of a running unit, the system's or else one's own manager's, or "" where systemd does not say."""
    for uid in (None, os.geteuid()):
        group = show([name], ("ControlGroup",), deadline, uid=uid).get(name, {}).get("ControlGroup", "")
        if group:
            return group
    return ""


def group_of(name: str) -> tuple[str, bool]:
    """The cgroup v2 path of a unit, a slice or a user, and whether programs run below it rather than in it.

    Source of the slices' paths: systemd.slice(5); of the users': logind's user-UID.slice.
    """
    if name.isdecimal():
        name = f"user-{name}.slice"
    elif "." not in name and "/" not in name:
        import pwd

        try:
            name = f"user-{pwd.getpwnam(name).pw_uid}.slice"
        except KeyError:
            name = f"{name}.service"
    if name.startswith("/"):
        return name, False
    if not name.endswith(".slice"):
        return f"/system.slice/{name}", False
    parts = name[: -len(".slice")].split("-")
    return "/" + "/".join("-".join(parts[: i + 1]) + ".slice" for i in range(len(parts))), True


def setter(files: Iterable[str], settings: tuple[str, ...]) -> str:
    """The last of a unit's files that gives one of the settings a value; an empty value takes back what came before."""
    found = ""
    for path in files:
        lines = bounded.head(path, _FILE_MAX).decode("utf-8", "replace").splitlines()
        for _, _, key, value in assignments(lines):
            if key in settings:
                found = path if value else ""
    return found
