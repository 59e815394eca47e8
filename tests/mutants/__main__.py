# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.mutants [WORD …]: break one decision after another, and list those that `make check` does not notice.

With words, only mutations of files whose names hold one. The tests named for a file are run first; all unit tests have
their turn only where those notice nothing. Exit status 1 where more than FEW survive, or one cannot be made any more.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.mutations import MUTATIONS, TESTS, Mutation

TREE = Path(__file__).resolve().parents[2]
FEW = 5


def copied(target: Path) -> Path:
    """Copy the working tree, what git ignores left out."""
    listing = subprocess.run(
        ["git", "-C", TREE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    for name in listing.stdout.split("\0"):
        if name and (TREE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, target / name)
    return target


def passes(tree: Path, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def survives(tree: Path, mutation: Mutation) -> bool:
    path = tree / "hook/go_health_hook" / mutation.file
    whole = path.read_text()
    path.write_text(whole.replace(mutation.old, mutation.new))
    try:
        return passes(tree, [f"tests/unit/{name}" for name in TESTS[mutation.file]]) and passes(tree, ["tests/unit"])
    finally:
        path.write_text(whole)


def main(words: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not words or any(word in m.file for word in words)]
    stale = [m for m in chosen if (TREE / "hook/go_health_hook" / m.file).read_text().count(m.old) != 1]
    for mutation in stale:
        print(f"cannot be made: {mutation}")
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        workers = max(1, min(4, os.cpu_count() or 1))
        for i in range(workers):
            trees.put(copied(Path(scratch) / str(i)))

        def one(mutation: Mutation) -> tuple[Mutation, bool]:
            tree = trees.get()
            try:
                return mutation, survives(tree, mutation)
            finally:
                trees.put(tree)

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for mutation, survived in pool.map(one, [m for m in chosen if m not in stale]):
                if survived:
                    survivors.append(mutation)
                    print(f"survives: {mutation}", flush=True)
    print(f"{len(chosen) - len(stale)} mutations, {len(survivors)} survive")
    return 1 if stale or len(survivors) > FEW else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
