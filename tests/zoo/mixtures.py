# SPDX-License-Identifier: GPL-2.0-or-later
"""Toolchains of several releases: an archive unpacked over an older one, whole or in part."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Callable

from tests.zoo.case import ALL, BROKEN, HEALTHY, UNPACKED, case

if TYPE_CHECKING:
    from pathlib import Path

    from tests.zoo.world import World

REPORTS = {
    "1.21.13": "https://github.com/golang/go/issues/36180",
    "1.24.11": "https://github.com/golang/go/issues/60983",
    "1.25.5": "https://github.com/golang/go/issues/20798",
    "1.27.3": "https://github.com/golang/go/issues/19143",
}


def over(older: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.unpack("/usr/local/go", older, world.version)

    make.__name__ = f"archive_over_{older.replace('.', '_')}"
    return make


for before in ALL:
    others = tuple(version for version in ALL if version != before)
    case(REPORTS[before], BROKEN, False, others, says=("several releases",), cure=UNPACKED)(over(before))


def other(world: World) -> str:
    """A release two series away from the case's."""
    return "1.24.11" if world.version == "1.27.3" else "1.27.3"


def swap(world: World, name: str, *, merge: bool = False) -> Path:
    """Put another release's file or folder in the place of GOROOT's own, or over it."""
    goroot = world.unpack()
    source = world.go(other(world)) / name
    if merge:
        world.shell(f"cp -a {source}/. {goroot}/{name}/")
        return goroot
    own = goroot / name
    shutil.rmtree(own) if own.is_dir() else own.unlink()
    world.shell(f"cp -a {source} {own}")
    return goroot


PARTS = ("1.24.11", "1.27.3")


@case("https://github.com/golang/go/issues/57685", BROKEN, False, PARTS, says=("mixed GOROOT",))
def only_bin_of_another_release(world: World) -> None:
    swap(world, "bin")


@case("https://github.com/golang/go/issues/34214", BROKEN, False, PARTS, says=("mixed GOROOT",))
def only_pkg_of_another_release(world: World) -> None:
    swap(world, "pkg")


@case("https://github.com/golang/go/issues/36180", BROKEN, False, PARTS)
def only_src_of_another_release(world: World) -> None:
    swap(world, "src")


@case("https://github.com/golang/go/issues/36180", BROKEN, False, PARTS)
def only_the_runtime_of_another_release(world: World) -> None:
    swap(world, "src/runtime")


@case("https://github.com/golang/go/issues/20798", BROKEN, False, PARTS)
def runtime_of_another_release_over_ours(world: World) -> None:
    swap(world, "src/runtime", merge=True)


@case("https://github.com/beego/beego/issues/2572", BROKEN, False, PARTS)
def sources_of_another_release_over_ours(world: World) -> None:
    swap(world, "src", merge=True)


@case("https://github.com/golang/go/issues/60983", BROKEN, False, PARTS)
def internal_of_another_release(world: World) -> None:
    swap(world, "src/internal")


@case("https://github.com/golang/go/issues/60983", BROKEN, False, PARTS)
def internal_of_another_release_over_ours(world: World) -> None:
    swap(world, "src/internal", merge=True)


@case("https://github.com/golang/go/issues/48134: a file that an older release left", BROKEN, False, ALL)
def one_file_that_was_left_behind(world: World) -> None:
    goroot = world.unpack()
    world.write(goroot / "src/internal/goarch/old_goarch.go", "package goarch\n\nconst PtrSize = 8\n")


@case("a patch release mixed with another: all builds, so nothing is held back", HEALTHY, True)
def version_file_and_tools_alone_decide(world: World) -> None:
    goroot = world.unpack()
    world.write(goroot / "doc/old_notes.html", "1.27.2\n")
    world.write(goroot / "src/encoding/json/testdata/old.json.gz", b"old")
