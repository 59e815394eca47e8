# SPDX-License-Identifier: GPL-2.0-or-later
"""The toolchain's own answer for `cpu`, asked in a worker: its files may be on a disk that never answers."""

from __future__ import annotations

import contextlib

from go_health_hook.errors import HookError
from go_health_hook.go.versions import parse_version
from go_health_hook.run.worker import Worker
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.deadline import Deadline

UNKNOWN: dict[str, Any] = {"version": None, "goroot": None, "gomaxprocs": None, "source": None, "not_asked": None}


def begin(goroot: str, config_file: str | None, pid: int | None, here: bool, deadline: Deadline) -> Worker:
    """Start to ask the toolchain, and what GOMAXPROCS and GODEBUG the process `pid` was started with.

    A Go program is started only where `here` is true: its answer is for the caller's own cgroup.
    """

    def work() -> list[Any]:
        try:
            env = _environment(pid)
            return ["answer", _toolchain(goroot, config_file, here, deadline), env]
        except HookError as error:
            return ["refused", error.message, error.hint, error.exit_status]

    return Worker(lambda send: send(work()))


def answer(worker: Worker, deadline: Deadline) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of the toolchain, and the variables; an answer that does not come in time is said to be missing.

    Raises HookError where the configuration is in error.
    """
    message: list[Any] = next(worker.messages(deadline), ["late"])
    kind, values = message[0], message[1:]
    if kind == "answer":
        toolchain, env = values
        return toolchain, env
    if kind == "refused":
        error = HookError(values[0], hint=values[1])
        error.exit_status = values[2]
        raise error
    if kind == "bug":
        raise RuntimeError(values[0])
    why = (
        "the toolchain's files, or the configuration, do not answer"
        if not worker.finished
        else "the process that asked it has ended"
    )
    return {**UNKNOWN, "why": why}, {}


def _environment(pid: int | None) -> dict[str, str]:
    if pid is None:
        return {}
    from go_health_hook.cpu._processes import environment

    return environment(pid)


def _toolchain(goroot: str, config_file: str | None, here: bool, deadline: Deadline) -> dict[str, Any]:
    """Where it is, its version, and in the caller's cgroup the GOMAXPROCS that it takes; `why` says what is missing."""
    from go_health_hook import config
    from go_health_hook.go import toolchain as toolchains
    from go_health_hook.subject import Subject

    known: dict[str, Any] = {**UNKNOWN, "why": ""}
    found = toolchains.find(Subject(), goroot or config.goroot(config.severities, config_file))
    if found is None:
        return {**known, "why": "no Go toolchain is installed"}
    known["goroot"] = clean(found.goroot)
    if not found.runnable:
        return {**known, "why": found.problem or found.untrusted or found.broken(found.go)}
    with contextlib.suppress(OSError, ValueError):
        known["version"] = parse_version((found.read("VERSION") or "").split("\n", 1)[0]).name
    if here:
        from go_health_hook.go import probe

        try:
            told = probe.answer(probe.begin(found, deadline))
            known.update(gomaxprocs=told.value, source="schedtrace", why=told.why)
        except (HookError, OSError) as error:
            # In a user namespace without other users, no program can be run as nobody.
            why = getattr(error, "strerror", "") or str(error)
            known["not_asked"] = f"the toolchain cannot be asked here: {clean(why)}"
        if known["gomaxprocs"] is None:
            known.update(source=None, not_asked=known["not_asked"] or f"the toolchain did not say: {known['why']}")
    return known
