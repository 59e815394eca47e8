# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the gates that run in units: a priority only where the journal reads them, and under our own name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from go_health_hook.gates import _unit

HOOK = Path(__file__).parents[2] / "hook"
SCRIPT = """
import sys
from go_health_hook.gates import _unit
if len(sys.argv) > 1:
    _unit.STREAM = sys.argv[1]
    _unit.own_stream()
_unit.say(_unit.WARNING, "said\\n<3>forged")
"""


def lines(stdout: int, stream: str = "", known: bool = True) -> None:
    info = os.fstat(stdout)
    number = f"{info.st_dev}:{info.st_ino}" if known else "1:2"
    environment = {"PYTHONPATH": str(HOOK), "JOURNAL_STREAM": number}
    command = [sys.executable, "-c", SCRIPT, *([stream] if stream else [])]
    subprocess.run(command, stdout=stdout, env=environment, check=True)


def test_say_has_a_prefix_only_on_the_journals_own_stream(tmp_path: Path) -> None:
    for known, expected in ((True, "<4>said\\n<3>forged\n"), (False, "said\\n<3>forged\n")):
        with (tmp_path / "out").open("w+") as file:
            lines(file.fileno(), known=known)
            file.seek(0)
            assert file.read() == expected


def test_own_stream_connects_under_our_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server, (tmp_path / "out").open("w+") as file:
        server.bind(str(tmp_path / "journal"))
        server.listen(1)
        lines(file.fileno(), str(tmp_path / "journal"))
        connection, _ = server.accept()
        with connection:
            heard = connection.makefile().read()
        file.seek(0)
        assert file.read() == ""
    assert heard == f"go-health-hook\n\n{_unit.INFO}\n1\n0\n0\n0\n<4>said\\n<3>forged\n"


def test_own_stream_without_a_journal_leaves_the_lines_where_they_were(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as file:
        lines(file.fileno(), str(tmp_path / "none"))
        file.seek(0)
        assert file.read() == "<4>said\\n<3>forged\n"
