# SPDX-License-Identifier: GPL-2.0-or-later
"""Which systemd unit a cgroup belongs to, and which file set its limit: systemd asked over D-Bus, where there is one.

Without a bus, or without dbus-next, the cgroup's own name is all there is to say.
"""

from __future__ import annotations

import os

from go_health_hook.linux.kernel_files import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.bus import Call

    _T = TypeVar("_T")

SYSTEM_BUS = "/run/dbus/system_bus_socket"
SUFFIXES = (".slice", ".scope", ".service", ".mount", ".socket", ".swap")
# The settings that limit the CPU: systemd.resource-control(5), systemd.exec(5).
QUOTA = ("CPUQuota",)
CPUS = ("AllowedCPUs", "StartupAllowedCPUs", "CPUAffinity")
_FILE_MAX = 1 << 18
_SYSTEMD = "org.freedesktop.systemd1"


class Unit(Record):
    """What systemd says of the unit of a cgroup.

    name      as in "user-1000.slice"
    uid       whose manager runs it, or None for the system's
    files     its fragment and drop-ins in the order they are read
    set_by    the one of them that set the limit asked for, or an empty string where none did, as when the limit was
              written straight to the cgroup
    """

    __slots__ = ("files", "name", "set_by", "uid")

    def __init__(self, name: str, uid: int | None, files: Iterable[str] = (), set_by: str = "") -> None:
        self.name = name
        self.uid = uid
        self.files = tuple(files)
        self.set_by = set_by


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
    for uid, units in by_manager.items():

        def script(call: Call, names: tuple[str, ...] = tuple(name for _, name, _ in units)) -> list[list[str]]:
            return [_files(call, name) for name in names]

        for (path, name, settings), files in zip(units, _ask(uid, deadline, script) or ()):
            found[path] = Unit(name, uid, files, setter(files, settings))
    return found


def control_group(name: str, deadline: Deadline) -> str:
    """The cgroup of a running unit, the system's or else one's own manager's, or "" where systemd does not say."""

    def script(call: Call) -> str:
        unit = _unit(call, name)
        kind = name.rpartition(".")[2].capitalize()
        return str(_property(call, unit, kind, "ControlGroup")) if unit else ""

    group = _ask(None, deadline, script)
    if not group and os.geteuid() != 0:
        group = _ask(os.geteuid(), deadline, script)
    return group or ""


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
        for line in _text(path).splitlines():
            key, equals, value = line.partition("=")
            if equals and key.strip() in settings:
                found = path if value.strip() else ""
    return found


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return ""
    try:
        return os.read(fd, _FILE_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _address(uid: int | None) -> str:
    """The bus on which a manager is reached, or "" where there is none for us.

    Another user's bus is not asked, root's questions included: who answers there is not ours to trust.
    """
    if uid is None:
        path = SYSTEM_BUS
    elif uid == os.geteuid():
        path = f"/run/user/{uid}/bus"
    else:
        return ""
    return f"unix:path={path}" if os.path.exists(path) else ""


def _ask(uid: int | None, deadline: Deadline, script: Callable[[Call], _T]) -> _T | None:
    """What a manager answers; None where it cannot be asked: that must not keep the cgroup's own answer back."""
    address = _address(uid)
    if not address or deadline.expired:
        return None
    from go_health_hook.linux import bus

    try:
        answer: _T = bus.Conversation(_SYSTEMD, script, deadline, address).result()
    except bus.BusError:
        return None
    return answer


def _unit(call: Call, name: str) -> str:
    """The object of a unit that is loaded, or an empty string."""
    from go_health_hook.linux.bus import BusError

    try:
        return str(call("/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager", "GetUnit", "s", name)[0])
    except BusError:
        return ""


def _property(call: Call, unit: str, interface: str, name: str) -> Any:
    return call(unit, "org.freedesktop.DBus.Properties", "Get", "ss", f"{_SYSTEMD}.{interface}", name)[0]


def _files(call: Call, name: str) -> list[str]:
    unit = _unit(call, name)
    if not unit:
        return []
    files = [_property(call, unit, "Unit", "FragmentPath"), *_property(call, unit, "Unit", "DropInPaths")]
    return [file for file in files if isinstance(file, str) and file.startswith("/")]
