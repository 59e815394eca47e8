# SPDX-License-Identifier: GPL-2.0-or-later
"""`make zoo`: a table of all cases, and how many healthy ones were held back and how many broken ones let through."""

from __future__ import annotations

import sys

from tests.zoo.case import BROKEN, collected
from tests.zoo.runner import install, remove, run_all, wrong


def main() -> int:
    """Print the table; return 1 where a case is not as it says. Arguments are parts of the names wanted."""
    wanted = [c for c in collected().values() if not sys.argv[1:] or any(a in c.name for a in sys.argv[1:])]
    cases = [(case, version) for case in wanted for version in case.releases]
    held_back = let_through = failed = 0
    program = install()
    words: dict[object, str] = {True: "yes", False: "no"}
    print(f"{'case':44} {'Go':8} {'builds':7} {'expected':11} {'held back':10}")
    try:
        for case, version, result in run_all(program, cases):
            trouble = wrong(case, result)
            builds = words.get(result.get("works"), "?")
            blocked = words.get(result.get("blocked"), "?")
            print(f"{case.name:44} {version:8} {builds:7} {case.expected:11} {blocked:10}", flush=True)
            if trouble:
                failed += 1
                print(f"    WRONG: {trouble}", flush=True)
            held_back += case.works and result.get("blocked") is True
            let_through += case.expected == BROKEN and result.get("blocked") is False
    finally:
        remove(program)
    print(f"{len(cases)} cases; healthy held back: {held_back}; broken let through: {let_through}; wrong: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
