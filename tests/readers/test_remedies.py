# SPDX-License-Identifier: GPL-2.0-or-later
"""A remedy is typed as it stands, on a machine with the real dnf, and Go is healthy afterwards."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.testbed import baseline, golang, repository, rpms
from tests.testbed.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.machine]
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


PLUGINS = "/etc/dnf/libdnf5-plugins"
SHARE = "/usr/share/dnf5"


def main(path: str, *lines: str) -> str:
    """A command that writes a file of settings."""
    return f"mkdir -p {path.rpartition('/')[0]} && printf '[main]\\n%s\\n' {' '.join(map(repr, lines))} >{path}"


DNF5_SETTINGS = [
    main("/etc/dnf/dnf.conf", "plugins=0"),
    main("/etc/dnf/dnf.conf", "pluginpath=/opt"),
    main("/etc/dnf/dnf.conf", "pluginconfpath=/opt"),
    main("/etc/dnf/dnf.conf", "plugin_conf_dir=/opt"),
    main("/etc/dnf/dnf.conf", f"plugin_conf_dir=/opt, {PLUGINS}"),
    f"cp -r {PLUGINS} /opt/p && " + main("/etc/dnf/dnf.conf", "pluginconfpath=/opt/p"),
    main(f"{SHARE}/libdnf.conf.d/20.conf", "plugins=0"),
    main(f"{SHARE}/libdnf.conf.d/20.conf", "plugins=0") + "; " + main("/etc/dnf/libdnf5.conf.d/10.conf", "plugins=1"),
    main(f"{SHARE}/libdnf.conf.d/20.conf", "plugins=0") + "; " + main("/etc/dnf/libdnf5.conf.d/30.conf", "plugins=1"),
    main(f"{SHARE}/libdnf.conf.d/20.conf", "plugins=0") + "; " + main("/etc/dnf/libdnf5.conf.d/20.conf", "best=1"),
    main(f"{PLUGINS}/actions.conf", "name=actions", "enabled=0"),
    main(f"{PLUGINS}/actions.conf", "name=actions", "enabled=installroot-only"),
    main(f"{PLUGINS}/actions.conf", "name=actions", "enabled=ON"),
    main(f"{PLUGINS}/actions.conf", "enabled=1"),
    main(f"{PLUGINS}/zz.conf", "name=actions", "enabled=0"),
    f"mkdir -p {SHARE}/libdnf.plugins.conf.d; mv {PLUGINS}/actions.conf {SHARE}/libdnf.plugins.conf.d",
    f"mkdir -p {SHARE}/libdnf.plugins.conf.d; mv {PLUGINS}/actions.d {SHARE}/libdnf.plugins.conf.d",
    f"rm {PLUGINS}/actions.conf",
    f"rm {PLUGINS}/actions.d/go-health-hook.actions",
]


def test_status_calls_wired_what_dnf5_calls() -> None:
    """Each way of switching the gate off, or leaving it on, is asked of dnf5 itself: does it run our actions?"""
    counted = {True: 0, False: 0}
    for setting in DNF5_SETTINGS:
        with Machine(baseline.with_hook("forky")) as machine:
            machine.run(f"echo 'pre_base_setup::::/bin/touch /run/called' >>{PLUGINS}/actions.d/go-health-hook.actions")
            machine.run(setting)
            machine.run("dnf5 repolist", check=False)
            called = machine.path("/run/called").exists()
            done = machine.run("go-health-hook status --json", check=False)
            gate = {g["gate"]: g for g in json.loads(done.stdout)["gates"]}["dnf5"]
            assert (gate["state"] == "wired") == called, f"{setting}: {gate}"
            counted[called] += 1
    assert min(counted.values()) > 5


@pytest.mark.parametrize(
    "damage",
    [
        f"rm {PLUGINS}/actions.conf",
        f"rm {PLUGINS}/actions.d/go-health-hook.actions",
        f"sed -i /pre_transaction/d {PLUGINS}/actions.d/go-health-hook.actions",
        "rpm -e --nodeps go-health-hook-dnf5",
    ],
)
def test_what_status_says_wires_a_gate_in_again(damage: str) -> None:
    with Machine(baseline.with_hook("forky")) as machine:
        repository.offer(machine, rpms.own_rpms("forky").values(), "hook")
        machine.run(main("/etc/dnf/dnf.conf", "assumeyes=1"))
        machine.run(damage)
        done = machine.run("go-health-hook status --json", check=False)
        gate = {g["gate"]: g for g in json.loads(done.stdout)["gates"]}["dnf5"]
        assert (done.returncode, gate["state"]) == (3, "not wired")
        machine.run(gate["remedy"], timeout=300)
        assert machine.run("go-health-hook status", check=False).returncode == 0


def test_the_metrics_go_with_the_package() -> None:
    with Machine(baseline.with_hook("forky")) as machine:
        machine.run(
            "mkdir /srv/prom && printf '[announce]\\nmetrics-directory = /srv/prom\\n' >/etc/go-health-hook.conf"
        )
        machine.run("go-health-hook --budget 60")
        assert machine.run("ls /srv/prom").stdout == "go_health_hook.prom\n"
        machine.run("dnf5 -y remove go-health-hook")
        assert machine.run("ls /srv/prom").stdout == ""
