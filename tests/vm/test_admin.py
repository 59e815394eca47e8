# SPDX-License-Identifier: GPL-2.0-or-later
"""What an admin meets on a machine whose updates are held back: journal, login, status, metrics, and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.testbed.vm import VM, Answer

from go_health_hook.announce import journal

pytestmark = pytest.mark.root

HOUR, DAY = 3600, 86400
PROM = "/var/lib/node_exporter"
# What dnf's plugin sends before it upgrades a package that has nothing to do with Go.
UPGRADE = {
    "packages": [
        {
            "name": "hello", "evr": "2-1", "arch": "noarch", "full": "hello-0:2-1.noarch", "action": "U",
            "coming": True, "path": "", "go": False,
        }
    ]
}  # fmt: skip


SITE = "/usr/lib/python3/dist-packages"

# Waits for what a gate leaves behind, too: it announces until the gate's answer is long given.
ALL_OF_IT = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
status = subprocess.run(sys.argv[1:]).returncode
try:
    while True:
        os.wait()
except ChildProcessError:
    sys.exit(status)
"""


def gate(vm: VM) -> Answer:
    """One update, as the gate of dnf 4 is asked about it."""
    script = 'exec python3 -c "$1" /usr/libexec/go-health-hook/gate dnf4 before $$'
    return vm.run(script, ALL_OF_IT, stdin=json.dumps(UPGRADE).encode())


def unannounced(answer: Answer) -> list[str]:
    return [line for line in answer.stderr.splitlines() if "not announced everywhere: " in line]


def breaks(vm: VM) -> None:
    vm.ok("ln -sfn /opt/go/broken /usr/local/go")


def mends(vm: VM) -> None:
    vm.ok("ln -sfn /opt/go/1.27.3 /usr/local/go")


def status(vm: VM) -> dict[str, Any]:
    answer = vm.run("go-health-hook status --json")
    report: dict[str, Any] = json.loads(answer.stdout)
    assert answer.status == report["exit_status"]
    return report


def entries(vm: VM, kind: str) -> list[dict[str, Any]]:
    vm.ok("journalctl --sync")  # on an emulated processor it may not have got to them yet
    return vm.journal(f"MESSAGE_ID={journal.MESSAGE_IDS[kind]}")


# Keeps the terminal open on its own side, since login(1) hangs it up before it begins.
LOGIN = """
import os, pty, select, subprocess, sys
master, terminal = pty.openpty()
os.set_blocking(master, False)
command = ["setsid", "--ctty", "login", "-f", "visitor"]
login = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
gone = os.pidfd_open(login.pid)
ended = False
while not ended:
    ended = gone in select.select([master, gone], [], [])[0]
    try:
        while True:
            os.write(1, os.read(master, 65536))
    except OSError:
        pass
sys.exit(login.wait())
"""


def login(vm: VM) -> str:
    """What somebody sees who logs in at a terminal: login(1) and its pam_motd. Their shell ends at once."""
    vm.ok("id visitor >/dev/null 2>&1 || useradd --no-create-home --shell /usr/bin/true visitor")
    answer = vm.run('exec python3 -c "$1"', LOGIN, timeout=300)
    assert answer.status == 0, answer
    return answer.stdout


@pytest.fixture
def machine(hooked: VM) -> Iterator[VM]:
    """The machine, nothing held back, budget enough for an emulated processor; afterwards as it was."""
    before = hooked.clock()
    mends(hooked)
    hooked.put(
        "/etc/go-health-hook.conf",
        f"[announce]\nmetrics-directory = {PROM}\n[budget]\ndnf = 60\ncheck = 60\n",
    )
    hooked.ok(f"mkdir -p {PROM}; rm -rf /var/lib/go-health-hook/* /etc/motd.d/go-health-hook")
    # Where status looks for dnf 4 and its plugin: what no updater here asks holds nothing back.
    hooked.put(f"{SITE}/dnf/__init__.py", "")
    hooked.put(f"{SITE}/dnf-plugins/go_health_hook.py", "")
    yield hooked
    hooked.set_clock(before)


