# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fleet runs already reads us: promtool the metrics and the rules, Ansible the local fact."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.testbed import baseline, cache
from tests.testbed.machine import Machine
from tests.unit.announcements import NOW, state_of

from go_health_hook.announce import metrics, record

RULES_TEST = Path(__file__).parent / "prometheus-rules-test.yml"


def promtool(*arguments: object, **options: Any) -> str:
    program = cache.home() / "promtool/promtool"
    if not program.exists():
        pytest.skip("promtool is not there: make testbed fetches it")
    done = subprocess.run(
        [program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_promtool_takes_the_metrics() -> None:
    state = state_of(("dnf5", "fail", NOW), ("boot", "pass", NOW))
    state.update(wired={"dnf5": True}, misaligned=1)
    for text in (metrics.render(state, NOW), metrics.render(record.empty(), NOW)):
        assert promtool("check", "metrics", input=text) == ""


def test_promtool_takes_the_rules_and_they_fire_when_they_should(installed: Path, tmp_path: Path) -> None:
    rules = installed / "usr/share/go-health-hook/prometheus-rules.yml"
    assert "SUCCESS: 6 rules found" in promtool("check", "rules", rules)
    test = tmp_path / "test.yml"
    test.write_text(RULES_TEST.read_text().replace("RULES", str(rules)))
    assert "SUCCESS" in promtool("test", "rules", test)


def test_rules_and_dashboard_ask_for_metrics_that_exist(installed: Path) -> None:
    share = installed / "usr/share/go-health-hook"
    known = {f"{metrics.PREFIX}{name}" for name in metrics.HELP}
    dashboard = json.loads((share / "grafana-dashboard.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    assert expressions
    for text in (*expressions, (share / "prometheus-rules.yml").read_text()):
        used = set(re.findall(rf"{metrics.PREFIX}\w+", text))
        assert used
        assert used <= known


def local_fact(installed: Path) -> dict[str, Any]:
    ansible = Path(sys.executable).parent / "ansible"
    if not ansible.exists():
        pytest.skip("ansible-core is not in the virtual environment: make testbed puts it there")
    facts = installed / "etc/ansible/facts.d"
    done = subprocess.run(
        [ansible, "-i", "localhost,", "-c", "local", "localhost", "-e", f"ansible_python_interpreter={sys.executable}",
         "-m", "ansible.builtin.setup", "-a", f"fact_path={facts} gather_subset=!all,!min,local filter=ansible_local"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, text = done.stdout.partition("=>")
    fact: dict[str, Any] = json.loads(text)["ansible_facts"]["ansible_local"]["go_health_hook"]
    return fact


def test_ansible_gets_the_status_as_a_local_fact(installed: Path) -> None:
    fact = local_fact(installed)
    assert fact["schema"] == 1
    assert {gate["gate"] for gate in fact["gates"]} == {
        "dnf5",
        "dnf4",
        "look",
        "offline",
        "rpm-ostree",
        "staged",
        "boot",
    }


def test_ansible_is_told_why_there_is_no_status(installed: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(installed, tree, symlinks=True)
    (tmp_path / "bad.conf").write_text('[dnf]\ntransactions = "\\no"\n')
    hook = tree / "usr/bin/go-health-hook"
    hook.rename(tree / "usr/bin/real")
    hook.write_text(f'#!/bin/sh\nexec {tree}/usr/bin/real --config {tmp_path}/bad.conf "$@"\n')
    hook.chmod(0o755)
    fact = local_fact(tree)
    assert fact["exit_status"] == 2
    assert 'bad.conf:2: transactions = "\\no"' in fact["error"]


@pytest.mark.root
@pytest.mark.machine
def test_an_override_is_set_shown_and_ended_in_json() -> None:
    with Machine(baseline.with_hook("forky")) as machine:
        for options, expected in (
            ("--for 2h --reason 'to try'", "to try"),
            ("", "to try"),
            ("--clear", None),
            ("--clear", None),
            ("", None),
        ):
            report = json.loads(machine.run(f"go-health-hook override {options} --json").stdout)
            assert report["schema"] == 1
            assert (report["override"] or {"reason": None})["reason"] == expected
