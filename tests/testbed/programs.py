# SPDX-License-Identifier: GPL-2.0-or-later
"""Small static Go programs, each built on this machine by a real toolchain, to be run where their CPUs are limited."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.testbed import cache, disks

# The source needs runtime and os alone: a toolchain compiles those in seconds.
SOURCE = r"""
// Says what the runtime took: "GOMAXPROCS=N NumCPU=N".
//	procs             once
//	procs ask         at the start, and again for every line of its input, until that ends; "set N" sets it first
//	procs sleep       at the start, then sleeps until it is killed
//	procs burn N M    at the start, then works in N goroutines for M million steps each, and again at the end
package main

import (
	"os"
	"runtime"
	"time"
)

func say() {
	os.Stdout.WriteString("GOMAXPROCS=" + digits(runtime.GOMAXPROCS(0)) + " NumCPU=" + digits(runtime.NumCPU()) + "\n")
}

func digits(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return digits(n/10) + digits(n%10)
}

func number(text string) int {
	n := 0
	for _, c := range text {
		n = n*10 + int(c-'0')
	}
	return n
}

func line() (string, bool) {
	var text []byte
	one := make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(one); n == 0 || err != nil {
			return "", false
		}
		if one[0] == '\n' {
			return string(text), true
		}
		text = append(text, one[0])
	}
}

func main() {
	say()
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case "ask":
		for text, more := line(); more; text, more = line() {
			if len(text) > 4 && text[:4] == "set " {
				runtime.GOMAXPROCS(number(text[4:]))
			}
			say()
		}
	case "sleep":
		for {
			time.Sleep(time.Hour)
		}
	case "burn":
		workers, steps := number(os.Args[2]), number(os.Args[3])*1000000
		done := make(chan uint64)
		for i := 0; i < workers; i++ {
			go func() {
				sum := uint64(1)
				for j := 0; j < steps; j++ {
					sum = sum*6364136223846793005 + 1442695040888963407
				}
				done <- sum
			}()
		}
		for i := 0; i < workers; i++ {
			<-done
		}
		say()
	}
}
"""


def procs(version: str, go_line: str | None = "", stripped: bool = False) -> Path:
    """The program (SOURCE says how it is used), built by that toolchain.

    go_line: what the module's go.mod says, the toolchain's own line if nothing is said, None for no module at all.
    """
    line = ".".join(version.split(".")[:2]) if go_line == "" else go_line
    name = f"procs-{version}-{'nomod' if line is None else f'mod{line}'}{'-stripped' if stripped else ''}"

    def build(new: Path) -> None:
        (new / "src").mkdir()
        (new / "src/main.go").write_text(SOURCE)
        if line is not None:
            (new / "src/go.mod").write_text(f"module procs\n\ngo {line}\n")
        goroot = disks.toolchain(version)
        subprocess.run(
            [goroot / "bin/go", "build", "-trimpath", "-buildvcs=false", *(["-ldflags=-s -w"] if stripped else []),
             "-o", new / name, "main.go" if line is None else "."],
            cwd=new / "src",
            env={
                "PATH": os.defpath, "HOME": str(new), "GOROOT": str(goroot), "GOCACHE": str(compiled(version)),
                "GOENV": "off", "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0",
                "GO111MODULE": "on",
            },
            check=True,
        )  # fmt: skip

    return cache.built(name, [version, str(line), str(stripped), SOURCE], build) / name


def compiled(version: str) -> Path:
    """That toolchain's build cache, shared by the programs, so that the standard library is compiled once."""
    folder = cache.home() / "testbed" / f"gocache-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
