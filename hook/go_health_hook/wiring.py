# SPDX-License-Identifier: GPL-2.0-or-later
"""Which gates this machine's updaters really call, and settings that look as if they did something and are not read."""

from __future__ import annotations

import glob
import os

from go_health_hook.linux import services
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline

WIRED = "wired"
NOT_WIRED = "not wired"
NOT_HERE = "not here"

GATE_PROGRAM = "/usr/libexec/go-health-hook/gate"
ACTIONS = "/etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions"
ACTIONS_CONF = "/etc/dnf/libdnf5-plugins/actions.conf"
# In the order in which libdnf5 lays them over each other; the last one wins (dnf5.conf(5)).
DNF5_CONF = ("/usr/share/dnf5/libdnf.conf.d/*.conf", "/etc/dnf/libdnf5.conf.d/*.conf", "/etc/dnf/dnf.conf")
DNF4_CONF = ("/etc/dnf/dnf.conf",)
DROPIN = "50-go-health-hook.conf"
AUTOMATIC = ("rpm-ostreed-automatic.service", "bootc-fetch-apply-updates.service")
FINALIZE = "ostree-finalize-staged.service"
PATH_UNIT = "go-health-hook-staged.path"
GUARD_UNIT = "go-health-hook-guard.service"
BOOT_UNIT = "go-health-hook-boot.service"
GREENBOOT_UNIT = "greenboot-healthcheck.service"
GREENBOOT_CHECK = "greenboot/check/required.d/50_go_health_hook.sh"
TIMERS = (
    "dnf5-automatic.timer",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "rpm-ostreed-automatic.timer",
    "bootc-fetch-apply-updates.timer",
)
UNITS = (*AUTOMATIC, FINALIZE, PATH_UNIT, GUARD_UNIT, BOOT_UNIT, GREENBOOT_UNIT)
OFF = ("0", "no", "false", "off")
# Where the image is built elsewhere, as bootc has it, the package belongs into its Containerfile.
INSTALL = "add {0} to the image: rpm-ostree install {0}"

# Settings that people put somewhere and no program reads: files, section or "" for any, key, what to know.
UNREAD = (
    ("/etc/dnf/automatic.conf", "", "upgrade_command", "no dnf reads it; the gates stop a bad update without it"),
    ("/etc/dnf/dnf5-plugins/automatic.conf", "", "upgrade_command", "no dnf reads it; the gates do without it"),
    ("/etc/rpm-ostreed.conf", "", "HookPost", "rpm-ostree has no hooks; the staged deployment is judged without it"),
    ("/etc/systemd/user.conf", "Manager", "CPUAccounting", "it is DefaultCPUAccounting=, and always on in systemd 258"),
    ("/etc/systemd/user.conf", "Manager", "CPUQuota", "set it on a slice: systemctl set-property user-UID.slice"),
    ("/etc/systemd/system.conf", "Manager", "CPUQuota", "set it on a unit or slice: systemctl set-property UNIT"),
)


class Gate:
    """One gate: WIRED, NOT_WIRED (an updater is here that does not call it) or NOT_HERE (there is no such updater)."""

    __slots__ = ("how", "name", "remedy", "state")

    def __init__(self, name: str, state: str, how: str, remedy: str = "") -> None:
        self.name = name
        self.state = state
        self.how = how
        self.remedy = remedy

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"gate": self.name, "state": self.state, "how": self.how, "remedy": self.remedy}


