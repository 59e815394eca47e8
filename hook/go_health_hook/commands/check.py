# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the checks and let the exit status decide: what happens when no command is given."""

from __future__ import annotations

import os

from go_health_hook import override, policy
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, BadInput
from go_health_hook.examine import Depth, examine
from go_health_hook.linux import container
from go_health_hook.report import table
from go_health_hook.report.style import print_json
from go_health_hook.run.worker import bounded
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from go_health_hook.config import Config

# A person can wait (seconds) within the budget, and wants to know what a disk in trouble says.
PATIENCE = 2.0
# For a look at one file where no time is left (seconds).
LOOK = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the options that stand before a command, and no more."""


def run(args: argparse.Namespace, settings: Config) -> int:
    """Judge the toolchain that the options name, report, and return the exit status; 0 for a dry run."""
    budget = args.budget or settings.get("budget", "deep" if args.deep else "check")
    wall = ceiling_of(settings.get("budget", "ceiling"), person=os.isatty(0) and os.isatty(2))
    deadline = Deadline(budget, ceiling=wall)
    subject = _subject(args.root)
    depth = Depth(deep=args.deep, enter=not args.dry_run)
    examination = examine(subject, settings, deadline, goroot=args.goroot, depth=depth)
    policy.settle(
        examination,
        # The limits of the machine that builds an image are not those of the machines that run it.
        policy.Case(by_hand=not container.is_build(), starved_blocks=settings.get("budget", "starved") == "block"),
    )
    overridden = bounded(_override, Deadline(max(deadline.remaining(), LOOK)), None, dead=None)
    if args.json:
        print_json({**examination.to_dict(), "override": overridden})
    else:
        print(table.report(examination, dry_run=args.dry_run, verbose=args.verbose))
        if overridden:
            print(f"Updates are {overridden}")
    if not args.dry_run and not args.goroot and subject.kind == "running":
        # Another root or GOROOT is not what this machine's updates are judged by.
        from go_health_hook.announce import publish, record

        event = record.FOUND if examination.verdict.block else record.VERDICT
        publish.publish(examination, "check", event=event, wait=min(PATIENCE, max(deadline.remaining(), LOOK)))
    return EXIT_ALLOW if args.dry_run else examination.verdict.exit_status


def _override() -> str | None:
    """One line on the override in force, which every report shows."""
    try:
        found = override.in_force()
    except BadInput as error:
        return f"not overridden: {error.line()}"
    return found.line() if found else None


def _subject(root: str) -> Subject:
    """The subject, without a look at the disk: that is for the worker, which can be left behind."""
    return Subject() if root == "/" else Subject("root", root)
