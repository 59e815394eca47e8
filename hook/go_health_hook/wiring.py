# SPDX-License-Identifier: GPL-2.0-or-later
"""Which gates this machine's updaters really call, and settings that nothing reads.

Each gate says itself whether it is wired (`wired(view)` in its file); this module gives the view and collects.
"""

from __future__ import annotations

import contextlib
import glob
import os

from go_health_hook import files
from go_health_hook.linux import image, ostree, systemd
from go_health_hook.linux.systemd import UNIT_PATH
from go_health_hook.records import Record
from go_health_hook.run import process
from go_health_hook.text import assignments, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline

WIRED = "wired"
NOT_WIRED = "not wired"
NOT_HERE = "not here"

GATE_PROGRAM = "/usr/libexec/go-health-hook/gate"
VETO_PROGRAM = "/usr/libexec/go-health-hook/only-veto"
DROPIN = "50-go-health-hook.conf"
OFF = ("0", "no", "false", "off")
ON = ("1", "yes", "true", "on")

# What is asked of the units that gates name.
PROPERTIES = (
    "Id",
    "ActiveState",
    "UnitFileState",
    "ExecStartPre",
    "Wants",
    "RequiredBy",
    "WantedBy",
    "Result",
    "ExecMainStatus",
    "ExecMainExitTimestamp",
    "LastTriggerUSec",
)

# Settings that people put somewhere and no program reads: file, section or "" for any, key, what to know. A gate adds
# its updater's as UNREAD.
UNREAD = (
    ("/etc/systemd/user.conf", "Manager", "CPUAccounting", "it is DefaultCPUAccounting=, and always on in systemd 258"),
    ("/etc/systemd/user.conf", "Manager", "CPUQuota", "set it on a slice: systemctl set-property user-UID.slice"),
    ("/etc/systemd/system.conf", "Manager", "CPUQuota", "set it on a unit or slice: systemctl set-property UNIT"),
)


class Wired(Record):
    """Whether a gate is called: WIRED, NOT_WIRED (an updater is here that does not call it) or NOT_HERE.

    `how` says by what it is called, or why it is not. `remedy` is a command or a sentence.
    """

    state: str
    how: str
    remedy: str = ""
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"gate": self.name, "state": self.state, "how": self.how, "remedy": self.remedy}


class View:
    """A root and its systemd, as gates look at them to tell whether they are wired. Paths are the root's.

    `units` are the properties of the units asked for, by name; empty where systemd was not asked (another root) or did
    not answer (`asked` is False). `image` says whether updates come as images, `system` is the image system that
    was booted.
    """

    def __init__(self, config: Config, deadline: Deadline, root: str = "/", units: Iterable[str] = ()) -> None:
        self.base = root.rstrip("/")
        self.config = config
        self.deadline = deadline
        self.units = systemd.show(list(units), PROPERTIES, deadline) if not self.base else {}
        self.asked = bool(self.units)
        # A deployment that is not booted has /ostree as a link that leads nowhere.
        self.system = None if self.base else image.here()
        self.image = self.system is not None
        if self.base:
            self.image = self.exists(ostree.BOOTED) or os.path.lexists(f"{self.base}/ostree")

    # --- files

    def exists(self, path: str) -> bool:
        """Return whether `path` leads to something."""
        return os.path.exists(self.base + path)

    def executable(self, path: str) -> bool:
        """Return whether `path` leads to a program."""
        return os.access(self.base + path, os.X_OK)

    def first(self, *patterns: str) -> str:
        """Return the first path that a pattern of glob's leads to, or an empty string."""
        for pattern in patterns:
            for path in sorted(glob.glob(self.base + pattern)):
                return path[len(self.base) :]
        return ""

    def drop_ins(self, suffix: str, *folders: str) -> list[str]:
        """Return the files of several directories in the order of their names; an earlier directory hides a later's."""
        found: dict[str, str] = {}
        for folder in folders:
            with contextlib.suppress(OSError):
                for name in os.listdir(self.base + folder):
                    if name.endswith(suffix):
                        found.setdefault(name, f"{folder}/{name}")
        return [found[name] for name in sorted(found)]

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file; none where it cannot be read."""
        return files.head(self.base + path).decode("utf-8", "replace").splitlines()

    def setting(self, paths: Sequence[str], section: str, key: str) -> tuple[str, str] | None:
        """Return the value of an INI key and its file:line; the last file wins. An empty `section` is any section."""
        found = None
        for path in paths:
            for number, inside, name, value in assignments(self.lines(path)):
                if name == key and section in ("", inside):
                    found = clean(value, 1000), f"{clean(path)}:{number}"
        return found

    # --- systemd

    def load_state(self, unit: str) -> str:
        """Return `loaded`, `masked` or `not installed`: systemd's answer, or what the files say."""
        if self.asked:
            return self.units.get(unit, {}).get("LoadState", "not installed")
        return systemd.load_state(unit, self.base)

    def unloaded(self, unit: str, otherwise: str) -> Wired | None:
        """Return NOT_WIRED where a unit is masked, or missing, which `otherwise` ends; None where it is loaded."""
        state = self.load_state(unit)
        if state == "loaded":
            return None
        return Wired(NOT_WIRED, f"{unit} is {state}", f"systemctl unmask {unit}" if state == "masked" else otherwise)

    def inactive(self, unit: str) -> Wired | None:
        """Return NOT_WIRED where systemd says that a unit is not active."""
        state = self.units.get(unit, {}).get("ActiveState")
        if not self.asked or state == "active":
            return None
        return Wired(NOT_WIRED, f"{unit} is {state}", f"systemctl start {unit}")

    def pulled_in(self, unit: str) -> bool:
        """Return whether another unit wants or requires `unit`, so that it is started."""
        if self.asked:
            known = self.units.get(unit, {})
            return bool(known.get("RequiredBy") or known.get("WantedBy"))
        return systemd.is_pulled_in(unit, self.base)

    def values(self, unit: str, section: str, key: str) -> list[str]:
        """Return the values of a unit's key that adds up, as ExecStartPre=: systemd's answer, or what the files say."""
        if self.asked:
            return self.units.get(unit, {}).get(key, "").splitlines()
        values: list[str] = []
        files = [self.first(*(f"{folder}/{unit}" for folder in UNIT_PATH))]
        for file in [*files, *self.drop_ins(".conf", *(f"{folder}/{unit}.d" for folder in UNIT_PATH))]:
            for _, inside, name, value in assignments(self.lines(file) if file else ()):
                if (inside, name) == (section, key):
                    values = [*values, value] if value else []
        return values

    # --- remedies

    def get(self, package: str, tool: str) -> str:
        """Return the command that puts a package's files in place: reinstall if it is installed, else install."""
        here = not self.base and process.run_host("rpm", ["-q", package], self.deadline).ok
        return f"{tool} {'reinstall' if here else 'install'} {package}"

    def drop_in_remedy(self, unit: str, package: str) -> str:
        """Return what brings our drop-in of a unit back: it is hidden, not loaded, or not installed."""
        for folder in UNIT_PATH[:-1]:
            over = f"{folder}/{unit}.d/{DROPIN}"
            if os.path.lexists(self.base + over):
                return f"rm {over}; systemctl daemon-reload"
        if self.exists(f"{UNIT_PATH[-1]}/{unit}.d/{DROPIN}"):
            return f"systemctl daemon-reload; if that was not it, see what takes it back: systemctl cat {unit}"
        return add_to_image(package)


