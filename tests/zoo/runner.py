# SPDX-License-Identifier: GPL-2.0-or-later
"""Run cases of the zoo, two at a time, each in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import installed
from tests.zoo.case import BROKEN, Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TREE = Path(__file__).parents[2]
Result = dict[str, Any]


def install() -> Path:
    """Install the hook where every user can read it, as /usr is, and return its program."""
    top = Path(tempfile.mkdtemp(prefix="go-health-hook-zoo-", dir="/var/tmp"))
    top.chmod(0o755)
    installed.install(top)
    return top / "usr/bin/go-health-hook"


def remove(program: Path) -> None:
    shutil.rmtree(program.parents[2], ignore_errors=True)


def run_case(program: Path, case: Case, version: str) -> Result:
    """What became of one case on one release."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.zoo.world"]
    env = {**os.environ, "PYTHONPATH": f"{TREE}:{TREE / 'hook'}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, case.name, version, str(program)],
        cwd=TREE,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
    )
    try:
        result: Result = json.loads(done.stdout)
    except ValueError:
        result = {"error": (done.stderr or done.stdout)[-3000:]}
    return result


def run_all(program: Path, cases: Sequence[tuple[Case, str]]) -> Iterator[tuple[Case, str, Result]]:
    """Every case on its releases, in order, with what became of it."""
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)) + 1)) as pool:
        futures = [(case, version, pool.submit(run_case, program, case, version)) for case, version in cases]
        for case, version, future in futures:
            yield case, version, future.result()


def wrong(case: Case, result: Result) -> str:
    """Return what is not as the case says, or an empty string."""
    if "error" in result:
        return f"could not be run: {result['error']}"
    lines = "\n".join(result["lines"])
    if result["works"] is not case.works:
        return f"go build works: {result['works']}, {result['said']}"
    if result["blocked"] is not (case.expected == BROKEN):
        return f"updates held back: {result['blocked']}\n{lines}"
    if result["expected"] != case.expected:
        return f"{result['expected']} instead of {case.expected}\n{lines}"
    if case.cure and result.get("cured") != case.cured:
        return f"the remedy leaves {result.get('cured')!r}, not {case.cured!r}\n{lines}"
    missing = [word for word in case.says if word not in lines]
    unwanted = [word for word in case.never if word in lines]
    return f"words missing {missing}, unwanted {unwanted}\n{lines}" if missing or unwanted else ""
