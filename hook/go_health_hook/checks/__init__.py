# SPDX-License-Identifier: GPL-2.0-or-later
"""One file a check; every module here is one, with `SEVERITY`, `ORDER` and `check(context) -> Finding`."""

from __future__ import annotations

import importlib
import os
import threading

from go_health_hook import files
from go_health_hook.linux.cgroup import read_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline
    from go_health_hook.go.ledger import Entry
    from go_health_hook.go.toolchain import Toolchain
    from go_health_hook.linux.cgroup import Chain
    from go_health_hook.subject import Subject
    from go_health_hook.verdict import Finding


HERE = os.path.dirname(os.path.abspath(__file__))


class Context:
    """What a check is given: whose toolchain, the toolchain, the settings, and the time that is left."""

    def __init__(
        self, subject: Subject, toolchain: Toolchain, config: Config, deadline: Deadline, deep: bool = False
    ) -> None:
        self.subject = subject
        self.toolchain = toolchain
        self.config = config
        self.deadline = deadline
        self.deep = deep
        # What the ledger says of this toolchain, where that holds; and for a new entry, the packages that were judged.
        self.known: Entry | None = None
        self.closure: list[str] = []
        self.found: dict[str, Finding] = {}
        self.facts: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._shared: dict[str, tuple[threading.Lock, list[Any]]] = {}

    def shared(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, or raise what it raises; called once however many checks ask, the others wait."""
        with self._lock:
            lock, made = self._shared.setdefault(name, (threading.Lock(), []))
        with lock:
            if not made:
                try:
                    made.append((make(), None))
                except Exception as error:
                    made.append((None, error))
        value, failure = made[0]
        if failure is not None:
            raise failure
        return value


def chain_of(context: Context) -> Chain:
    """The chain of limits on the hook's own process, read once a run."""
    chain: Chain = context.shared("chain", read_chain)
    return chain


class Check:
    """A check as `examine` sees it. Its module is imported once the check is carried out: an updater waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.order = int(files.constant(f"{HERE}/{name}.py", "ORDER"))

    def run(self, context: Context) -> Finding:
        """Carry it out."""
        found: Finding = importlib.import_module(f"{__name__}.{self.name}").check(context)
        return found


def every() -> list[Check]:
    """All checks, in the order in which they are shown."""
    names = sorted({n.split(".")[0] for n in os.listdir(HERE) if n[:1] != "_" and ".py" in n})
    return sorted((Check(n) for n in names), key=lambda c: (c.order, c.name))
