# SPDX-License-Identifier: GPL-2.0-or-later
"""The package itself: wired by its installation, harmless when damaged, gone without a trace when it is removed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from go_health_hook.go import unpack
from tests.dnf.machines import (
    ONCE,
    SUITES,
    assert_done,
    assert_nothing_left,
    assert_vetoed,
    go,
    hello,
    machine,
    recorded,
    said,
    truncate_go,
    update,
)
from tests.leftovers import DEAD
from tests.testbed import baseline, cache, extras, journal, repository, rpms
from tests.testbed.machine import Machine
from tests.testbed.updaters import UPDATERS, dnf
from tests.toolchains import deadfs

pytestmark = pytest.mark.root
WIRED = {
    "forky": ["go-health-hook", "go-health-hook-dnf5", "go-health-hook-tools"],
    "bookworm": ["go-health-hook", "go-health-hook-tools", "python3-dnf-plugin-go-health-hook"],
}
AUTOMATIC = {"forky": "dnf5 automatic", "bookworm": "dnf-automatic"}
GATES = {"forky": "dnf5", "bookworm": "dnf4"}
OURS = "*go[-_]health*"


@pytest.mark.parametrize("suite", SUITES)
def test_from_the_packages_alone(suite: str) -> None:
    """Installed, dry run, one veto, one pass, removed: nothing of it is left."""
    with Machine(baseline.with_go(suite)) as m:
        repository.offer(m, rpms.own_rpms(suite).values(), "hook")
        assert_done(dnf(m, "install", "go-health-hook"))
        assert sorted(m.run("rpm -qa --qf '%{name}\\n' | grep health").stdout.split()) == WIRED[suite]
        assert m.run(f"rpm -V {' '.join(WIRED[suite])}").stdout == ""
        assert "would be allowed" in m.run("go-health-hook --dry-run").stdout
        repository.offer(m, [extras.hello(2)])
        m.run("cp -a /usr/lib/golang/bin/go /root/go")
        truncate_go(m)
        assert_vetoed(update(m, suite, AUTOMATIC[suite]))
        assert hello(m) == "1"
        m.run("cp -a /root/go /usr/lib/golang/bin/go")
        assert_done(update(m, suite, AUTOMATIC[suite]))
        assert hello(m) == "2"
        m.run("go-health-hook override --for 1h --reason trying")
        assert m.run(f"rpm -V {' '.join(WIRED[suite])}").stdout == ""
        assert_done(dnf(m, "install", "go-health-hook-tuning"))
        for name in ("open-files", "tasks", "build-slice"):
            m.run(f"go-health-hook tune --apply {name}")
        applied = m.run("find /etc/systemd -name '50-go-health-hook-*'").stdout.split()
        assert len(applied) >= 3
        assert_done(dnf(m, "remove", "go-health-hook"))
        m.run("rm /etc/yum.repos.d/hook.repo")
        left = m.run(
            ["find", "/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path", "/srv/*", "-name", OURS]
        ).stdout
        assert not left
        assert not m.path("/run/go-health-hook").exists()


@pytest.mark.parametrize("suite", SUITES)
def test_it_is_upgraded_and_downgraded(suite: str) -> None:
    with machine(suite) as m:
        newer = rpms.own_rpms(suite, newer=True)
        repository.offer(m, newer.values())
        assert_done(dnf(m, "upgrade"))
        assert m.run("rpm -q go-health-hook").stdout.strip() in newer["go-health-hook"].name
        truncate_go(m)
        repository.offer(m, [extras.hello(2), *rpms.own_rpms(suite).values()])
        assert_vetoed(dnf(m, "upgrade"))
        assert_done(dnf(m, "downgrade", *WIRED[suite]))
        assert_vetoed(dnf(m, "upgrade", "hello"))


DAMAGE = {
    "python gone": "rm /usr/bin/python3",
    "module half deleted": "rm /usr/lib/go-health-hook/go_health_hook/gates/_dnf.py "
    "/usr/lib/go-health-hook/go_health_hook/gates/__pycache__/_dnf.*",
    "modules gone": "rm -r /usr/lib/go-health-hook",
    "module damaged": "echo 'def broken(:' >/usr/lib/go-health-hook/go_health_hook/config.py",
    "launcher gone": "rm /usr/libexec/go-health-hook/gate",
    "launcher not executable": "chmod 0644 /usr/libexec/go-health-hook/gate",
    "library gone": "rm /usr/lib/python3*/json/__init__.py",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_dnf5_works_when_the_hook_is_damaged(damage: str) -> None:
    with machine("forky") as m:
        truncate_go(m)
        m.run(DAMAGE[damage])
        repository.offer(m, [extras.hello(2), extras.hello(1, "goodbye")])
        assert_done(dnf(m, "upgrade"))
        assert hello(m) == "2"
        assert_done(dnf(m, "install", "goodbye"))
        assert "ERROR Actions plugin" in m.read("/var/log/dnf5.log"), "it is said in dnf5's log"
        assert_done(dnf(m, "remove", "go-health-hook"))


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d not in ("python gone", "library gone")])
def test_dnf4_works_when_the_hook_is_damaged(damage: str) -> None:
    with machine("bookworm") as m:
        truncate_go(m)
        m.run(DAMAGE[damage])
        repository.offer(m, [extras.hello(2)])
        done = dnf(m, "upgrade")
        assert_done(done)
        assert hello(m) == "2"
        assert "nothing was judged" in m.read("/var/log/dnf.log")
        assert_done(dnf(m, "remove", "go-health-hook"))


@pytest.mark.parametrize("suite", SUITES)
def test_a_broken_configuration_is_said_and_holds_nothing_back(suite: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        m.write("/etc/go-health-hook.conf", "[dnf]\ntransaction = off\n")
        repository.offer(m, [extras.hello(2)])
        done = dnf(m, "upgrade")
        assert_done(done)
        line = "/etc/go-health-hook.conf:2: unknown key transaction"
        assert line in said(done)
        (run,) = recorded(m)["gates"].values()
        assert run["exit_status"] == 4 and line in run["reason"]


@pytest.mark.parametrize("suite", SUITES)
def test_an_override_lets_updates_through_until_it_ends(suite: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2)])
        bad = m.run(ONCE.replace("2h", "2 weeks").split(), check=False)
        assert bad.returncode == 2 and bad.stderr.count("\n") == 1
        shown = m.run("go-health-hook override --for 2h --reason 'the mirror is broken'").stdout
        assert "2 h left" in shown and "the mirror is broken" in shown
        done = update(m, suite, AUTOMATIC[suite])
        assert_done(done)
        assert "the update goes on although" in said(done) and "the mirror is broken" in said(done)
        assert hello(m) == "2"
        m.run("rpm -U --oldpackage /srv/repositories/*/hello-1-1.noarch.rpm")
        m.run("go-health-hook override --clear")
        assert_vetoed(dnf(m, "upgrade"))


def test_an_override_is_heeded_only_from_root_and_in_its_time() -> None:
    path = "/var/lib/go-health-hook/override.json"
    with machine("forky") as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2)])
        m.run("go-health-hook override --for 2h --reason test")
        sound = json.loads(m.read(path))
        for change in (
            {"set": sound["set"] - 3 * 3600, "boot": "another"},
            {"set": sound["set"] + 3600, "boot": "another"},
            {"clock": sound["clock"] - 3 * 3600},
            {"seconds": 1e12},
            {"seconds": "much"},
        ):
            m.write(path, json.dumps({**sound, **change}))
            assert_vetoed(dnf(m, "upgrade"))
        m.write(path, json.dumps(sound))
        m.run(f"chown 1000 {path}")
        assert_vetoed(dnf(m, "upgrade"), "not used")
        m.run(f"chown 0 {path}; chmod 0666 {path}")
        assert_vetoed(dnf(m, "upgrade"), "not used")
        m.run(f"chmod 0644 {path}")
        assert_done(dnf(m, "upgrade"))


@pytest.mark.parametrize("suite", SUITES)
def test_a_full_disk(suite: str) -> None:
    with machine(suite) as m:
        journal.start(m)
        m.run("mkdir -p /run/systemd/system")
        m.run("mount -t tmpfs -o size=1m,mode=0700 small /var/cache/go-health-hook")
        repository.offer(m, go(suite, "truncated"))
        assert_vetoed(dnf(m, "upgrade"), "is cut short")
        m.run("mkdir -p /run/go-health-hook && mount -t tmpfs -o size=1m small /run/go-health-hook")
        m.run("mount -t tmpfs -o noexec none /tmp")
        done = dnf(m, "upgrade", "golang*")
        assert_done(done)
        assert "the incoming Go is not judged: nowhere to look into them" in said(done)
        assert "The update goes on" in said(done)
        events = [e["MESSAGE"] for e in journal.entries(m, "GO_HEALTH_GATE=" + GATES[suite], "EXIT_STATUS=4")]
        assert len(events) == 1 and events[0].startswith("Nothing decided") and "nowhere to look" in events[0]
        (run,) = recorded(m)["gates"].values()
        assert run["verdict"] == "block" and run["subject"] == "running", "it was looked at again afterwards"
        assert_nothing_left(m)


@pytest.mark.parametrize("suite", SUITES)
def test_a_var_that_cannot_be_written(suite: str) -> None:
    with machine(suite) as m:
        m.run("mkdir -p /kept /var/cache/libdnf5 /var/cache/dnf /var/lib/dnf && mount --bind /var /kept")
        m.run("mount --bind /var /var && mount -o remount,bind,ro /var")
        for what in ("lib/rpm", "lib/dnf", "cache/libdnf5", "cache/dnf", "log"):  # dnf's own
            m.run(f"mount --bind /kept/{what} /var/{what}")
        assert m.run("touch /var/lib/go-health-hook/x", check=False).returncode
        repository.offer(m, go(suite, "truncated"), http=True)
        assert_vetoed(dnf(m, "upgrade"), "is cut short")
        assert_nothing_left(m)


def test_a_disk_that_fills_up_meanwhile_or_has_no_inodes_left() -> None:
    with machine("forky") as m:
        m.run("mkdir -p /run/go-health-hook && mount -t tmpfs -o size=1g,nr_inodes=1500 few /run/go-health-hook")
        m.run("mount -t tmpfs -o size=20m,mode=0700 small /var/cache/go-health-hook")
        # So that it is found out while it is written: others write there too.
        module = "/usr/lib/go-health-hook/go_health_hook/go/unpack.py"
        m.run(f"sed -i 's/^SPARE = .*/SPARE = -1 << 40/' {module} && grep -q '^SPARE = -1' {module}")
        repository.offer(m, go("forky", "truncated"))
        assert_vetoed(dnf(m, "upgrade"), "is cut short")
        assert_nothing_left(m)
        m.run("mount -t tmpfs -o size=20m small /tmp")
        done = dnf(m, "upgrade", "golang*")
        assert_done(done)
        line = "nowhere to look into them: /var/cache/go-health-hook: "
        assert line in said(done) and "/run/go-health-hook: has no room for" in said(done)
        assert_nothing_left(m)


HANG = """
import sys
from pathlib import Path
from deadfs import dead_mount
with dead_mount(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("suite", SUITES)
def test_a_disk_that_does_not_answer_takes_the_gate_no_longer(suite: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        m.write("/root/deadfs.py", Path(deadfs.__file__).read_text())
        m.write("/root/hang.py", HANG)
        m.run("test -e /dev/fuse || mknod /dev/fuse c 10 229")
        hanging = m.start(["python3", "/root/hang.py", "/var/lib/go-health-hook"], stdin=subprocess.PIPE)
        assert hanging.stdout and hanging.stdout.readline() == "ready\n"
        repository.offer(m, [extras.hello(2)])
        assert_vetoed(dnf(m, "upgrade"), "is cut short", "override.json: cannot be read in time")
        hanging.kill()


@pytest.mark.parametrize("suite", SUITES)
def test_two_transactions_at_once(suite: str) -> None:
    with machine(suite) as m:
        repository.offer(m, [extras.hello(2), *go(suite, "1.27.3")])
        program = "dnf5" if suite == "forky" else "dnf"
        both = [m.start([program, "-y", "upgrade", what]) for what in ("hello", "golang*")]
        for process in both:
            out, err = process.communicate(timeout=DEAD)
            assert process.returncode == 0, out + err
        assert hello(m) == "2"
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)


def test_what_a_killed_run_has_left_is_swept() -> None:
    with machine("forky") as m:
        dead = f"/tmp/{unpack.PREFIX}dead"
        foreign = "/tmp/incoming-mail"
        m.run(f"mkdir -p {dead}/root {foreign}/root && touch -d '2 hours ago' {dead} {foreign}")
        m.run("mount -t tmpfs -o size=1m small /var/cache/go-health-hook")
        m.run("mkdir -p /run/go-health-hook && mount -t tmpfs -o size=1m small /run/go-health-hook")
        repository.offer(m, go("forky", "1.27.3"))
        assert_done(dnf(m, "upgrade"))
        assert m.path(foreign).is_dir(), "what is not its own"
        assert_nothing_left(m)


def test_the_gate_of_dnf5_is_packed_where_there_is_a_dnf5() -> None:
    assert "go-health-hook-dnf5" in rpms.own_rpms("forky")
    assert "go-health-hook-dnf5" not in rpms.own_rpms("bookworm")


def test_rpmlint_has_nothing_to_say() -> None:
    if not shutil.which("rpmlint"):
        pytest.skip("rpmlint is not installed: packaging/dev/host-packages testbed installs it")
    config = cache.TREE / "packaging/rpmlint/go-health-hook.toml"
    built = [*rpms.own_rpms("forky").values(), cache.TREE / "go-health-hook.spec"]
    done = subprocess.run(
        ["rpmlint", "-c", config, *built], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout


def test_every_updater_of_the_testbed_is_covered() -> None:
    assert set(AUTOMATIC) == set(UPDATERS) == set(WIRED)
