# SPDX-License-Identifier: GPL-2.0-or-later
"""Go programs that say their GOMAXPROCS and wait for their input to end, built by real releases in several ways."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import cache
from tests.toolchains.trees import real

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """package main

import (
	"runtime"
	"syscall"
)

func main() {
	println("GOMAXPROCS", runtime.GOMAXPROCS(0))
	one := make([]byte, 1)
	for {
		if n, _ := syscall.Read(0, one); n <= 0 {
			return
		}
		if one[0] == '\\n' {
			println("GOMAXPROCS", runtime.GOMAXPROCS(0))
		}
	}
}
"""


class Way(NamedTuple):
    """How a program is built: by which release, with which go line, and how it is linked."""

    version: str
    go_line: str
    linked: str = "plain"


LINKED = {"plain": [], "stripped": ["-ldflags=-s -w"], "pie": ["-buildmode=pie"]}
WAYS = {
    "1.21": Way("1.21.13", "1.21"),
    "1.24": Way("1.24.11", "1.24"),
    "1.25": Way("1.25.5", "1.25"),
    "1.27": Way("1.27.3", "1.27"),
    "1.27, old go line": Way("1.27.3", "1.21"),
    "1.27, stripped": Way("1.27.3", "1.27", "stripped"),
    "1.27, old go line, stripped": Way("1.27.3", "1.21", "stripped"),
    "1.27, pie": Way("1.27.3", "1.27", "pie"),
}


def program(name: str) -> Path:
    """The program built that way (see WAYS)."""
    way = WAYS[name]
    goroot = real(way.version)

    def build(folder: Path) -> None:
        (folder / "main.go").write_text(SOURCE)
        (folder / "go.mod").write_text(f"module waiting\n\ngo {way.go_line}\n")
        gocache = cache.home() / "go-build"
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "GOCACHE": str(gocache),
            "GOENV": "off",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        command = [goroot / "bin/go", "build", "-trimpath", *LINKED[way.linked], "-o", folder / "waiting", "."]
        subprocess.run(command, cwd=folder, env=env, check=True)

    return cache.built(f"waiting-{way.version}-{way.go_line}-{way.linked}", [SOURCE, *way], build) / "waiting"
