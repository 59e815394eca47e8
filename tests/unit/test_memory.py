# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory is there: the machine's, or the smallest limit of a cgroup above."""

from __future__ import annotations

from pathlib import Path

import pytest

from go_health_hook.linux import memory

MIB = 1 << 20


@pytest.mark.parametrize(
    ("total", "limits", "expected"),
    [
        (2048, {}, 2048),
        (2048, {"system.slice": "max", "system.slice/a.service": "max"}, 2048),
        (2048, {"system.slice": "max", "system.slice/a.service": str(96 * MIB)}, 96),
        (2048, {"system.slice": str(48 * MIB), "system.slice/a.service": str(96 * MIB)}, 48),
        (0, {"system.slice/a.service": "nonsense"}, 0),
    ],
)
def test_limit_is_the_smallest_of_machine_and_cgroups(
    tmp_path: Path, total: int, limits: dict[str, str], expected: int
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:  {total * 1024} kB\nMemFree: 1 kB\n" if total else "")
    (proc / "self/cgroup").write_text("0::/system.slice/a.service\n")
    for path, text in limits.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / "memory.max").write_text(f"{text}\n")
    assert memory.limit(str(proc), str(root)) == expected * MIB