def add_to_image(package: str) -> str:
    """Return how a package gets into an image system."""
    # Where the image is built elsewhere, as bootc has it, the package belongs into its Containerfile.
    return f"add {package} to the image: rpm-ostree install {package}"


class Wiring:
    """What all gates say of a root, its timers and unread settings. `gates` are modules by name (gates.every())."""

    def __init__(self, gates: Mapping[str, ModuleType], config: Config, deadline: Deadline, root: str = "/") -> None:
        self._modules = gates
        own = [unit for module in gates.values() for unit in getattr(module, "UNITS", ())]
        timers = [timer for module in gates.values() for timer in getattr(module, "TIMERS", ())]
        self.view = View(config, deadline, root, [*own, *timers, *(_service(timer) for timer in timers)])
        self.gates: list[Wired] = []
        for name, module in gates.items():
            wired: Wired = module.wired(self.view)
            wired.name = name
            self.gates.append(wired)
        found = [module.details(self.view) for module in gates.values() if hasattr(module, "details")]
        self.details: dict[str, Any] | None = next((entry for entry in found if entry is not None), None)
        self.unread = self._unread()
        self.timers = self._timers(timers)

    def lets_go(self, name: str) -> bool:
        """Return whether a gate's last block is void, since no updater here asks that gate.

        A gate that has `holds(view)` says so itself, as where a lock of its own outlives it.
        """
        wired = next((gate for gate in self.gates if gate.name == name), None)
        if wired is None or wired.state == WIRED:
            return wired is None
        holds = getattr(self._modules[name], "holds", None)
        return not (holds and holds(self.view))

    def _unread(self) -> list[dict[str, str]]:
        found = []
        own = [entry for module in self._modules.values() for entry in getattr(module, "UNREAD", ())]
        for file, section, key, why in (*own, *UNREAD):
            at = self.view.setting([file], section, key)
            if at:
                found.append({"place": at[1], "key": key, "why": why})
        return found

    def _timers(self, asked: Sequence[str]) -> list[dict[str, Any]]:
        timers: dict[str, dict[str, Any]] = {}
        units = self.view.units
        for wanted in asked:
            unit = units.get(wanted)
            if unit is None:
                continue
            name = clean(unit["Id"])  # another name of the same timer leads to the same one
            service = units.get(_service(name)) or units.get(_service(wanted)) or {}
            ran = service.get("ExecMainExitTimestamp", "")
            timers[name] = {
                "timer": name,
                "active": unit.get("ActiveState") == "active",
                "running": service.get("ActiveState") in ("active", "activating", "deactivating"),
                "enabled": unit.get("UnitFileState", ""),
                "last_trigger": int(unit["LastTriggerUSec"]) if unit.get("LastTriggerUSec", "").isdecimal() else None,
                "result": service.get("Result", "") if ran.isdecimal() else "",
                "exit_status": int(service["ExecMainStatus"]) if ran.isdecimal() else None,
            }
        return list(timers.values())


def _service(timer: str) -> str:
    return timer[: -len(".timer")] + ".service"