class Wiring:
    """A root's gates, timers and unread settings, as found at one moment."""

    def __init__(self, config: Config, deadline: Deadline, root: str = "/") -> None:
        self.base = root.rstrip("/")
        self.config = config
        asked = [*UNITS, *TIMERS, *(_service(timer) for timer in TIMERS)]
        self.units = services.show(asked, deadline) if not self.base else {}
        self.asked = bool(self.units) or (not self.base and os.path.isdir(services.BOOTED))
        self.ostree = self._exists("/run/ostree-booted") or bool(self.base and self._exists("/ostree/repo"))
        self.gates = [self._dnf5(), self._dnf4(), self._rpm_ostree(), self._staged(), self._boot()]
        self.unread = self._unread()
        self.timers = self._timers()

    def _exists(self, path: str) -> bool:
        return os.path.exists(self.base + path)

    def _first(self, *patterns: str) -> str:
        """The first path that a pattern leads to, as the root has it."""
        for pattern in patterns:
            for path in sorted(glob.glob(self.base + pattern)):
                return path[len(self.base) :]
        return ""

    def _dnf5(self) -> Gate:
        name = "dnf5"
        library = self._first("/usr/bin/dnf5", "/usr/lib64/libdnf5.so.*", "/usr/lib/*/libdnf5.so.*")
        if self.ostree or not library:
            return Gate(name, NOT_HERE, "updates come as images" if self.ostree else "no dnf5")
        if not self._has_line(ACTIONS, "pre_transaction"):
            return Gate(name, NOT_WIRED, f"{ACTIONS} is not in place", "dnf5 install go-health-hook-dnf5")
        plugin = self._first("/usr/lib64/libdnf5/plugins/actions.so", "/usr/lib/*/libdnf5/plugins/actions.so")
        if not plugin:
            remedy = "dnf5 install libdnf5-plugin-actions"
            return Gate(name, NOT_WIRED, "dnf5's actions plugin is not installed", remedy)
        found = self._setting((ACTIONS_CONF,), "main", "enabled")
        if found is None or found[0].lower() in (*OFF, "installroot-only"):
            where = f"{found[1]}: enabled = {found[0]}" if found else f"{ACTIONS_CONF} does not enable it"
            return Gate(name, NOT_WIRED, f"the actions plugin is off: {where}", f"set enabled = 1 in {ACTIONS_CONF}")
        return self._plugins_off(name, DNF5_CONF) or self._gate_program(name, ACTIONS)

    def _dnf4(self) -> Gate:
        name = "dnf4"
        library = self._first(
            "/usr/lib/python3*/site-packages/dnf/__init__.py", "/usr/lib/python3/dist-packages/dnf/__init__.py"
        )
        if self.ostree or not library:
            return Gate(name, NOT_HERE, "updates come as images" if self.ostree else "no dnf 4")
        plugin = f"{os.path.dirname(os.path.dirname(library))}/dnf-plugins/go_health_hook.py"
        if not self._exists(plugin):
            remedy = "dnf install python3-dnf-plugin-go-health-hook"
            return Gate(name, NOT_WIRED, f"{plugin} is not in place", remedy)
        own = "/etc/dnf/plugins/go_health_hook.conf"
        found = self._setting((own,), "main", "enabled")
        if found and found[0].lower() in OFF:
            return Gate(name, NOT_WIRED, f"{found[1]}: enabled = {found[0]}", f"set enabled = 1 in {own}")
        path = self._setting(DNF4_CONF, "main", "pluginpath")
        if path and os.path.dirname(plugin) not in path[0].replace(",", " ").split():
            remedy = f"add {os.path.dirname(plugin)} to pluginpath"
            return Gate(name, NOT_WIRED, f"{path[1]}: pluginpath = {path[0]}", remedy)
        return self._plugins_off(name, DNF4_CONF) or self._gate_program(name, plugin)

    def _plugins_off(self, name: str, files: tuple[str, ...]) -> Gate | None:
        found = self._setting(files, "main", "plugins")
        if found and found[0].lower() in OFF:
            file = found[1].rsplit(":", 1)[0]
            return Gate(name, NOT_WIRED, f"{found[1]}: plugins = {found[0]}", f"remove that line from {file}")
        return None

    def _gate_program(self, name: str, how: str) -> Gate:
        if not os.access(self.base + GATE_PROGRAM, os.X_OK):
            remedy = "dnf reinstall go-health-hook"
            return Gate(name, NOT_WIRED, f"{GATE_PROGRAM} is missing or not executable", remedy)
        if self.config.get("dnf", "transactions") == "off":
            remedy = "set it to updates in /etc/go-health-hook.conf"
            return Gate(name, NOT_WIRED, "switched off: [dnf] transactions = off", remedy)
        return Gate(name, WIRED, how)

    def _rpm_ostree(self) -> Gate:
        name = "rpm-ostree"
        if not self.ostree:
            return Gate(name, NOT_HERE, "no image system")
        here = [u for u in AUTOMATIC if u in self.units or self._first(f"/usr/lib/systemd/system/{u}")]
        if not here:
            return Gate(name, NOT_HERE, "no automatic updater's unit")
        for unit in here:
            if not self._dropped_in(unit):
                return Gate(name, NOT_WIRED, f"the drop-in of {unit} is not in force", self._drop_in_remedy(unit))
        return Gate(name, WIRED, f"drop-in of {', '.join(here)}")

    def _staged(self) -> Gate:
        name = "staged"
        if not self.ostree:
            return Gate(name, NOT_HERE, "no image system")
        if not self._dropped_in(FINALIZE):
            remedy = self._drop_in_remedy(FINALIZE)
            return Gate(name, NOT_WIRED, f"the drop-in of {FINALIZE} is not in force", remedy)
        for unit in (PATH_UNIT, GUARD_UNIT) if self.asked else ():
            state = self.units.get(unit, {}).get("LoadState", "not installed")
            if state != "loaded":
                return Gate(name, NOT_WIRED, f"{unit} is {state}", f"systemctl unmask {unit}")
        active = self.units.get(PATH_UNIT, {}).get("ActiveState")
        if self.asked and active != "active":
            return Gate(name, NOT_WIRED, f"{PATH_UNIT} is {active}", f"systemctl start {PATH_UNIT}")
        mode = self.config.get("ostree", "on-failure")
        return Gate(name, WIRED, f"{PATH_UNIT} and the guard at shutdown" + (", warns only" if mode == "warn" else ""))

    def _boot(self) -> Gate:
        name = "boot"
        if not self.ostree:
            return Gate(name, NOT_HERE, "no image system")
        if self._exists(f"/usr/lib/systemd/system/{GREENBOOT_UNIT}"):
            check = self._first(f"/usr/lib/{GREENBOOT_CHECK}", f"/etc/{GREENBOOT_CHECK}")
            if not check or not os.access(self.base + check, os.X_OK):
                remedy = INSTALL.format("go-health-hook-greenboot")
                return Gate(name, NOT_WIRED, f"/usr/lib/{GREENBOOT_CHECK} is missing or not executable", remedy)
            state = self.units.get(GREENBOOT_UNIT, {}).get("UnitFileState", "")
            if self.asked and state not in ("enabled", "enabled-runtime", "static"):
                remedy = f"systemctl enable {GREENBOOT_UNIT}"
                return Gate(name, NOT_WIRED, f"{GREENBOOT_UNIT} is {state or 'not loaded'}", remedy)
            return Gate(name, WIRED, f"greenboot, {check}")
        unit = self.units.get(BOOT_UNIT, {})
        if self.asked and (unit.get("LoadState") != "loaded" or not (unit.get("RequiredBy") or unit.get("WantedBy"))):
            remedy = f"systemctl unmask {BOOT_UNIT}; systemctl enable {BOOT_UNIT}"
            return Gate(name, NOT_WIRED, f"{BOOT_UNIT} is {unit.get('LoadState') or 'not installed'}", remedy)
        return Gate(name, WIRED, BOOT_UNIT)

    def _dropped_in(self, unit: str) -> bool:
        """Whether our drop-in is in force as systemd sees it; by the files where it cannot be asked."""
        if self.asked:
            return DROPIN in self.units.get(unit, {}).get("DropInPaths", "")
        return self._exists(f"/usr/lib/systemd/system/{unit}.d/{DROPIN}")

    def _drop_in_remedy(self, unit: str) -> str:
        if self._exists(f"/usr/lib/systemd/system/{unit}.d/{DROPIN}"):
            return f"systemctl daemon-reload, then look: systemctl cat {unit}"
        return INSTALL.format("go-health-hook-rpm-ostree")

    def _lines(self, path: str) -> list[str]:
        try:
            with open(self.base + path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20).splitlines()
        except OSError:
            return []

    def _has_line(self, path: str, start: str) -> bool:
        return any(line.startswith(start) for line in self._lines(path))

    def _setting(self, patterns: tuple[str, ...], section: str, key: str) -> tuple[str, str] | None:
        """The value of an INI key and its file:line; what is read last wins. None where it is nowhere."""
        found = None
        for pattern in patterns:
            for path in sorted(glob.glob(self.base + pattern)):
                inside = ""
                for number, line in enumerate(self._lines(path[len(self.base) :]), 1):
                    bare = line.strip()
                    if bare.startswith("["):
                        inside = bare[1:].partition("]")[0]
                        continue
                    name, equals, value = bare.partition("=")
                    if equals and name.strip() == key and section in ("", inside):
                        found = clean(value.strip()), f"{path[len(self.base) :]}:{number}"
        return found

    def _unread(self) -> list[dict[str, str]]:
        found = []
        for file, section, key, why in UNREAD:
            at = self._setting((file,), section, key)
            if at:
                found.append({"place": at[1], "key": key, "why": why})
        return found

    def _timers(self) -> list[dict[str, Any]]:
        timers: dict[str, dict[str, Any]] = {}
        for asked in TIMERS:
            unit = self.units.get(asked)
            if unit is None:
                continue
            name = clean(unit["Id"])  # another name of the same timer leads to the same one
            service = self.units.get(_service(name)) or self.units.get(_service(asked)) or {}
            ran = service.get("ExecMainExitTimestamp", "")
            timers[name] = {
                "timer": name,
                "active": unit.get("ActiveState") == "active",
                "enabled": unit.get("UnitFileState", ""),
                "last_trigger": int(unit["LastTriggerUSec"]) if unit.get("LastTriggerUSec", "").isdecimal() else None,
                "result": service.get("Result", "") if ran.isdecimal() else "",
                "exit_status": int(service["ExecMainStatus"]) if ran.isdecimal() else None,
            }
        return list(timers.values())


def _service(timer: str) -> str:
    return timer[: -len(".timer")] + ".service"
