# SPDX-License-Identifier: GPL-2.0-or-later
"""Go programs that say their GOMAXPROCS and wait for their input to end, built by real releases in several ways."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.testbed import cache
from tests.toolchains.trees import real

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


LINKED = {
    "plain": [],
    "stripped": ["-ldflags=-s -w"],
    "pie": ["-buildmode=pie"],
    "no version": ["-ldflags=-X=runtime.buildVersion=unknown"],
    "c-shared": ["-buildmode=c-shared"],
}
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


SHARED = """package main

import "C"
import "runtime"

//export Procs
func Procs() int { return runtime.GOMAXPROCS(0) }

func main() {}
"""


def program(name: str) -> Path:
    """The program built that way (see WAYS)."""
    way = WAYS[name]
    return _built(f"{way.version}-{way.go_line}-{way.linked}", way, SOURCE, "waiting")


def shared_library() -> Path:
    """A library of Go for C programs, with a function Procs that returns its GOMAXPROCS."""
    return _built("shared", Way("1.27.3", "1.27", "c-shared"), SHARED, "libwaiting.so", CGO_ENABLED="1")


def foreign() -> Path:
    """The program for 64-bit ARM, which runs here under qemu-user."""
    return _built("arm64", Way("1.27.3", "1.27"), SOURCE, "waiting", GOARCH="arm64")


def without_version() -> Path:
    """The program of Go 1.24 that calls its version "unknown", as obfuscators do."""
    return _built("unknown", Way("1.24.11", "1.24", "no version"), SOURCE, "waiting")


def packed(folder: Path) -> Path:
    """The program in an executable that unpacks it into memory, without section headers, as UPX makes them."""
    path = folder / "packed"
    source = Path(__file__).with_name("packed.c")
    options = ["-O1", "-static-pie", f'-DPAYLOAD="{program("1.27, stripped")}"']
    subprocess.run(["gcc", *options, "-o", path, source], check=True)
    data = bytearray(path.read_bytes())
    data[40:48] = bytes(8)  # e_shoff
    data[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
    path.write_bytes(data)
    return path


def _built(name: str, way: Way, source: str, output: str, **settings: str) -> Path:
    goroot = real(way.version)

    def build(folder: Path) -> None:
        (folder / "main.go").write_text(source)
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
            **settings,
        }
        go = goroot / "bin/go"
        command: list[str | Path] = [go, "build", "-trimpath", *LINKED[way.linked], "-o", folder / output, "."]
        subprocess.run(command, cwd=folder, env=env, check=True)

    return cache.built(f"waiting-{name}", [source, *way, *settings.values()], build) / output
