# SPDX-License-Identifier: GPL-2.0-or-later
"""A remedy is typed as it stands, on a machine with the real dnf, and Go is healthy afterwards."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.testbed import baseline, golang, repository
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
GOROOT = "/usr/lib/golang"
DAMAGE = {
    "cut short": f"truncate -s 5000000 {GOROOT}/bin/go",
    "of another release": f"echo go1.22.1 >{GOROOT}/VERSION",
    "without sources": f"rm -r {GOROOT}/src/crypto/x509",
    "without a compiler": f"rm {GOROOT}/pkg/tool/*/compile",
}
TYPED = re.compile(r"(dnf [a-z-]+ (?:'[^']+'|[\w*.-]+))")


def judged(machine: Machine) -> dict[str, Any]:
    done = machine.run("go-health-hook --budget 60 --json", check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == report["exit_status"]
    return report


@pytest.mark.parametrize("suite", ["forky", "bookworm"])
def test_what_a_blocking_finding_says_mends_go(suite: str) -> None:
    with Machine(baseline.with_hook(suite)) as machine:
        repository.offer(machine, sorted(golang.packages("1.25.5", golang.DISTS[suite]).values()), "updates")
        # As on Fedora; and a person says yes.
        machine.run("test -e /usr/bin/dnf || ln -s dnf5 /usr/bin/dnf")
        machine.run("mkdir -p /etc/dnf && printf '[main]\\nassumeyes=1\\n' >/etc/dnf/dnf.conf")
        assert judged(machine)["verdict"] == "allow"
        for name, damage in DAMAGE.items():
            machine.run(damage)
            report = judged(machine)
            assert report["verdict"] == "block", name
            remedies = [r["remedy"] for r in report["results"] if r["status"] == "fail" and r["severity"] == "required"]
            typed = TYPED.findall(remedies[0])
            assert typed, remedies
            for command in typed:
                done = machine.run(command, check=False, timeout=300)
                assert done.returncode == 0, f"{name}: {command}\n{done.stdout}{done.stderr}"
            report = judged(machine)
            assert report["verdict"] == "allow", f"{name}: {typed}: {report['reason']}"


@pytest.mark.parametrize(("suite", "gate"), [("forky", "dnf5"), ("bookworm", "dnf4")])
def test_status_after_dnf_install_says_what_is_wired(suite: str, gate: str) -> None:
    with Machine(baseline.with_hook(suite)) as machine:
        done = machine.run("go-health-hook status --json", check=False)
        gates = {g["gate"]: g for g in json.loads(done.stdout)["gates"]}
        assert (done.returncode, gates[gate]["state"]) == (0, "wired"), gates[gate]
        machine.run("mkdir -p /etc/dnf && printf '[main]\\nplugins=0\\n' >/etc/dnf/dnf.conf")
        done = machine.run("go-health-hook status", check=False)
        assert done.returncode == 3
        assert "/etc/dnf/dnf.conf:2: plugins = 0" in done.stdout
