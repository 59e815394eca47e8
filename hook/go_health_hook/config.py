# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: vendor defaults, then /etc/go-health-hook.conf, then its drop-ins; an unknown key is an error."""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.errors import BadInput
from go_health_hook.text import clean
from go_health_hook.verdict import ADVISORY, OFF, REGRESSION, REQUIRED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import configparser
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, overload

VENDOR = "/usr/lib/go-health-hook/defaults.conf"
ADMIN = "/etc/go-health-hook.conf"
DROPINS = "/etc/go-health-hook.conf.d"
MAX_BYTES = 1 << 20


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86400:
        raise ValueError("seconds from above 0 to 86400")
    return value


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return parse


def _yes_no(text: str) -> bool:
    words = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if text.lower() not in words:
        raise ValueError("yes or no")
    return words[text.lower()]


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _import_paths(text: str) -> list[str]:
    words = _words(text)
    for word in words:
        if word.startswith(("-", "/", ".")) or not all(c.isalnum() or c in "./_-" for c in word):
            raise ValueError("import paths of the standard library, as crypto/tls")
    return words


def _is_path(text: str) -> bool:
    return text.startswith("/") and text.isprintable()


def _goroot(text: str) -> str:
    if text != "auto" and not _is_path(text):
        raise ValueError("auto or an absolute path")
    return text


def _directory(text: str) -> str:
    if text and not _is_path(text):
        raise ValueError("an absolute path, or empty")
    return text


def _placements(text: str) -> list[str]:
    words = _words(text)
    for word in words:
        if not word.isprintable() or ".." in word.split("/") or ("/" in word and not word.startswith("/")):
            raise ValueError("names of units, slices and users, or cgroup paths as /system.slice/x.service")
    return words


SEVERITY = _choice(REQUIRED, REGRESSION, ADVISORY, OFF)

# Section, key: how to read it and what it is by default. defaults.conf says the same to people; a test compares them.
SCHEMA: dict[str, dict[str, tuple[Callable[[str], Any], str]]] = {
    "budget": {
        # And a key for every file of gates/ that has a BUDGET, see `Config.budget`.
        "check": (_seconds, "5"),
        "deep": (_seconds, "120"),
        "ceiling": (_seconds, "60"),
        "starved": (_choice("allow", "block"), "allow"),
    },
    "toolchain": {
        "goroot": (_goroot, "auto"),
        "modules": (_import_paths, "crypto/tls"),
        "required": (_yes_no, "no"),
    },
    "dnf": {"transactions": (_choice("updates", "all", "automatic", "off"), "updates")},
    "ostree": {
        "on-failure": (_choice("lock", "discard", "warn"), "lock"),
        "standing": (_choice("allow", "block"), "allow"),
    },
    "gomaxprocs": {"placements": (_placements, "")},
    "announce": {
        "motd": (_yes_no, "yes"),
        "journal": (_yes_no, "yes"),
        "metrics-directory": (_directory, ""),
    },
}


GATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gates")


def budget_key(module: str) -> str:
    """Return the [budget] key of a module or file of gates/: "dnf" for _dnf.py, "rpm-ostree" for rpm_ostree.py."""
    return module.rpartition(".")[2].lstrip("_").replace("_", "-")


def budget_keys() -> dict[str, str]:
    """Return the file of each [budget] key that a gate has, without importing the gates: an updater waits."""
    found = {}
    try:
        for name in os.listdir(GATES):
            if name.endswith(".py") and files.constant(f"{GATES}/{name}", "BUDGET"):
                found[budget_key(name[: -len(".py")])] = name
    except (OSError, ValueError):
        pass  # a package half removed: its gates are gone
    return found


CHECKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checks")


def severities() -> dict[str, str]:
    """Return every check and its default severity, without importing the checks: an updater waits."""
    found = {}
    try:
        for name in sorted(os.listdir(CHECKS)):
            if name.endswith(".py") and name[0] != "_":
                found[name[: -len(".py")]] = files.constant(f"{CHECKS}/{name}", "SEVERITY") or REQUIRED
    except (OSError, ValueError):
        pass  # a package half removed
    return found


