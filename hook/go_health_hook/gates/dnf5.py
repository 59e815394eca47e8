# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of dnf5: an action in JSON mode (libdnf5-actions(8)), which may stop a transaction.

Requests go to standard output, replies come on standard input. Every reply is read: a program that leaves before dnf5
has written one kills dnf5. Nothing here calls dnf5, which holds the lock.
"""

from __future__ import annotations

import json
import os
import select

from go_health_hook.deadline import Deadline
from go_health_hook.errors import BadInput
from go_health_hook.gates import _dnf as shared
from go_health_hook.gates._dnf_transaction import Item, Transaction, applied, is_automatic
from go_health_hook.run.worker import Gone
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from go_health_hook.gates import Call
    from go_health_hook.gates._dnf_judge import Survey
    from go_health_hook.linux.rpmfile import Place
    from go_health_hook.wiring import View, Wired

MAX_REPLY = 64 << 20
REPLY_SECONDS = 30.0  # dnf5 answers at once, out of its memory
TIMERS = ("dnf5-automatic.timer",)
UNREAD = (("/etc/dnf/dnf5-plugins/automatic.conf", "", "upgrade_command", "no dnf reads it; the gates do without it"),)
ATTRIBUTES = ["name", "evr", "full_nevra", "action", "direction", "repo_id", "location"]


class Conversation:
    """Requests to dnf5, written to one descriptor, and its replies, read from another one."""

    def __init__(self, replies: int, requests: int) -> None:
        self._in = replies
        self._out = requests
        self._rest = b""
        self._settings: dict[str, str] = {}

    @classmethod
    def on_standard_streams(cls) -> Conversation:
        """Return the conversation on stdin and stdout; what else is printed goes to stderr from now on."""
        talk = cls(os.dup(0), os.dup(1))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(2, 1)  # what anything prints is for people
        os.close(null)
        return talk

    @property
    def pipes(self) -> tuple[int, int]:
        """The descriptors whose other ends are dnf5's."""
        return self._in, self._out

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request. Raises Gone when dnf5 is."""
        data = json.dumps(request).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            raise Gone from None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return what the reply returns. Raises BadInput for a reply that makes no sense."""
        self.tell(request)
        try:
            # File names need not be UTF-8.
            reply = json.loads(self._line().decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            raise BadInput(
                "dnf5 replied with something that is not JSON", hint="update dnf5 or go-health-hook"
            ) from None
        if not isinstance(reply, dict) or reply.get("op") != "reply":
            raise BadInput(f"dnf5 replied with {clean(str(reply), 80)}", hint="update dnf5 or go-health-hook")
        if reply.get("status") != "OK":
            raise BadInput(f"dnf5 refused {request['op']}: {clean(str(reply.get('message')))}", hint="update dnf5")
        returned = reply.get("return", {})
        return returned if isinstance(returned, dict) else {}

    def _line(self) -> bytes:
        deadline = Deadline(REPLY_SECONDS)
        chunks = [self._rest]
        size = 0
        while b"\n" not in chunks[-1]:
            ready, _, _ = select.select([self._in], [], [], deadline.remaining())
            chunk = os.read(self._in, 1 << 16) if ready else b""
            size += len(chunk)
            if ready and not chunk:
                raise Gone
            if not ready or size > MAX_REPLY:
                raise BadInput("dnf5 did not reply", hint="look for an error of dnf5's own")
            chunks.append(chunk)
        line, _, self._rest = b"".join(chunks).partition(b"\n")
        return line

    def packages(self, output: list[str], filters: list[dict[str, str]] | None = None) -> list[dict[str, str]]:
        """Packages of the transaction. Raises BadInput."""
        args: dict[str, Any] = {"output": output}
        if filters:
            args["filters"] = filters
        found = self.ask({"op": "get", "domain": "trans_packages", "args": args}).get("trans_packages")
        if not isinstance(found, list) or not all(isinstance(p, dict) and set(output) <= set(p) for p in found):
            raise BadInput("dnf5 does not say what is in the transaction", hint="update dnf5 or go-health-hook")
        return found

    def setting(self, key: str) -> str:
        """Return a setting of dnf5's, the first where there are several; empty where there is none. Asks once."""
        if key not in self._settings:
            try:
                found = self.ask({"op": "get", "domain": "conf", "args": {"key": key}}).get("keys_val") or []
                self._settings[key] = str(found[0]["value"]) if found else ""
            except (BadInput, KeyError, TypeError):
                self._settings[key] = ""
        return self._settings[key]

    def log(self, level: str, line: str) -> None:
        """A line for dnf5's log."""
        try:
            self.ask({"op": "log", "args": {"level": level, "message": f"go-health-hook: {line}"}})
        except BadInput:
            pass

    def stop(self, message: str) -> None:
        """Veto the transaction. There is no reply to this. Raises Gone."""
        self.tell({"op": "stop", "args": {"message": message}})


def answer(call: Call) -> int:
    """Answer dnf5; the arguments are those of `_dnf.answer`. Returns the exit status. Raises Gone."""
    return tell(Conversation.on_standard_streams(), call)


def tell(dnf5: Conversation, call: Call) -> int:
    """Have the transaction judged and tell dnf5; return the exit status. Raises Gone."""
    result = shared.answer("dnf5", call, lambda pid: _transaction(dnf5, pid))
    for note in result.notes:
        dnf5.log("INFO", note)
    if result.message:
        dnf5.stop(result.message)
    return result.status


def _transaction(dnf5: Conversation, pid: int) -> Transaction:
    items = [
        Item(
            p["name"],
            p["evr"],
            p["action"],
            p["direction"] == "IN",
            p["full_nevra"],
            lambda p=p: places_of(dnf5, p, pid),  # type: ignore[misc]
        )
        for p in dnf5.packages(ATTRIBUTES)
    ]

    def go_names(installed: Survey) -> set[str]:
        # What is installed is known to dnf5 with all its files, what comes in with those in directories named bin. A Go
        # of rpm's may come in next to the one that is found first.
        patterns = ["*/bin/go"]
        if installed.goroot and not any(c in installed.goroot for c in "*?[]"):
            patterns.append(f"{installed.goroot}/*")
        found: set[str] = set()
        for pattern in patterns:
            some = dnf5.packages(["name"], [{"key": "file", "value": pattern, "operator": "GLOB"}])
            found |= {p["name"] for p in some}
        return found

    update = applied(pid)
    automatic = update is None and is_automatic(pid)  # who applies an update at a boot does what a person asked for
    return Transaction("dnf5", items, automatic, go_names, watched=dnf5.pipes, offline=update)


def places_of(dnf5: Conversation, package: dict[str, str], pid: int) -> Iterator[list[Place]]:
    """Yield lists of places where the file of an incoming package may be, the cheapest first.

    `pid` is dnf5's own process. A package of the command line or of a stored transaction (repository @commandline,
    @stored_transaction(...)) has the path as typed, relative to dnf5's working directory. For all others dnf5 tells the
    location in the repository: the file is in the download directory, or in the repository itself if that is a local
    folder. dnf5 logs an error when asked for a setting that is not set. A later list is therefore only asked for if
    the earlier ones do not hold the file.
    """
    location, repository = package["location"], package["repo_id"]
    if location.startswith("/"):
        yield [("", "", location[1:])]
    elif repository.startswith("@"):
        yield [(f"/proc/{pid}/cwd", "", location), (".", "", location)]
        return
    name = os.path.basename(location)
    cached = (f"{repository}-", f"packages/{name}")
    yield [(dnf5.setting("cachedir"), *cached), (dnf5.setting("system_cachedir"), *cached)]
    yield local_places(dnf5.setting(f"{repository}.baseurl"), location)
    yield [(dnf5.setting("destdir"), "", name)]


def local_places(baseurl: str, location: str) -> list[Place]:
    """Return the places of a package in those repositories of a `baseurl` setting that are local folders.

    The folder may be percent-encoded, as a URL is (RFC 8089), and so may the location in the metadata.
    """
    from urllib.parse import unquote

    places = []
    for url in baseurl.replace(",", " ").split():
        if url.startswith("file:"):
            path = url[len("file:") :]
            if path.startswith("//"):
                path = f"/{path[2:].partition('/')[2]}"  # the host between // and / is empty or localhost
            for folder in dict.fromkeys((unquote(path), path)):
                places += [(folder, "", rest) for rest in dict.fromkeys((location, unquote(location)))]
    return places


ACTIONS = "actions.d/go-health-hook.actions"
# Where libdnf5 looks for its plugins' settings, and below for the actions; a file in one directory hides that of the
# same name in a later one. plugin_conf_dir moves them, as pluginconfpath does where libdnf5 knows no other (dnf5 5.4).
PLUGIN_CONF = ("/etc/dnf/libdnf5-plugins", "/usr/share/dnf5/libdnf.plugins.conf.d")
# Likewise; in one order by name, and dnf.conf is laid over them (dnf5.conf(5)).
DROPINS = ("/etc/dnf/libdnf5.conf.d", "/usr/share/dnf5/libdnf.conf.d")
# The file that the actions plugin's package has.
ENABLE = "printf '[main]\\nname = actions\\nenabled = 1\\n' >/etc/dnf/libdnf5-plugins/actions.conf"


def wired(view: View) -> Wired:
    """Return whether dnf5 loads the actions plugin, the plugin our action, and the action finds the gate."""
    from go_health_hook.gates._dnf_wired import DNF_CONF, gate_program, plugins_off
    from go_health_hook.wiring import NOT_HERE, NOT_WIRED, Wired

    library = view.first("/usr/bin/dnf5", "/usr/lib64/libdnf5.so.*", "/usr/lib/*/libdnf5.so.*")
    if view.image or not library:
        return Wired(NOT_HERE, "updates come as images" if view.image else "no dnf5")
    settings = [*view.drop_ins(".conf", *DROPINS), DNF_CONF]
    moved = view.setting(settings, "main", "plugin_conf_dir") or view.setting(settings, "main", "pluginconfpath")
    places = moved[0].replace(",", " ").split() if moved else list(PLUGIN_CONF)
    actions = view.first(*(f"{place}/{ACTIONS}" for place in places))
    if not actions:
        if moved and view.exists(f"{PLUGIN_CONF[0]}/{ACTIONS}"):
            remedy = f"add {PLUGIN_CONF[0]} to it"
            return Wired(NOT_WIRED, f"dnf5 looks elsewhere: {moved[1]}: {moved[0]}", remedy)
        return Wired(NOT_WIRED, f"{ACTIONS} is not in place", view.get("go-health-hook-dnf5", "dnf5"))
    if not any(line.startswith("pre_transaction") for line in view.lines(actions)):
        # dnf keeps a file that was changed by hand.
        remedy = f"rm {actions}; {view.get('go-health-hook-dnf5', 'dnf5')}"
        return Wired(NOT_WIRED, f"{actions} has no pre_transaction line", remedy)
    path = view.setting(settings, "main", "pluginpath")
    folders = [path[0]] if path else ["/usr/lib64/libdnf5/plugins", "/usr/lib/*/libdnf5/plugins"]
    if not view.first(*(f"{folder}/actions.so" for folder in folders)):
        if path:
            return Wired(NOT_WIRED, f"{path[1]}: pluginpath = {path[0]} has no actions.so", "remove that line")
        remedy = view.get("libdnf5-plugin-actions", "dnf5")
        return Wired(NOT_WIRED, "dnf5's actions plugin is not installed", remedy)
    return _actions_off(view, places) or plugins_off(view, settings) or gate_program(view, actions)


def _actions_off(view: View, places: list[str]) -> Wired | None:
    """Return NOT_WIRED where no file switches the actions plugin on; one that does is enough."""
    from go_health_hook.wiring import NOT_WIRED, ON, Wired

    found = None
    for file in view.drop_ins(".conf", *places):
        named = view.setting([file], "main", "name")
        if (named[0] if named else os.path.basename(file)[: -len(".conf")]) != "actions":
            continue
        enabled = view.setting([file], "main", "enabled")
        if enabled and (enabled[0].lower() in ON or enabled[0] == "host-only"):
            return None
        found = enabled or ("", f"{file}:1")
    if not found:
        return Wired(NOT_WIRED, "no file enables dnf5's actions plugin", ENABLE)
    file = found[1].rsplit(":", 1)[0]
    return Wired(
        NOT_WIRED, f"the actions plugin is off: {found[1]}: enabled = {found[0]}", f"set enabled = 1 in {file}"
    )