def test_eight_days_of_blocked_updates_and_their_end(machine: VM) -> None:
    start = machine.clock()
    assert gate(machine).status == 0
    assert entries(machine, "allowed")[-1]["GO_HEALTH_GATE"] == "dnf4"
    assert status(machine)["held_back"] is None
    assert "Go" not in login(machine)

    breaks(machine)
    for after, priority, head in (
        (0, "4", "Updates are held back since"),
        (DAY + HOUR, "3", "WARNING: updates have been held back for 1 day"),
        (8 * DAY + HOUR, "2", "URGENT: updates have been held back for 8 days"),
    ):
        machine.set_clock(start + after)
        answer = gate(machine)
        assert answer.status == 1, answer
        assert "/usr/local/go" in answer.stdout or "/opt/go/broken" in answer.stdout
        last = entries(machine, "blocked")[-1]
        assert last["PRIORITY"] == priority
        assert head in login(machine)

    assert last["GO_HEALTH_VERDICT"] == "block"
    assert last["GO_HEALTH_GATE"] == "dnf4"
    assert last["GO_HEALTH_SUBJECT"] == "running /"
    assert "goroot" in last["GO_HEALTH_CHECK"]
    assert float(last["ELAPSED"]) > 0
    explained = machine.ok(f"journalctl --no-pager -x -n 1 MESSAGE_ID={journal.MESSAGE_IDS['blocked']}")
    assert "The gate dnf4 has stopped an update" in explained
    assert last["GO_HEALTH_REMEDY"] in explained
    report = status(machine)
    assert report["exit_status"] == 1
    assert report["held_back"]["seconds"] >= 8 * DAY
    assert report["blocks"][0]["count"] == 3
    assert 'go_health_hook_verdict_blocked{gate="dnf4"} 1' in machine.get(f"{PROM}/go_health_hook.prom").decode()
    # Anybody may read why.
    assert machine.login("dev", "go-health-hook status").status == 1

    mends(machine)
    assert gate(machine).status == 0
    assert "it was 8 days, 3 refused" in entries(machine, "released")[-1]["MESSAGE"]
    assert "held back" not in login(machine)
    assert machine.run("test -e /etc/motd.d/go-health-hook").status == 1
    report = status(machine)
    assert (report["exit_status"], report["blocks"], len(report["history"])) == (0, [], 1)
    assert 'go_health_hook_verdict_blocked{gate="dnf4"} 0' in machine.get(f"{PROM}/go_health_hook.prom").decode()


@pytest.mark.parametrize(
    ("what", "do", "undo", "says"),
    [
        (
            "the journal is down",
            "systemctl stop systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; "
            "rm -f /run/systemd/journal/socket",
            "systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service",
            "journal: ",
        ),
        (
            "/var is read-only",
            "mkdir -p /var/lib/go-health-hook; mount --bind /var /var && mount -o remount,bind,ro /var",
            "umount --lazy /var",
            "Read-only file system",
        ),
        (
            "/var is full",
            "mkdir -p /var/lib/go-health-hook; mount -t tmpfs -o size=8k full /var/lib/go-health-hook; "
            "head -c 64k /dev/zero >/var/lib/go-health-hook/fill; true",
            "umount /var/lib/go-health-hook",
            "No space left on device",
        ),
        ("the metrics directory is gone", f"rm -r {PROM}", "", "metrics: "),
    ],
)
def test_what_cannot_be_written_changes_no_verdict(machine: VM, what: str, do: str, undo: str, says: str) -> None:
    breaks(machine)
    expected = gate(machine)
    machine.ok(do)
    try:
        answer = gate(machine)
        person = machine.run("go-health-hook")
    finally:
        machine.ok(undo or "true")
    assert answer.status == expected.status == person.status == 1, what
    assert answer.stdout == expected.stdout
    # The gate is gone before a slow machine knows what went wrong; a person waits.
    assert len(unannounced(answer)) == 1, answer.stderr
    (line,) = unannounced(person)
    assert says in line


def test_a_persons_run_clears_what_was_about_the_running_go(machine: VM) -> None:
    breaks(machine)
    assert gate(machine).status == 1
    assert machine.run("go-health-hook").status == 1
    assert status(machine)["blocks"][0]["count"] == 1
    mends(machine)
    assert machine.run("go-health-hook --dry-run").status == 0
    assert status(machine)["exit_status"] == 1
    assert machine.run("go-health-hook").status == 0
    assert status(machine)["exit_status"] == 0


def test_systemd_takes_the_units_and_the_timer_refreshes(machine: VM) -> None:
    machine.ok("systemd-analyze verify --man=no /usr/lib/systemd/system/go-health-hook-status.timer")
    breaks(machine)
    gate(machine)
    machine.ok(f"rm {PROM}/go_health_hook.prom /etc/motd.d/go-health-hook")
    machine.ok("systemctl start go-health-hook-status.service")
    assert "go_health_hook_misaligned_processes" in machine.get(f"{PROM}/go_health_hook.prom").decode()
    assert machine.get("/etc/motd.d/go-health-hook").startswith(b"Updates are held back")

    machine.ok(f"rm -r {SITE}/dnf {SITE}/dnf-plugins && systemctl start go-health-hook-status.service")
    assert status(machine)["blocks"] == []
    # Nobody holds updates back any more. That Go is broken stays true until it is found sound.
    said = machine.get("/etc/motd.d/go-health-hook").decode()
    assert said.startswith("The Go toolchain on this machine is broken since")
    assert "held back" not in said
    mends(machine)
    assert machine.run("go-health-hook").status == 0
    assert machine.run("test -e /etc/motd.d/go-health-hook").status == 1


