# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics for node_exporter's textfile collector, made from the state alone, so that they are right after any run.

Written by hand: prometheus_client takes longer to import than a gate may spend on all announcements; the tests hold
this file to its parser and to promtool.
"""

from __future__ import annotations

import contextlib
import os

from go_health_hook import VERSION, files
from go_health_hook.announce import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

NAME = "go_health_hook.prom"
PREFIX = "go_health_hook_"
STATUSES = ("pass", "warn", "skip", "fail", "timeout", "error")

# Name and help of every metric, in the order of the file; all are gauges.
HELP = {
    "info": "The hook's version, as a label.",
    "verdict_blocked": "Whether the gate's last verdict held an update back (1) or not (0).",
    "verdict_exit_status": "Exit status of the gate's last verdict: 0, 1 failed check, 3 out of time, 4 own fault.",
    "verdict_timestamp_seconds": "When the gate last gave a verdict.",
    "verdict_seconds": "How long the gate's last verdict took.",
    "check_status": "1 for the status that a check had in the gate's last verdict.",
    "check_seconds": "How long a check took in the gate's last verdict.",
    "blocked_since_timestamp_seconds": "Since when the gate holds updates back; no sample when it does not.",
    "blocked_refusals": "How often the gate has refused since then; no sample when it does not hold back.",
    "broken_since_timestamp_seconds": "Since when the installed Go is known to be broken; no sample when it is not.",
    "not_judged_since_timestamp_seconds": "Since when the gate could not judge updates; no sample when it can.",
    "updates_held_back_seconds": "How long updates have been held back as of this file; 0 when they are not.",
    "gomaxprocs_actual": "GOMAXPROCS as the toolchain's runtime took it in the gate's last verdict.",
    "gomaxprocs_expected": "GOMAXPROCS that fits the limit which the kernel enforced there.",
    "gate_wired": "Whether a gate of an updater that is installed here is wired in (written by status --refresh).",
    "misaligned_processes": "Running Go processes whose GOMAXPROCS does not fit their limit (status --refresh).",
    "written_timestamp_seconds": "When this file was written.",
}


def render(state: dict[str, Any], now: float) -> str:
    """The file's text, in Prometheus' text format 0.0.4."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in HELP}
    samples["info"].append(({"version": VERSION}, 1))
    for gate, last in sorted(state["gates"].items()):
        label = {"gate": gate}
        samples["verdict_blocked"].append((label, int(gate in state["blocks"])))
        samples["verdict_exit_status"].append((label, last["exit_status"]))
        samples["verdict_timestamp_seconds"].append((label, last["time"]))
        samples["verdict_seconds"].append((label, last["elapsed_s"]))
        for result in last["results"]:
            labels = {**label, "check": result["check"]}
            samples["check_seconds"].append((labels, result["elapsed_s"]))
            samples["check_status"] += [
                ({**labels, "status": status}, int(status == result["status"])) for status in STATUSES
            ]
        for kind in ("actual", "expected"):
            if last[f"{kind}_gomaxprocs"] is not None:
                samples[f"gomaxprocs_{kind}"].append((label, last[f"{kind}_gomaxprocs"]))
    for gate, block in sorted(state["blocks"].items()):
        samples["blocked_since_timestamp_seconds"].append(({"gate": gate}, block["since"]))
        samples["blocked_refusals"].append(({"gate": gate}, block["count"]))
    if state["broken"]:
        samples["broken_since_timestamp_seconds"].append(({}, state["broken"]["since"]))
    for gate, unjudged in sorted(state["unjudged"].items()):
        samples["not_judged_since_timestamp_seconds"].append(({"gate": gate}, unjudged["since"]))
    since = record.held_since(state)
    samples["updates_held_back_seconds"].append(({}, max(0.0, now - since) if since is not None else 0))
    for gate, wired in sorted(state.get("wired", {}).items()):
        samples["gate_wired"].append(({"gate": gate}, int(wired)))
    if state.get("misaligned") is not None:
        samples["misaligned_processes"].append(({}, state["misaligned"]))
    samples["written_timestamp_seconds"].append(({}, now))
    lines = []
    for name, rows in samples.items():
        if rows:
            lines += [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} gauge"]
            lines += [f"{PREFIX}{name}{_labels(labels.items())} {_number(value)}" for labels, value in rows]
    return "\n".join(lines) + "\n"


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def write(state: dict[str, Any], now: float, directory: str, link: str) -> None:
    """Write the file into the textfile directory, which must exist: it is node_exporter's. Raises OSError.

    `link` is kept leading to it, so that it can be found and removed when it is to be elsewhere, or nowhere.
    """
    path = f"{directory}/{NAME}"
    files.replace(path, render(state, now))
    if _target(link) != path:
        remove(link)
        os.symlink(path, link)


def remove(link: str) -> None:
    """Remove the file that `link` leads to, and the link. Raises OSError."""
    path = _target(link)
    if path:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.basename(path) == NAME:
                os.unlink(path)
        os.unlink(link)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
