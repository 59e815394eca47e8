# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/CONTRACT.md promises is what the program gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from go_health_hook import cli, errors

CONTRACT = (Path(__file__).parents[2] / "docs/CONTRACT.md").read_text()


def section(title: str) -> str:
    return CONTRACT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    cli.main(words)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_contract_keys_of_a_check_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = printed(capsys, "--dry-run", "--json", "--goroot", str(tmp_path))
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (.*) \|$", section("JSON of a check"), re.M))
    promised = {name for names in rows if names != "key" for name in names.split(", ")}
    assert promised <= set(report)
    for name in ("subject", "results"):
        keys = set(re.findall(r"\w+", re.findall(r"\{(.*?)\}", rows[name])[0]))
        found = report[name][0] if name == "results" else report[name]
        assert keys <= set(found), name


def test_contract_every_exit_status_is_named() -> None:
    listed = {int(n) for n in re.findall(r"\b\d+\b", section("Exit status"))}
    known = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert known <= listed


def test_contract_every_command_is_named() -> None:
    named = set(re.findall(r"^    go-health-hook (?:\[.*)?([a-z]+)\b", section("Command line"), re.M))
    assert set(cli.commands()) - {"check"} <= named
