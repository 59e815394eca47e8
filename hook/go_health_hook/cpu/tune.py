# SPDX-License-Identifier: GPL-2.0-or-later
"""List, apply and revert the optional systemd settings that help Go builds. Nothing is applied by installing.

Without --user a setting is the machine's, and only root can apply it; with it, it is for one's own user manager.
"""

from __future__ import annotations

import os
import tempfile

from go_health_hook import files
from go_health_hook.cpu import _limits
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, BadInput, HookError
from go_health_hook.report.style import Style, print_json
from go_health_hook.run import process
from go_health_hook.run.result import Result
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config

PLAIN = True
BUDGET = 30.0
FILE = "50-go-health-hook-{}.conf"
SYSTEMCTL, ANALYZE = "/usr/bin/systemctl", "/usr/bin/systemd-analyze"
HEADER = "# Applied by go-health-hook tune; go-health-hook tune --revert {} takes it back.\n"
# In every drop-in of ours below a directory that was not there before: only such a directory is removed again.
MADE = "# The directory was made for it.\n"


class Setting:
    """One file of the tune directory: the body of a drop-in, and what it is for (its [Tune] section).

    kind     "user-manager" (user.conf.d), "manager" (of the scope: system.conf.d or user.conf.d), "slice" (a drop-in)
    before   the first systemd that no longer needs it, or 0
    """

    def __init__(self, name: str, path: str) -> None:
        import configparser

        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        tune = parser["Tune"]
        self.name = name
        self.summary, self.why, self.kind = tune["Summary"], tune["Why"], tune["Kind"]
        self.unit = tune.get("Unit", "")
        self.before = int(tune.get("Before", "0"))
        self.section = next(section for section in parser.sections() if section != "Tune")
        self.values = dict(parser[self.section])

    def body(self) -> str:
        """What is written to the drop-in."""
        values = "".join(f"{key}={value}\n" for key, value in self.values.items())
        return f"{HEADER.format(self.name)}[{self.section}]\n{values}"


class Scope:
    """Whose systemd: the machine's, or with `user` the caller's own manager. `root` is where its files are."""

    def __init__(self, user: bool, root: str, deadline: Deadline) -> None:
        self.user = user
        self.root = root.rstrip("/")
        self.deadline = deadline
        self.version = self._version()

    def files(self, setting: Setting) -> list[str]:
        """Where the setting's drop-ins go."""
        name = FILE.format(setting.name)
        if self.user:
            home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
            places = {"slice": f"user/{setting.unit}.d"}
            return [f"{self.root}{home}/systemd/{places.get(setting.kind, 'user.conf.d')}/{name}"]
        places_of = {
            "user-manager": ["user.conf.d"],
            "manager": ["system.conf.d", "user.conf.d"],
            "slice": [f"system/{setting.unit}.d", f"user/{setting.unit}.d"],
        }
        return [f"{self.root}/etc/systemd/{place}/{name}" for place in places_of[setting.kind]]

    def applied(self, setting: Setting) -> bool:
        """Whether all of its drop-ins are there."""
        return all(os.path.isfile(path) for path in self.files(setting))

    def needless(self, setting: Setting) -> str:
        """Why applying it here would do nothing, or an empty string."""
        if setting.before and self.version >= setting.before:
            return f"systemd {self.version} does it always: the setting has no effect since {setting.before}"
        return ""

    def in_force(self, setting: Setting) -> dict[str, str]:
        """What the manager itself says now, by key; keys of which it says nothing are missing."""
        if self.root:
            return {}
        asks_user = self.user or setting.kind == "user-manager"
        unit = [setting.unit] if setting.kind == "slice" else []
        keys = [f"--property={key}" for key in setting.values]
        done = self._systemctl(["show", *keys, "--", *unit] if unit else ["show", *keys], asks_user)
        found = dict(line.partition("=")[::2] for line in done.out.splitlines() if "=" in line) if done.ok else {}
        values = {key: found[key] for key in setting.values if found.get(key)}
        if asks_user and "DefaultLimitNOFILE" in setting.values and done.ok:
            soft = self._systemctl(["show", "--property=DefaultLimitNOFILESoft"], True).out.partition("=")[2]
            if soft and "DefaultLimitNOFILE" in values:
                values["DefaultLimitNOFILE"] = f"{soft}:{values['DefaultLimitNOFILE']}"
        return values

    def reload(self) -> str:
        """Have the manager read its files again; what is left to do, or an empty string."""
        if self.root:
            return "it is another root: its systemd reads it when it starts"
        done = self._systemctl(["daemon-reload"], self.user)
        return "" if done.ok else f"systemd could not be told, it reads it when it next starts: {done.why()}"

    def reads(self, setting: Setting) -> str:
        """Why this systemd does not read what was written, or an empty string; asks systemd-analyze."""
        if not os.path.exists(ANALYZE):
            return ""
        if setting.kind == "slice":
            return self._verify(setting)
        if self.user:
            return ""  # systemd-analyze knows the machine's directories only
        for path in self.files(setting):
            config = f"systemd/{os.path.basename(os.path.dirname(path))[:-2]}"
            root = [f"--root={self.root}"] if self.root else []
            done = process.run([ANALYZE, "cat-config", *root, config], self.deadline)
            if not done.ok:
                return f"systemd-analyze {done.why()}"
            if path[len(self.root) :] not in done.out:
                return f"systemd does not read {path}"
        return ""

    def _verify(self, setting: Setting) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/{setting.unit}"
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"[Unit]\nDescription=Builds\n{setting.body()}")
            manager = "--user" if self.user else "--system"
            done = process.run([ANALYZE, manager, "verify", path], self.deadline, env=_limits.bus())
            said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if setting.unit in line]
        return clean(said[0]) if said else ""

    def _version(self) -> int:
        done = process.run([SYSTEMCTL, "--version"], self.deadline)
        words = done.out.split()
        number = words[1].partition(".")[0].partition("~")[0] if done.ok and len(words) > 1 else ""
        return int(number) if number.isdecimal() else 0

    def _systemctl(self, words: list[str], user: bool) -> Result:
        manager = ["--user"] if user else ["--system"]
        return process.run([SYSTEMCTL, *manager, *words], self.deadline.within(10.0), env=_limits.bus())