class Config:
    """The settings in force: `config.get("dnf", "transactions")` gives the value in its own type."""

    def __init__(self, checks: Mapping[str, str]) -> None:
        schema = self._schema(checks)
        self._values = {s: {k: parse(default) for k, (parse, default) in keys.items()} for s, keys in schema.items()}

    @staticmethod
    def _schema(checks: Mapping[str, str]) -> dict[str, dict[str, tuple[Callable[[str], Any], str]]]:
        return {**SCHEMA, "checks": {name: (SEVERITY, default) for name, default in checks.items()}}

    if TYPE_CHECKING:
        # A key that the schema does not have is an error of types.
        @overload
        def get(self, section: Literal["budget"], key: Literal["check", "deep", "ceiling"]) -> float: ...
        @overload
        def get(self, section: Literal["budget"], key: Literal["starved"]) -> str: ...
        @overload
        def get(self, section: Literal["checks"], key: str) -> str: ...
        @overload
        def get(self, section: Literal["toolchain"], key: Literal["goroot"]) -> str: ...
        @overload
        def get(self, section: Literal["toolchain"], key: Literal["modules"]) -> list[str]: ...
        @overload
        def get(self, section: Literal["toolchain"], key: Literal["required"]) -> bool: ...
        @overload
        def get(self, section: Literal["dnf"], key: Literal["transactions"]) -> str: ...
        @overload
        def get(self, section: Literal["ostree"], key: Literal["on-failure", "standing"]) -> str: ...
        @overload
        def get(self, section: Literal["gomaxprocs"], key: Literal["placements"]) -> list[str]: ...

    def get(self, section: str, key: str) -> Any:
        """Return the value of a key of SCHEMA or of [checks]; for [announce] see `announce`, for gates `budget`."""
        return self._values[section][key]

    def budget(self, module: str, default: float) -> float:
        """Return the seconds of [budget] for a module of gates/ (its `__name__`), or `default` (its BUDGET)."""
        seconds: float = self._values["budget"].get(budget_key(module), default)
        return seconds

    @property
    def announce(self) -> dict[str, Any]:
        """All of [announce], for announce.publish."""
        return dict(self._values["announce"])

    def read(self, path: str, checks: Mapping[str, str]) -> None:
        """Lay one file over what is there. Raises BadInput naming file, line and the nearest known key."""
        try:
            text = files.read(path, MAX_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise BadInput(f"{path}: cannot be read: {why}", hint="repair or remove the file") from None
        settings = _plain(text) or _parsed(text, path)
        schema = self._schema(checks)
        if "budget" in settings:
            schema["budget"] = {**schema["budget"], **dict.fromkeys(budget_keys(), (_seconds, ""))}
        for section in settings:
            if section not in schema:
                place = f"{path}:{_line_of(text, section)}"
                raise BadInput(
                    f"{place}: unknown section [{clean(section)}]", hint=_nearest(section, schema, "section")
                )
            for key, raw in settings[section].items():
                place = f"{path}:{_line_of(text, section, key)}"
                if key not in schema[section]:
                    raise BadInput(
                        f"{place}: unknown key {clean(key)} in [{section}]", hint=_nearest(key, schema[section], "key")
                    )
                parse, _ = schema[section][key]
                try:
                    self._values[section][key] = parse(raw.strip())
                except ValueError as error:
                    wanted = str(error) if "could not convert" not in str(error) else "a number of seconds"
                    raise BadInput(f"{place}: {key} = {clean(raw)} cannot be used", hint=f"it takes {wanted}") from None


def _plain(text: str) -> dict[str, dict[str, str]]:
    """Return what a plain file sets, as `_parsed` would; empty for one that it has to read.

    configparser takes as long to import and to read one file as Python to start, and an updater waits. Plain is a file
    of comments, sections and settings of one line each, none of them twice.
    """
    settings: dict[str, dict[str, str]] = {}
    section = None
    for line in text.split("\n"):
        bare = line.strip()
        if bare.startswith(("#", ";")) or not bare:
            continue
        if line[0].isspace() or not line.isprintable():
            return {}
        name = bare[1:-1]
        if name and bare == f"[{name}]" and name not in settings and not {*"[]"} & {*name}:
            section = settings[name] = {}
            continue
        key, equals, value = bare.partition("=")
        key = key.rstrip()
        if section is None or not key or not equals or key in section or bare[0] == "[":
            return {}
        section[key] = value.lstrip()
    return settings


def _parsed(text: str, path: str) -> dict[str, dict[str, str]]:
    """Return what a file sets, by section and key. Raises BadInput."""
    import configparser

    parser = configparser.ConfigParser(
        delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None, default_section="\0", strict=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise _syntax_error(path, error) from None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _syntax_error(path: str, error: configparser.Error) -> BadInput:
    import configparser

    line = getattr(error, "lineno", None)
    if isinstance(error, configparser.ParsingError) and not isinstance(error, configparser.MissingSectionHeaderError):
        line = error.errors[0][0]
    said = {
        "MissingSectionHeaderError": "a setting stands before any [section]",
        "DuplicateOptionError": "a key stands twice in its section",
        "DuplicateSectionError": "a section stands twice",
    }.get(type(error).__name__, "is not of the form key = value")
    return BadInput(f"{path}:{line}: {said}", hint="see go-health-hook.conf(5)")


def _line_of(text: str, section: str, key: str | None = None) -> int:
    """The number of the line where a section, or a key in it, stands (configparser does not keep it)."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("["):
            inside = bare[1:].partition("]")[0] == section
            if inside and key is None:
                return number
        elif inside and key is not None and bare.partition("=")[0].strip() == key:
            return number
    return 0


def _nearest(word: str, known: Iterable[str], what: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.4)
    return f"the nearest known {what} is {near[0]}" if near else f"known are: {', '.join(sorted(known))}"


def load(checks: Mapping[str, str], path: str | None = None, root: str = "/") -> Config:
    """Read the configuration. `checks` gives each check's default severity; `path` stands in for what is in /etc.

    A file that is a link to /dev/null, or empty, masks nothing but itself. Raises BadInput.
    """
    config = Config(checks)
    base = root.rstrip("/")
    paths = [base + VENDOR] if os.path.exists(base + VENDOR) else []
    if path is not None:
        paths.append(path)
    else:
        if os.path.lexists(base + ADMIN):
            paths.append(base + ADMIN)
        try:
            names = sorted(n for n in os.listdir(base + DROPINS) if n.endswith(".conf") and not n.startswith("."))
        except OSError:
            names = []
        paths += [f"{base}{DROPINS}/{n}" for n in names]
    for file in paths:
        if os.path.realpath(file) != "/dev/null":
            config.read(file, checks)
    return config


def links(path: str | None = None) -> list[str]:
    """Return which of the administrator's files are links: what they lead to may be on a disk that does not answer."""
    places = [path] if path is not None else [ADMIN, DROPINS]
    if path is None and not os.path.islink(DROPINS):
        try:
            places += [f"{DROPINS}/{name}" for name in os.listdir(DROPINS)]
        except OSError:
            pass  # there are none
    return [place for place in places if os.path.islink(place)]


def goroot(checks: Callable[[], Mapping[str, str]], path: str | None = None) -> str:
    """[toolchain] goroot, "" for auto. Where no file of the administrator's speaks of it, none is read: that is quick.

    `checks` says what `load` takes, `path` is as for it. Raises BadInput.
    """
    try:
        dropins = [f"{DROPINS}/{n}" for n in os.listdir(DROPINS)]
    except OSError:
        dropins = []
    for file in [path] if path is not None else [ADMIN, *dropins]:
        try:
            if not any(line.lstrip().startswith(b"goroot") for line in files.read(file, MAX_BYTES).splitlines()):
                continue
        except OSError:
            if path is None:
                continue
        value: str = load(checks(), path).get("toolchain", "goroot")
        return "" if value == "auto" else value
    return ""
