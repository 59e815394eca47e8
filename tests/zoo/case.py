# SPDX-License-Identifier: GPL-2.0-or-later
"""A case of the zoo: one machine, where it is known from, whether Go works there, and what the hook has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

if TYPE_CHECKING:
    from tests.zoo.world import World

# What the findings on a toolchain come to.
HEALTHY = "healthy"
BROKEN = "broken"
NOT_JUDGED = "not-judged"
NOTHING = "nothing"  # there is no toolchain that the hook would judge

ALL = ("1.21.13", "1.24.11", "1.25.5", "1.27.3")
SOME = ("1.21.13", "1.25.5")
NEWEST = ("1.27.3",)


class Case(NamedTuple):
    """One machine.

    `make` builds it in a World. `source` is a public report or the layout's description. `expected` is one of the words
    above; an update is held back for BROKEN alone. `works` says whether `user` (uid, gid) can build a program that
    prints a line, with `path` as the search path; it is tried, so it cannot be wrong for long. `says` are words of the
    finding that decides, and `never` words that no finding may have. The program imports `program` besides fmt.
    `cure` finds a remedy in what the hook says (its first group); done as it stands, it leaves what `cured` says.
    `by` is the command that starts the hook, as an updater might be started.
    """

    name: str
    make: Callable[[World], object]
    source: str
    expected: str
    works: bool
    releases: tuple[str, ...] = NEWEST
    user: tuple[int, int] = (1000, 1000)
    path: str = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin"
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    program: str = "fmt"
    cure: str = ""
    cured: str = ""
    by: tuple[str, ...] = ()


# Remedies to be typed as they stand.
NOT_WRITABLE = r"(chmod -R go-w [^;]+)"
READABLE = r"(chmod -R o\+rX [^;]+)"
SILENT = r"set (\w+ = advisory) in \[checks\]"
UNPACKED = r"(remove \S+) first, then unpack the archive of one release there"
MOVED = r"(put one that only root can change in /usr/local or /opt)"
BY_HAND = r"(judge Go by hand)"  # where the updater's own surroundings are to blame
MOUNTED = r"in this mount namespace: (mount .+? /sys/fs/cgroup)"
NAMED = r"(?:Go in|starts Go in) (\S+?):? (?:name that|is not judged)"

CASES: dict[str, Case] = {}


def case(
    source: str,
    expected: str,
    works: bool,
    releases: tuple[str, ...] = NEWEST,
    user: tuple[int, int] = (1000, 1000),
    path: str = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin",
    says: tuple[str, ...] = (),
    never: tuple[str, ...] = (),
    program: str = "fmt",
    cure: str = "",
    cured: str = HEALTHY,
    by: tuple[str, ...] = (),
) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    """Put the function that makes a machine into the zoo, by its name."""

    def keep(make: Callable[[World], object]) -> Callable[[World], object]:
        name = make.__name__.replace("_", "-")
        assert name not in CASES, name
        words = (says, never, program, cure, cured, by)
        CASES[name] = Case(name, make, source, expected, works, releases, user, path, *words)
        return make

    return keep


def collected() -> dict[str, Case]:
    """Every case, in the order of the files."""
    from tests.zoo import absent, damage, layouts, mixtures, owners, settings, surroundings  # noqa: F401

    return CASES
