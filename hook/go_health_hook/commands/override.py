# SPDX-License-Identifier: GPL-2.0-or-later
"""Let updates through for a while although Go is broken, on the record; it ends by itself."""

from __future__ import annotations

import os

from go_health_hook import files, override
from go_health_hook.announce.publish import note
from go_health_hook.deadline import Deadline
from go_health_hook.errors import BadInput
from go_health_hook.gates.staged import PATH_UNIT, STAGED_UNIT
from go_health_hook.linux import image
from go_health_hook.run import process

START_SECONDS = 5.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from go_health_hook.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Either a span with its reason, or --clear; neither shows what is in force."""
    parser.add_argument("--for", dest="span", metavar="SPAN", help="how long, as 2h, 90m or 1d; up to 30 days")
    parser.add_argument("--reason", metavar="TEXT", help="why; it is shown in every report while the override lasts")
    parser.add_argument("--clear", action="store_true", help="end the override now")


def run(args: argparse.Namespace, settings: Config) -> int:
    """Set, end or show the override; root alone may change it."""
    if args.root != "/":
        raise BadInput("an override is this machine's: below another root nothing is written", hint="leave --root out")
    if args.clear and (args.span or args.reason):
        raise BadInput("--clear takes neither --for nor --reason", hint="give one or the other")
    found: override.Override | None
    if args.clear or args.span or args.reason:
        if os.geteuid() != 0:
            raise BadInput("only root may override the gates", hint="sudo go-health-hook override …")
        found, message = _cleared() if args.clear else _set(args)
        _judge_again()
    else:
        found = override.in_force()
        message = f"Updates are {found.line()}" if found else "No override is in force."
    if args.json:
        import json

        message = json.dumps({"schema": 1, "override": found.to_dict() if found else None}, indent=2)
    print(message)
    return 0


def _judge_again() -> None:
    """Have what is staged judged again: the path unit does not see an override. A gate that is off stays so."""
    limit = Deadline(START_SECONDS)
    if image.here() is not None and process.run_host("systemctl", ["is-active", "--quiet", PATH_UNIT], limit).ok:
        process.run_host("systemctl", ["start", "--no-block", STAGED_UNIT], limit)


def _cleared() -> tuple[None, str]:
    if not override.clear():
        return None, "There was no override."
    note("override-cleared", f"The override has been ended by {_who()}")
    return None, "The override has ended."


def _set(args: argparse.Namespace) -> tuple[override.Override, str]:
    if not args.span:
        raise BadInput("--for is missing", hint="say how long: --for 2h")
    if not (args.reason or "").strip():
        raise BadInput("--reason is missing", hint="say why: it is shown in every report while the override lasts")
    made = override.write(override.parse_duration(args.span), args.reason.strip(), _who())
    line = f"Updates are {made.line()}"
    note("override-set", line)
    return made, line


def _who() -> str:
    """The person behind root, as far as is known."""
    name = os.environ.get("SUDO_USER", "")
    if not name:
        import pwd

        try:
            name = pwd.getpwuid(int(files.head("/proc/self/loginuid"))).pw_name
        except (ValueError, KeyError, OverflowError):
            name = ""
    return name or "root"
