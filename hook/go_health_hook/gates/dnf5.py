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
from go_health_hook.gates import _transaction as shared
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.incoming import Place

MAX_REPLY = 64 << 20
REPLY_SECONDS = 30.0  # dnf5 answers at once, out of its memory
ATTRIBUTES = ["name", "evr", "full_nevra", "action", "direction", "repo_id", "location"]


class Conversation:
    """Requests to dnf5 and its replies; what else is printed goes to stderr."""

    def __init__(self) -> None:
        self._in = os.dup(0)
        self._out = os.dup(1)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(2, 1)  # what anything prints is for people
        os.close(null)
        self._rest = b""

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request. Raises OSError when dnf5 is gone."""
        data = json.dumps(request).encode() + b"\n"
        while data:
            data = data[os.write(self._out, data) :]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return what the reply returns. Raises BadInput for a reply that makes no sense."""
        self.tell(request)
        try:
            reply = json.loads(self._line())
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
            if not chunk or size > MAX_REPLY:
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
        """A setting of dnf5's, the first where there are several; empty where there is none."""
        try:
            found = self.ask({"op": "get", "domain": "conf", "args": {"key": key}}).get("keys_val") or []
            return str(found[0]["value"]) if found else ""
        except (BadInput, KeyError, TypeError):
            return ""

    def log(self, level: str, line: str) -> None:
        """A line for dnf5's log."""
        try:
            self.ask({"op": "log", "args": {"level": level, "message": f"go-health-hook: {line}"}})
        except BadInput:
            pass

    def stop(self, message: str) -> None:
        """Veto the transaction. There is no reply to this."""
        self.tell({"op": "stop", "args": {"message": message}})


def answer(args: argparse.Namespace, configuration: Callable[[], Config]) -> int:
    """Answer dnf5; the arguments are those of transaction.answer. Returns the exit status."""
    dnf5 = Conversation()
    outcome = shared.answer("dnf5", args.arguments, configuration, lambda pid: _transaction(dnf5, pid))
    for note in outcome.notes:
        dnf5.log("INFO", note)
    if outcome.message:
        dnf5.stop(outcome.message)
    return outcome.status


def _transaction(dnf5: Conversation, pid: int) -> shared.Transaction:
    items = []
    for p in dnf5.packages(ATTRIBUTES):
        items.append(
            shared.Item(
                p["name"],
                p["evr"],
                p["action"],
                p["direction"] == "IN",
                p["full_nevra"],
                lambda p=p: places_of(dnf5, p),  # type: ignore[misc]
            )
        )

    def go_names(goroot: str, _: Deadline) -> set[str]:
        # What is installed is known to dnf5 with all its files, what comes in with those in directories named bin.
        patterns = [f"{goroot}/*"] if goroot else []
        if any(item.action == "I" for item in items):
            patterns.append("*/bin/go")
        found: set[str] = set()
        for pattern in patterns:
            if not any(c in goroot for c in "*?[]"):
                some = dnf5.packages(["name"], [{"key": "file", "value": pattern, "operator": "GLOB"}])
                found |= {p["name"] for p in some}
        return found

    return shared.Transaction("dnf5", items, shared.is_automatic(pid), go_names)


def places_of(dnf5: Conversation, package: dict[str, str]) -> Iterator[list[Place]]:
    """Where the file of an incoming package may be, the likely places first.

    dnf5 says where it lies in its repository, not here: it is in the download directory, in the repository itself when
    that is a local folder, or where the command line named it. dnf5 logs an error when asked for a setting that is not
    set, so each is asked for in its turn.
    """
    location, repository = package["location"], package["repo_id"]
    name = os.path.basename(location)
    cached = (f"{repository}-", f"packages/{name}")
    named = [("", "", location[1:])] if location.startswith("/") else []
    yield [*named, (dnf5.setting("cachedir"), *cached)]
    yield [(dnf5.setting("system_cachedir"), *cached)]
    urls = dnf5.setting(f"{repository}.baseurl").replace(",", " ").split()
    yield [(url[len("file://") :], "", location) for url in urls if url.startswith("file://")]
    yield [(dnf5.setting("destdir"), "", name)]
