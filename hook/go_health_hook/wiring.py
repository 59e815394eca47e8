# SPDX-License-Identifier: GPL-2.0-or-later
"""Which gates this machine's updaters really call, and settings that look as if they did something and are not read."""

from __future__ import annotations

import contextlib
import glob
import os

from go_health_hook.linux import ostree, services
from go_health_hook.run import process
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline

WIRED = "wired"
NOT_WIRED = "not wired"
NOT_HERE = "not here"

GATE_PROGRAM = "/usr/libexec/go-health-hook/gate"
VETO_PROGRAM = "/usr/libexec/go-health-hook/only-veto"
ACTIONS = "actions.d/go-health-hook.actions"
# Where libdnf5 looks for its plugins' settings, and below for the actions; what stands in one directory hides what has
# its name in a later one. plugin_conf_dir moves them, as pluginconfpath does where libdnf5 knows no other (dnf5 5.4).
PLUGIN_CONF = ("/etc/dnf/libdnf5-plugins", "/usr/share/dnf5/libdnf.plugins.conf.d")
# Likewise; in one order by name, and dnf.conf is laid over them (dnf5.conf(5)).
DNF5_DROPINS = ("/etc/dnf/libdnf5.conf.d", "/usr/share/dnf5/libdnf.conf.d")
DNF_CONF = "/etc/dnf/dnf.conf"
UNIT_PATH = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
DROPIN = "50-go-health-hook.conf"
AUTOMATIC = ("rpm-ostreed-automatic.service", "bootc-fetch-apply-updates.service")
FINALIZE = "ostree-finalize-staged.service"
PATH_UNIT = "go-health-hook-staged.path"
GUARD_UNIT = "go-health-hook-guard.service"
BOOT_UNIT = "go-health-hook-boot.service"
GREENBOOT_UNIT = "greenboot-healthcheck.service"
GREENBOOT_SCRIPT = "50_go_health_hook.sh"
GREENBOOT_CHECK = f"greenboot/check/required.d/{GREENBOOT_SCRIPT}"
GREENBOOT_CONF = "/etc/greenboot/greenboot.conf"
TIMERS = (
    "dnf5-automatic.timer",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "rpm-ostreed-automatic.timer",
    "bootc-fetch-apply-updates.timer",
)
UNITS = (*AUTOMATIC, FINALIZE, PATH_UNIT, GUARD_UNIT, BOOT_UNIT, GREENBOOT_UNIT)
OFF = ("0", "no", "false", "off")
ON = ("1", "yes", "true", "on")
# An actions plugin's own, as its package has it.
ENABLE = "printf '[main]\\nname = actions\\nenabled = 1\\n' >/etc/dnf/libdnf5-plugins/actions.conf"
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
        self.deadline = deadline
        asked = [*UNITS, *TIMERS, *(_service(timer) for timer in TIMERS)]
        self.units = services.show(asked, deadline) if not self.base else {}
        self.asked = bool(self.units)
        # A deployment that is not booted has /ostree as a link that leads nowhere.
        self.ostree = self._exists(ostree.BOOTED) or bool(self.base and os.path.lexists(f"{self.base}/ostree"))
        self.gates = [self._dnf5(), self._dnf4(), self._rpm_ostree(), self._staged(), self._boot()]
        self.unread = self._unread()
        self.timers = self._timers()

    def lets_go(self, name: str) -> bool:
        """Whether a gate holds nothing back any more, whatever it said last, since no updater here asks it.

        The lock on a staged deployment stands as long as that does.
        """
        gate = next((gate for gate in self.gates if gate.name == name), None)
        if gate is None or gate.state == WIRED:
            return gate is None
        return name != "staged" or not self._exists("/run/ostree/staged-deployment")

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
        settings = [*self._drop_ins(".conf", *DNF5_DROPINS), DNF_CONF]
        moved = self._setting(settings, "main", "plugin_conf_dir") or self._setting(settings, "main", "pluginconfpath")
        places = moved[0].replace(",", " ").split() if moved else list(PLUGIN_CONF)
        actions = self._first(*(f"{place}/{ACTIONS}" for place in places))
        if not actions:
            if moved and self._exists(f"{PLUGIN_CONF[0]}/{ACTIONS}"):
                remedy = f"add {PLUGIN_CONF[0]} to it"
                return Gate(name, NOT_WIRED, f"dnf5 looks elsewhere: {moved[1]}: {moved[0]}", remedy)
            return Gate(name, NOT_WIRED, f"{ACTIONS} is not in place", self._get("go-health-hook-dnf5", "dnf5"))
        if not any(line.startswith("pre_transaction") for line in self._lines(actions)):
            # What was changed by hand is kept by whatever dnf does.
            remedy = f"rm {actions}; {self._get('go-health-hook-dnf5', 'dnf5')}"
            return Gate(name, NOT_WIRED, f"{actions} has no pre_transaction line", remedy)
        path = self._setting(settings, "main", "pluginpath")
        folders = [path[0]] if path else ["/usr/lib64/libdnf5/plugins", "/usr/lib/*/libdnf5/plugins"]
        if not self._first(*(f"{folder}/actions.so" for folder in folders)):
            if path:
                return Gate(name, NOT_WIRED, f"{path[1]}: pluginpath = {path[0]} has no actions.so", "remove that line")
            remedy = self._get("libdnf5-plugin-actions", "dnf5")
            return Gate(name, NOT_WIRED, "dnf5's actions plugin is not installed", remedy)
        return self._actions_off(places) or self._plugins_off(name, settings) or self._gate_program(name, actions)

    def _actions_off(self, places: list[str]) -> Gate | None:
        """Whether no file switches the actions plugin on; one that does is enough."""
        found = None
        for file in self._drop_ins(".conf", *places):
            named = self._setting([file], "main", "name")
            if (named[0] if named else os.path.basename(file)[: -len(".conf")]) != "actions":
                continue
            enabled = self._setting([file], "main", "enabled")
            if enabled and (enabled[0].lower() in ON or enabled[0] == "host-only"):
                return None
            found = enabled or ("", f"{file}:1")
        if not found:
            return Gate("dnf5", NOT_WIRED, "no file enables dnf5's actions plugin", ENABLE)
        file = found[1].rsplit(":", 1)[0]
        how = f"the actions plugin is off: {found[1]}: enabled = {found[0]}"
        return Gate("dnf5", NOT_WIRED, how, f"set enabled = 1 in {file}")

    def _dnf4(self) -> Gate:
        name = "dnf4"
        library = self._first(
            "/usr/lib/python3*/site-packages/dnf/__init__.py", "/usr/lib/python3/dist-packages/dnf/__init__.py"
        )
        if self.ostree or not library:
            return Gate(name, NOT_HERE, "updates come as images" if self.ostree else "no dnf 4")
        plugin = f"{os.path.dirname(os.path.dirname(library))}/dnf-plugins/go_health_hook.py"
        if not self._exists(plugin):
            remedy = self._get("python3-dnf-plugin-go-health-hook", "dnf")
            return Gate(name, NOT_WIRED, f"{plugin} is not in place", remedy)
        settings = [DNF_CONF]
        places = self._setting(settings, "main", "pluginconfpath")
        folders = places[0].replace(",", " ").split() if places else ["/etc/dnf/plugins"]
        found = self._setting([f"{folder}/go_health_hook.conf" for folder in folders], "main", "enabled")
        if found and found[0].lower() in OFF:
            file = found[1].rsplit(":", 1)[0]
            return Gate(name, NOT_WIRED, f"{found[1]}: enabled = {found[0]}", f"set enabled = 1 in {file}")
        path = self._setting(settings, "main", "pluginpath")
        if path and os.path.dirname(plugin) not in path[0].replace(",", " ").split():
            remedy = f"add {os.path.dirname(plugin)} to pluginpath"
            return Gate(name, NOT_WIRED, f"{path[1]}: pluginpath = {path[0]}", remedy)
        return self._plugins_off(name, settings) or self._gate_program(name, plugin)

    def _plugins_off(self, name: str, files: list[str]) -> Gate | None:
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
            if not any(VETO_PROGRAM in command for command in self._values(unit, "Service", "ExecStartPre")):
                how = f"{unit} does not call the gate before it begins"
                return Gate(name, NOT_WIRED, how, self._drop_in_remedy(unit))
        return Gate(name, WIRED, f"drop-in of {', '.join(here)}")

    def _staged(self) -> Gate:
        name = "staged"
        if not self.ostree:
            return Gate(name, NOT_HERE, "no image system")
        if GUARD_UNIT not in " ".join(self._values(FINALIZE, "Unit", "Wants")).split():
            return Gate(name, NOT_WIRED, f"{FINALIZE} does not want {GUARD_UNIT}", self._drop_in_remedy(FINALIZE))
        for unit in (PATH_UNIT, GUARD_UNIT):
            state = self._load_state(unit)
            if state != "loaded":
                return Gate(name, NOT_WIRED, f"{unit} is {state}", self._unit_remedy(unit, state))
        active = self.units.get(PATH_UNIT, {}).get("ActiveState")
        if self.asked and active != "active":
            return Gate(name, NOT_WIRED, f"{PATH_UNIT} is {active}", f"systemctl start {PATH_UNIT}")
        if not self.asked and not self._pulled_in(PATH_UNIT):
            return Gate(name, NOT_WIRED, f"{PATH_UNIT} is not enabled", f"systemctl enable {PATH_UNIT}")
        mode = self.config.get("ostree", "on-failure")
        return Gate(name, WIRED, f"{PATH_UNIT} and the guard at shutdown" + (", warns only" if mode == "warn" else ""))

    def _boot(self) -> Gate:
        name = "boot"
        if not self.ostree:
            return Gate(name, NOT_HERE, "no image system")
        if self._exists(f"/usr/lib/systemd/system/{GREENBOOT_UNIT}"):
            return self._greenboot(name)
        state = self._load_state(BOOT_UNIT)
        if state != "loaded":
            return Gate(name, NOT_WIRED, f"{BOOT_UNIT} is {state}", self._unit_remedy(BOOT_UNIT, state))
        if not self._pulled_in(BOOT_UNIT):
            return Gate(name, NOT_WIRED, f"{BOOT_UNIT} is not enabled", f"systemctl enable {BOOT_UNIT}")
        return Gate(name, WIRED, BOOT_UNIT)

    def _greenboot(self, name: str) -> Gate:
        check = self._first(f"/usr/lib/{GREENBOOT_CHECK}", f"/etc/{GREENBOOT_CHECK}")
        if not check or not os.access(self.base + check, os.X_OK):
            remedy = INSTALL.format("go-health-hook-greenboot")
            return Gate(name, NOT_WIRED, f"/usr/lib/{GREENBOOT_CHECK} is missing or not executable", remedy)
        # ("A.sh" "B.sh"), as bash has a list.
        skipped = self._setting([GREENBOOT_CONF], "", "DISABLED_HEALTHCHECKS")
        if skipped and GREENBOOT_SCRIPT in [word.strip('"') for word in skipped[0].strip("()").split()]:
            how = f"{skipped[1]}: DISABLED_HEALTHCHECKS names {GREENBOOT_SCRIPT}"
            return Gate(name, NOT_WIRED, how, "take it out there")
        state = self._load_state(GREENBOOT_UNIT)
        if state != "loaded" or not self._pulled_in(GREENBOOT_UNIT):
            remedy = f"systemctl {'unmask' if state == 'masked' else 'enable'} {GREENBOOT_UNIT}"
            return Gate(name, NOT_WIRED, f"{GREENBOOT_UNIT} is {'not enabled' if state == 'loaded' else state}", remedy)
        return Gate(name, WIRED, f"greenboot, {check}")

    def _load_state(self, unit: str) -> str:
        """`loaded`, `masked` or `not installed`, as systemd has it; by the files where it cannot be asked."""
        if self.asked:
            return self.units.get(unit, {}).get("LoadState", "not installed")
        for folder in UNIT_PATH:
            path = f"{self.base}{folder}/{unit}"
            if os.path.lexists(path):
                empty = os.path.islink(path) and os.readlink(path) == "/dev/null"
                return "masked" if empty or not os.path.getsize(path) else "loaded"
        return "not installed"

    def _pulled_in(self, unit: str) -> bool:
        """Whether another unit wants or requires it, so that it is started."""
        if self.asked:
            known = self.units.get(unit, {})
            return bool(known.get("RequiredBy") or known.get("WantedBy"))
        links = (f"{self.base}{folder}/*.{kind}/{unit}" for folder in UNIT_PATH for kind in ("wants", "requires"))
        return any(os.path.lexists(path) for pattern in links for path in glob.glob(pattern))

    def _values(self, unit: str, section: str, key: str) -> list[str]:
        """The values of a key that adds up, as systemd has them; by the unit's files where it cannot be asked."""
        if self.asked:
            return self.units.get(unit, {}).get(key, "").splitlines()
        values: list[str] = []
        files = [self._first(*(f"{folder}/{unit}" for folder in UNIT_PATH))]
        for file in [*files, *self._drop_ins(".conf", *(f"{folder}/{unit}.d" for folder in UNIT_PATH))]:
            for _, inside, name, value in self._assignments(file):
                if (inside, name) == (section, key):
                    values = [*values, value] if value else []
        return values

    def _drop_in_remedy(self, unit: str) -> str:
        for folder in UNIT_PATH[:-1]:
            over = f"{folder}/{unit}.d/{DROPIN}"
            if os.path.lexists(self.base + over):
                return f"rm {over}; systemctl daemon-reload"
        if self._exists(f"{UNIT_PATH[-1]}/{unit}.d/{DROPIN}"):
            return f"systemctl daemon-reload; if that was not it, see what takes it back: systemctl cat {unit}"
        return INSTALL.format("go-health-hook-rpm-ostree")

    def _unit_remedy(self, unit: str, state: str) -> str:
        return f"systemctl unmask {unit}" if state == "masked" else INSTALL.format("go-health-hook-rpm-ostree")

    def _get(self, package: str, tool: str) -> str:
        """The command that puts a package's files in place: one that is installed is not installed once more."""
        here = not self.base and process.run_host("rpm", ["-q", package], self.deadline).ok
        return f"{tool} {'reinstall' if here else 'install'} {package}"

    def _drop_ins(self, suffix: str, *folders: str) -> list[str]:
        """The files of several directories in the order of their names; a name in an earlier one hides a later's."""
        found: dict[str, str] = {}
        for folder in folders:
            with contextlib.suppress(OSError):
                for name in os.listdir(self.base + folder):
                    if name.endswith(suffix):
                        found.setdefault(name, f"{folder}/{name}")
        return [found[name] for name in sorted(found)]

    def _lines(self, path: str) -> list[str]:
        try:
            # Below a root that others write, it may be anything: a pipe is not waited for.
            with open(os.open(self.base + path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                return file.read(1 << 20).decode("utf-8", "replace").splitlines()
        except OSError:
            return []

    def _assignments(self, path: str) -> Iterator[tuple[int, str, str, str]]:
        """Line number, section, key and value of every line of an INI file that sets something."""
        inside = ""
        for number, line in enumerate(self._lines(path) if path else (), 1):
            bare = line.strip()
            if bare.startswith("["):
                inside = bare[1:].partition("]")[0]
                continue
            name, equals, value = bare.partition("=")
            if equals and name[:1] not in ("#", ";"):
                yield number, inside, name.strip(), value.strip()

    def _setting(self, paths: Sequence[str], section: str, key: str) -> tuple[str, str] | None:
        """The value of an INI key, in any section if none is named, and its file:line; what is read last wins."""
        found = None
        for path in paths:
            for number, inside, name, value in self._assignments(path):
                if name == key and section in ("", inside):
                    found = clean(value, 1000), f"{clean(path)}:{number}"
        return found

    def _unread(self) -> list[dict[str, str]]:
        found = []
        for file, section, key, why in UNREAD:
            at = self._setting([file], section, key)
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
                "running": service.get("ActiveState") in ("active", "activating", "deactivating"),
                "enabled": unit.get("UnitFileState", ""),
                "last_trigger": int(unit["LastTriggerUSec"]) if unit.get("LastTriggerUSec", "").isdecimal() else None,
                "result": service.get("Result", "") if ran.isdecimal() else "",
                "exit_status": int(service["ExecMainStatus"]) if ran.isdecimal() else None,
            }
        return list(timers.values())


def _service(timer: str) -> str:
    return timer[: -len(".timer")] + ".service"