def test_status_shows_the_updaters_timers_as_systemd_sees_them(machine: VM) -> None:
    # dnf5-automatic itself is not on this machine: units of that name, run by the real systemd.
    folder = "/run/systemd/system"
    machine.put(f"{folder}/dnf5-automatic.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 7'\n")
    machine.put(f"{folder}/dnf5-automatic.timer", "[Timer]\nOnCalendar=daily\n")
    machine.ok("systemctl daemon-reload; systemctl start dnf5-automatic.timer; systemctl start dnf5-automatic; true")
    (timer,) = status(machine)["timers"]
    assert (timer["timer"], timer["active"]) == ("dnf5-automatic.timer", True)
    assert (timer["result"], timer["exit_status"]) == ("exit-code", 7)
    assert "dnf5-automatic.timer: active" in machine.run("go-health-hook status").stdout


def gates(vm: VM) -> dict[str, dict[str, str]]:
    return {gate["gate"]: gate for gate in status(vm)["gates"]}


@pytest.fixture
def image_system(machine: VM) -> Iterator[VM]:
    """The machine, taken for one that updates itself as images: rpm-ostree's units are stand-ins, systemd is not."""
    machine.ok("touch /run/ostree-booted")
    for unit in ("rpm-ostreed-automatic", "ostree-finalize-staged"):
        machine.put(f"/run/systemd/system/{unit}.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    machine.ok("systemctl daemon-reload; systemctl start go-health-hook-staged.path")
    yield machine
    machine.ok("systemctl stop go-health-hook-staged.path; rm /run/ostree-booted; systemctl daemon-reload")


@pytest.mark.parametrize(
    ("gate_name", "do", "undo"),
    [
        (
            "rpm-ostree",
            "mkdir -p /etc/systemd/system/rpm-ostreed-automatic.service.d; "
            "ln -s /dev/null /etc/systemd/system/rpm-ostreed-automatic.service.d/50-go-health-hook.conf",
            "",
        ),
        (
            "rpm-ostree",
            "mkdir -p /etc/systemd/system/rpm-ostreed-automatic.service.d; printf '[Service]\nExecStartPre=\n' "
            ">/etc/systemd/system/rpm-ostreed-automatic.service.d/90-mine.conf",
            "rm /etc/systemd/system/rpm-ostreed-automatic.service.d/90-mine.conf; systemctl daemon-reload",
        ),
        (
            "staged",
            "mkdir -p /etc/systemd/system/ostree-finalize-staged.service.d; "
            "ln -s /dev/null /etc/systemd/system/ostree-finalize-staged.service.d/50-go-health-hook.conf",
            "",
        ),
        ("staged", "systemctl mask go-health-hook-guard.service", ""),
        ("staged", "systemctl stop go-health-hook-staged.path", ""),
        ("boot", "systemctl mask go-health-hook-boot.service", ""),
    ],
)
def test_status_sees_what_systemd_sees(image_system: VM, gate_name: str, do: str, undo: str) -> None:
    assert gates(image_system)[gate_name]["state"] == "wired", gates(image_system)
    image_system.ok(f"{do}; systemctl daemon-reload")
    gate = gates(image_system)[gate_name]
    assert gate["state"] == "not wired"
    image_system.ok(undo or gate["remedy"])
    assert gates(image_system)[gate_name]["state"] == "wired", gate


def test_a_timer_that_has_not_run_since_the_boot_does_not_run(machine: VM) -> None:
    folder = "/run/systemd/system"
    machine.put(f"{folder}/dnf-automatic.service", "[Service]\nType=oneshot\nExecStart=/bin/cat /run/until\n")
    machine.put(f"{folder}/dnf-automatic.timer", "[Timer]\nOnCalendar=yearly\nPersistent=yes\n")
    machine.ok("mkfifo /run/until; touch /var/lib/systemd/timers/stamp-dnf-automatic.timer; systemctl daemon-reload")
    machine.ok("systemctl start dnf-automatic.timer")
    assert "has not run since this boot (" in timer_of(machine)
    machine.ok("systemctl start --no-block dnf-automatic.service")
    assert "still running (" in timer_of(machine)
    machine.ok("echo >/run/until; until [ $(systemctl show -P ActiveState dnf-automatic) = inactive ]; do :; done")
    assert "success (" in timer_of(machine)
    machine.ok("systemctl stop dnf-automatic.timer; rm /run/until /run/systemd/system/dnf-automatic.*")


def timer_of(vm: VM) -> str:
    """What status says of timers, in one line."""
    return " ".join(vm.run("go-health-hook status").stdout.partition("Timers\n")[2].split())