def settings_directory() -> str:
    """Return the folder of the settings: next to the module directory when installed, else in the source tree."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for path in (f"{here}/tune", f"{os.path.dirname(here)}/conf/usr/lib/go-health-hook/tune"):
        if os.path.isdir(path):
            return path
    raise HookError("the settings are not installed", hint="dnf install go-health-hook-tuning")


def every() -> list[Setting]:
    """All settings, by name. Raises HookError where they are not installed."""
    folder = settings_directory()
    names = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
    return [Setting(name[: -len(".conf")], f"{folder}/{name}") for name in names]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One of --list, --apply, --revert; the first where nothing is said."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--list", action="store_true", help="show the settings and whether they are in force (the default)"
    )
    what.add_argument("--apply", metavar="NAME", help="put a setting in force")
    what.add_argument("--revert", metavar="NAME", help="take a setting back")
    parser.add_argument("--user", action="store_true", help="for one's own user manager alone")


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """List, apply or revert; raises BadInput for a setting that does not exist or does nothing here."""
    root = os.path.realpath(args.root)
    scope = Scope(args.user, "" if root == "/" else root, Deadline(args.budget or BUDGET))
    known = {setting.name: setting for setting in every()}
    name = args.apply or args.revert
    if name and root != "/":
        raise BadInput("tune writes, and below another root nothing is written", hint="leave --root out")
    if not name:
        return _list(list(known.values()), scope, args.json)
    if name not in known:
        raise BadInput(f"there is no setting {clean(name)!r}", hint=f"it is one of: {', '.join(known)}")
    setting = known[name]
    before = scope.in_force(setting)
    there = [path for path in scope.files(setting) if os.path.lexists(path)]
    notes = _apply(setting, scope) if args.apply else _revert(setting, scope)
    changed = scope.files(setting) if args.apply else there
    facts = {**_row(setting, scope), "before": before, "changed": changed, "notes": notes}
    if args.json:
        print_json(facts)
    else:
        print(_change(facts, bool(args.apply), Style()))
    return EXIT_ALLOW


def _apply(setting: Setting, scope: Scope) -> list[str]:
    why = scope.needless(setting)
    if why:
        raise BadInput(f"{setting.name}: {why}", hint="nothing was changed")
    was_there = scope.applied(setting)
    for path in scope.files(setting):
        _write(path, setting.body())
    problem = scope.reads(setting)
    if problem and not was_there:
        _remove(setting, scope)
    if problem:
        raise HookError(f"{setting.name}: {problem}", hint="go-health-hook tune --list shows what is applied")
    return _after(setting, scope)


def _revert(setting: Setting, scope: Scope) -> list[str]:
    if not any(os.path.lexists(path) for path in scope.files(setting)):
        return ["it was not applied: nothing to take back"]
    _remove(setting, scope)
    return _after(setting, scope)


def _after(setting: Setting, scope: Scope) -> list[str]:
    notes = [note for note in (scope.reload(),) if note]
    if not scope.user and not scope.root and setting.kind != "manager":
        notes.append("user managers that run already see it after systemctl --user daemon-reload, or at the next login")
    return notes


def _made(folder: str) -> bool:
    """Return whether `folder` is not there yet, or was made for a drop-in of ours that is in it."""
    try:
        names = os.listdir(folder)
    except OSError:
        return True
    for name in names:
        if name.startswith(FILE.split("{", 1)[0]):
            try:
                with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                    if MADE in file:
                        return True
            except OSError:
                continue
    return False


def _write(path: str, text: str) -> None:
    folder = os.path.dirname(path)
    try:
        if _made(folder):
            text = MADE + text
        os.makedirs(folder, 0o755, exist_ok=True)
        files.replace(path, text)
    except OSError as error:
        hint = "run it as root, or with --user" if isinstance(error, PermissionError) else "is it writable?"
        raise HookError(f"{path}: cannot be written: {error.strerror}", hint=hint) from None


def _remove(setting: Setting, scope: Scope) -> None:
    for path in scope.files(setting):
        made = _made(os.path.dirname(path))
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HookError(f"{path}: cannot be removed: {error.strerror}", hint="run it as root") from None
        try:
            if made:
                os.rmdir(os.path.dirname(path))
        except OSError:
            pass  # others have files there


def _row(setting: Setting, scope: Scope) -> dict[str, Any]:
    return {
        "name": setting.name,
        "summary": setting.summary,
        "why": setting.why,
        "scope": "user" if scope.user else "system",
        "applied": scope.applied(setting),
        "needless": scope.needless(setting) or None,
        "in_force": scope.in_force(setting),
        "sets": setting.values,
        "files": scope.files(setting),
    }


def _list(settings: list[Setting], scope: Scope, as_json: bool) -> int:
    rows = [_row(setting, scope) for setting in settings]
    if as_json:
        print_json({"schema": 1, "systemd": scope.version, "settings": rows})
        return EXIT_ALLOW
    style = Style()
    whose = "your user manager" if scope.user else "this machine"
    print(style.paint(f"systemd {scope.version or 'unknown'}, settings for {whose}", "1"))
    for row in rows:
        state = "applied" if row["applied"] else "needless" if row["needless"] else "not applied"
        colour = {"applied": "32", "needless": "2"}.get(state, "")
        head = f"  {row['name']:<13}{state:<13}"
        print((style.paint(head, colour) if colour else head) + style.wrap(row["summary"], 28))
        print(" " * 15 + style.wrap(row["needless"] or row["why"], 15))
        for key, value in row["sets"].items():
            now = row["in_force"].get(key)
            said = f"now {_short(now)}" if now else "now not known: no manager of that kind answers"
            print(" " * 15 + style.wrap(f"{key}={value} ({said})", 17))
    print("-> go-health-hook tune --apply NAME, --revert NAME; --user for yourself alone")
    return EXIT_ALLOW


def _short(value: str) -> str:
    return {"18446744073709551615": "infinity", "[not set]": "not set"}.get(value, clean(value, 60))


def _change(facts: dict[str, Any], applying: bool, style: Style) -> str:
    lines = [style.paint(f"{facts['name']}: {'applied' if facts['applied'] else 'not applied'}", "1")]
    verb = "wrote" if applying else "removed"
    lines += [f"  {verb} {path}" for path in facts["changed"]]
    for key, value in facts["sets"].items():
        before, now = facts["before"].get(key), facts["in_force"].get(key)
        shown = f"{key}: {_short(before) if before else 'not known'} before, {_short(now) if now else 'not known'} now"
        lines.append("  " + style.wrap(shown + (f"; the file says {value}" if facts["applied"] else ""), 4))
    lines += ["  " + style.wrap(note, 4) for note in facts["notes"]]
    return "\n".join(lines)
