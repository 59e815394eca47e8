# SPDX-License-Identifier: GPL-2.0-or-later
"""Real toolchains, copies of them to break, and the installed hook to judge them with."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.leftovers import DEAD
from tests.testbed import cache

TOP = Path(__file__).parents[2]
CACHE = Path(subprocess.check_output([TOP / "packaging/dev/cache-dir"], text=True).strip())
VERSIONS = ["1.21.13", "1.24.11", "1.25.5", "1.27.3"]


def real(version: str) -> Path:
    path = CACHE / "go" / version
    if not (path / ".ready").exists():
        pytest.skip(f"Go {version} is not in the cache: make test fetches it (packaging/dev/fetch-go)")
    return path


class Hook:
    """The installed program."""

    def __init__(self, root: Path) -> None:
        self.program = root / "usr/bin/go-health-hook"

    def __call__(self, *args: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(self.program), *map(str, args)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=DEAD, check=False, env=env, errors="strict")

    def judge(self, goroot: Path, *args: str) -> tuple[int, dict[str, Any]]:
        """The exit status and the JSON of a real (not dry) run."""
        done = self("--json", "--goroot", goroot, *args)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


# What nothing reads that builds a program: two files of three, and most of the time that a copy takes.
FOR_TESTS = r"\( -name testdata -o -name '*_test.go' -o -path ./test \) -prune"


def without_tests(version: str) -> Path:
    """Return a tree of hard links to a real toolchain, without Go's own tests; made once."""
    whole = real(version)
    script = f'cp -al "$0" "$1" && cd "$1" && find . {FOR_TESTS} -exec rm -r {{}} +'

    def link(new: Path) -> None:
        subprocess.run(["sh", "-c", script, whole, new / "go"], check=True)

    return cache.built(f"go-without-tests-{version}", [script, str(whole)], link) / "go"


def copy(version: str, into: Path) -> Path:
    """A tree of hard links to a real toolchain: replace files in it, never write to them."""
    goroot = into / "go"
    subprocess.run(["cp", "-al", without_tests(version), goroot], check=True)
    return goroot


def replace(path: Path, data: bytes, mode: int = 0o755) -> None:
    """A new file in a hard link's place."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def build_badgo() -> Path:
    """The go that misbehaves as the file `mode` in its GOROOT says, built by a real one and kept."""
    source = TOP / "tests/toolchains/badgo"
    built = (
        CACHE / "badgo" / hashlib.sha256(b"".join(p.read_bytes() for p in sorted(source.glob("*.go")))).hexdigest()[:16]
    )
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        goroot = CACHE / "go/1.27.3"
        env = {
            "PATH": "/usr/bin:/bin",
            "GOROOT": str(goroot),
            "GOCACHE": str(CACHE / "go-build"),
            "GOFLAGS": "-mod=mod",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "HOME": str(CACHE),
            "CGO_ENABLED": "0",
        }
        fresh = built.with_suffix(".new")
        subprocess.run([goroot / "bin/go", "build", "-o", fresh, "."], cwd=source, env=env, check=True)
        fresh.rename(built)
    return built


# What the misbehaving go does, and the exit status of the hook for it.
MISBEHAVIOUR = {
    "hangs": 3,
    "ignores SIGTERM": 3,
    "answers late": 3,
    "forks and leaves": 1,
    "prints 1 GB": 1,
    "prints non-UTF-8": 1,
    "eats memory": 1,
    "crashes by signal": 1,
    "error beside its version": 1,
}
