# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's real runtime on a machine that it takes for one of eight CPUs, so that a quota shows on any machine.

The one change to Go's sources is the count of the affinity mask: how a limit is found and applied is Go's own.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.testbed import cache

if TYPE_CHECKING:
    from pathlib import Path

CPUS = 8
COUNT = "func getCPUCount() int32 {\n"
PROGRAM = 'package main\n\nimport "runtime"\n\nfunc main() { println(runtime.GOMAXPROCS(0)) }\n'


def toolchain(version: str) -> Path:
    """The GOROOT of a real release in the cache."""
    goroot = cache.home() / "go" / version
    if not (goroot / "bin/go").exists():
        pytest.skip(f"Go {version} is not in {goroot}: make testbed fetches it")
    return goroot


def program(version: str) -> Path:
    """A static program that prints its GOMAXPROCS on stderr and ends."""
    goroot = toolchain(version)

    def build(folder: Path) -> None:
        (folder / "src").mkdir()
        (folder / "src/go.mod").write_text(f"module eight\ngo {version}\n")
        (folder / "src/main.go").write_text(PROGRAM)
        source = goroot / "src/runtime/os_linux.go"
        text = source.read_text()
        assert text.count(COUNT) == 1
        changed = f"{COUNT}\treturn {CPUS}\n}}\n\nfunc countedCPUs() int32 {{\n"
        (folder / "os_linux.go").write_text(text.replace(COUNT, changed))
        (folder / "overlay.json").write_text(json.dumps({"Replace": {str(source): str(folder / "os_linux.go")}}))
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "GOCACHE": str(folder / "build"),
            "GOENV": "off",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        go: list[str | Path] = [
            goroot / "bin/go",
            "build",
            "-overlay",
            folder / "overlay.json",
            "-o",
            folder / "eight",
            ".",
        ]
        subprocess.run(go, cwd=folder / "src", env=env, check=True)
        subprocess.run([goroot / "bin/go", "clean", "-cache"], cwd=folder, env=env, check=True)

    return cache.built(f"eight-cpus-{version}", [version, COUNT, PROGRAM, str(CPUS)], build) / "eight"
