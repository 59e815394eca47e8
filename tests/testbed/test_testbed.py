# SPDX-License-Identifier: GPL-2.0-or-later
"""That the testbed holds what the tests lean on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import baseline, cache, extras, golang, journal, quota, repository, roots, rpms
from tests.testbed.machine import Failed, Machine
from tests.testbed.updaters import UPDATERS, dnf

pytestmark = pytest.mark.root
SUITES = ["forky", "bookworm"]
EVERY_UPDATER = [pytest.param(suite, name, id=name) for suite, by_name in UPDATERS.items() for name in by_name]


def mounts() -> list[str]:
    """What a machine mounts: below scratch/ other tests, which run at the same time, have their own."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if str(cache.home()) in line and f"{cache.home()}/scratch/" not in line]


@pytest.mark.parametrize("suite", SUITES)
def test_what_a_machine_writes_is_gone_with_it(suite: str) -> None:
    root = roots.debian(suite)
    with Machine(root) as machine:
        machine.run("echo it was here >/etc/probe && rm /etc/passwd")
        assert machine.read("/etc/probe") == "it was here\n"
    with Machine(root) as machine:
        assert not machine.path("/etc/probe").exists()
        assert machine.path("/etc/passwd").exists()


def test_a_machine_has_no_network_but_its_own() -> None:
    with Machine(roots.debian("forky")) as machine:
        devices = machine.run("tail -n +3 /proc/net/dev").stdout
    assert [line.split(":")[0].strip() for line in devices.splitlines()] == ["lo"]


def test_a_machine_leaves_no_mount_and_no_process() -> None:
    with pytest.raises(ZeroDivisionError), Machine(roots.debian("forky")) as machine:
        machine.run("(sleep 1000 & sleep 1001 &) >/dev/null 2>&1")
        going_on = machine.start("sleep 1002")
        left = [*machine.processes(), going_on.pid]
        assert len(left) >= 3
        raise ZeroDivisionError
    assert not [pid for pid in [*left, machine.pid] if Path(f"/proc/{pid}").exists()]
    assert not mounts()


def test_a_machine_ends_with_the_program_that_made_it() -> None:
    program = (
        "import sys; from tests.testbed import roots; from tests.testbed.machine import Machine\n"
        "with Machine(roots.debian('forky')) as m:\n"
        "    m.start('sleep 1000'); print(m.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=cache.TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdout
        first = os.pidfd_open(int(made.stdout.readline()))
        made.kill()
    assert select.select([first], [], [], 60)[0]
    os.close(first)


def test_a_command_out_of_time_ends_with_all_it_started() -> None:
    with Machine(roots.debian("forky")) as machine:
        with pytest.raises(Failed, match=r"(?s)not done in .*and this was said"):
            machine.run("echo and this was said; setsid sleep 1000 & sleep 1000", timeout=0.5)
        assert not machine.processes()
        assert machine.run("echo works").stdout == "works\n"


def test_a_failed_command_says_what_it_wrote() -> None:
    with Machine(roots.debian("forky")) as machine:
        with pytest.raises(Failed, match=r"(?s)status 7.*one.*two"):
            machine.run("echo one; echo two >&2; exit 7")
        assert machine.run("kill -KILL $$", check=False).returncode == -signal.SIGKILL


def test_links_are_followed_as_the_machine_sees_them() -> None:
    with Machine(roots.debian("forky")) as machine:
        machine.run("mkdir -p /a/real && ln -s /a/real /a/link && echo inside >/a/real/file && ln -s ../../etc /a/up")
        assert machine.read("/a/link/file") == "inside\n"
        assert machine.read("/a/up/hostname") == machine.read("/etc/hostname") == "testbed\n"
        assert str(machine.path("/a/link")).endswith("/a/link")
        assert str(machine.path("/../../etc")).endswith("/root/etc")


def test_an_entry_is_built_once_and_again_when_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "home", lambda: tmp_path)
    made: list[Path] = []

    def entry(recipe: str) -> Path:
        path = cache.built("thing", [recipe], made.append)
        os.close(cache.in_use.pop(path))
        return path

    first, second = entry("one"), entry("two")
    assert entry("one") == first
    assert len(made) == 2 and second.exists()
    os.utime(second, (0, 0))
    third = entry("three")
    assert third.exists()
    assert [first.exists(), second.exists()] == [True, False], "the last used of the older ones stays"


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "home", lambda: tmp_path)

    def fails(new: Path) -> None:
        (new / "half").write_text("done")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        cache.built("thing", ["x"], fails)
    assert not [p for p in (tmp_path / "testbed").iterdir() if p.is_dir()]


def test_an_entry_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "home", lambda: tmp_path)
    paths = [cache.built("thing", [recipe], lambda new: None) for recipe in ("one", "two", "three", "four")]
    assert all(p.exists() for p in paths)
    for path in paths:
        os.close(cache.in_use.pop(path))


def test_what_a_machine_runs_can_have_a_quota() -> None:
    with quota.cpu_quota(1.5) as group, Machine(baseline.with_go("forky")) as machine:
        process = machine.start("cat /proc/self/cgroup", cgroup=group)
        assert f"/{group.name}\n" in process.communicate()[0]
    assert not group.exists()


@pytest.mark.parametrize("suite", SUITES)
def test_a_machine_can_keep_a_journal(suite: str) -> None:
    with Machine(roots.debian(suite)) as machine:
        journal.start(machine)
        machine.run("echo first | systemd-cat -t probe -p err; echo second | systemd-cat -t probe -p info")
        machine.run(
            'python3 -c \'from systemd import journal; journal.send("third", PRIORITY=3, SYSLOG_IDENTIFIER="probe")\''
        )
        said = journal.entries(machine, "SYSLOG_IDENTIFIER=probe", "PRIORITY=3")
        assert [entry["MESSAGE"] for entry in said] == ["first", "third"]
        assert not journal.entries(machine, "_TRANSPORT=kernel")


@pytest.mark.parametrize("http", [False, True], ids=["files", "http"])
@pytest.mark.parametrize(("suite", "updater"), EVERY_UPDATER)
def test_an_update_is_installed(suite: str, updater: str, http: bool) -> None:
    with Machine(baseline.with_go(suite)) as machine:
        assert machine.run("hello").stdout == "hello from 1\n"
        repository.offer(machine, [extras.hello(2)], http=http)
        done = UPDATERS[suite][updater](machine)
        assert done.returncode == 0, done.stdout + done.stderr
        assert machine.run("hello").stdout == "hello from 2\n"


@pytest.mark.parametrize("suite", SUITES)
def test_go_works_and_is_updated(suite: str) -> None:
    with Machine(baseline.with_go(suite)) as machine:
        assert machine.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert machine.run("rpm -V hello golang golang-bin golang-src").stdout == ""
        assert machine.run("go list -deps crypto/tls").stdout.endswith("crypto/tls\n")
        repository.offer(machine, golang.packages("1.27.3", golang.DISTS[suite]).values())
        assert dnf(machine, "upgrade").returncode == 0
        assert machine.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert dnf(machine, "remove", "golang*").returncode == 0
        assert not machine.run("find /usr/bin/go /usr/lib/golang ! -type d", check=False).stdout


# The answer of the program that dnf5 runs: read from its standard output.
STOP = """#!/bin/sh
echo '{"op":"stop","args":{"message":"the testbed says no"}}'
"""
STOP_ACTION = "pre_transaction:::enabled=host-only mode=json raise_error=0:/usr/libexec/stop\n"
STOP_PLUGIN = """
import dnf

class Stop(dnf.Plugin):
    name = "stop"

    def pre_transaction(self):
        raise dnf.exceptions.Error("the testbed says no")
"""


@pytest.mark.parametrize(("suite", "updater"), EVERY_UPDATER)
def test_the_updaters_obey_a_veto(suite: str, updater: str) -> None:
    with Machine(baseline.with_go(suite)) as machine:
        machine.write("/etc/dnf/libdnf5-plugins/actions.d/stop.actions", STOP_ACTION)
        machine.write("/usr/libexec/stop", STOP, 0o755)
        machine.write("/usr/lib/python3/dist-packages/dnf-plugins/stop.py", STOP_PLUGIN)
        repository.offer(machine, [extras.hello(2)])
        done = UPDATERS[suite][updater](machine)
        assert done.returncode == 1
        assert "the testbed says no" in done.stdout + done.stderr
        assert machine.run("hello").stdout == "hello from 1\n"


GO = golang.GOROOT + "/bin/go"
SPOILED = {
    "truncated": f"! {GO} version",
    "other-go": f"{GO} version | grep go1.25.5",
    "other-arch": f"! {GO} version",
    "other-compile": f"{GO} version | grep go1.27.3 && {GO} tool compile -V | grep go1.25.5",
    "no-crypto-tls": f"{GO} list fmt && ! {GO} list crypto/tls",
    "without-src": f"{GO} version | grep go1.27.3 && rpm -q golang-src | grep 1.25.5",
    "hangs": f"timeout -s KILL 0.2 {GO} version; [ $? = 137 ]",
    "back-to-1.24": f"{GO} version | grep go1.24.11",
    "repair": f"{GO} version | grep go1.25.5 && rpm -q golang-bin | grep 1.25.5-2",
}


@pytest.mark.parametrize("label", SPOILED)
def test_a_release_is_an_update_and_as_broken_as_it_says(label: str) -> None:
    offered = golang.packages(label)
    if label == "without-src":
        del offered["golang-src"]
    with Machine(baseline.with_go("forky")) as machine:
        repository.offer(machine, offered.values())
        done = dnf(machine, "upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        machine.run(SPOILED[label], env={"GOTOOLCHAIN": "local"})


def test_another_vendors_go_works_where_that_vendor_puts_it() -> None:
    with Machine(baseline.without_go("forky")) as machine:
        repository.offer(machine, [extras.acme_go("1.25.5")])
        assert dnf(machine, "install", "acme-go").returncode == 0
        assert machine.run("/usr/local/go/bin/go version").stdout == "go version go1.25.5 linux/amd64\n"
        repository.offer(machine, [extras.acme_go("truncated")])
        assert dnf(machine, "upgrade").returncode == 0
        assert machine.run("/usr/local/go/bin/go version", check=False).returncode != 0


# Names every macro that the stand-ins give.
MACROS_SPEC = """
Name: probe
Version: 1
Release: %autorelease
Summary: Probe
License: GPL-2.0-or-later
BuildArch: noarch
Source: %{name}-%{version}.tar.gz
Requires: python3 >= 3.9
Recommends: python3-psutil
%{?systemd_requires}
%description
Probe.

%prep
%autosetup

%install
install -D -m 0755 program %{buildroot}%{_libexecdir}/probe/program
%py3_shebang_fix %{buildroot}%{_libexecdir}/probe/program
install -D -m 0644 module.py %{buildroot}%{python3_sitelib}/probe_module.py
install -D -m 0644 module.py %{buildroot}%{_prefix}/lib/probe/probe_module.py
%py_byte_compile %{python3} %{buildroot}%{_prefix}/lib/probe
install -D -m 0644 probe.service %{buildroot}%{_unitdir}/probe.service
mkdir -p %{buildroot}%{_tmpfilesdir} %{buildroot}%{bash_completions_dir} %{buildroot}%{_presetdir}
echo 'd /run/probe' >%{buildroot}%{_tmpfilesdir}/probe.conf
echo 'enable probe.service' >%{buildroot}%{_presetdir}/10-probe.preset
touch %{buildroot}%{bash_completions_dir}/probe

%check
%pytest -q tests

%post
%systemd_post probe.service
%tmpfiles_create probe.conf

%preun
%systemd_preun probe.service

%postun
%systemd_postun_with_restart probe.service

%files
%{_libexecdir}/probe
%{python3_sitelib}/probe_module.py
%{python3_sitelib}/__pycache__/probe_module.*
%{_prefix}/lib/probe
%{_unitdir}/probe.service
%{_tmpfilesdir}/probe.conf
%{_presetdir}/10-probe.preset
%{bash_completions_dir}/probe

%changelog
%autochangelog
"""


def probe_tree(tree: Path) -> Path:
    """A working tree with a spec that uses what ours may."""
    files = {
        "probe.spec": MACROS_SPEC,
        "program": "#!/usr/bin/env python3\nimport sys; print(sys.flags.safe_path)\n",
        "module.py": "NAME = 'probe'\n",
        "probe.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
        "tests/unit/test_probe.py": "def test_it():\n    assert True\n",
        "tests/dnf/test_not_packed.py": "def test_it():\n    assert False\n",
        ".gitignore": "*.ignored\n",
        "left.ignored": "",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    subprocess.run(["git", "init", "-q", tree], check=True)
    return tree


@pytest.mark.parametrize("suite", SUITES)
def test_a_spec_for_fedora_is_built_and_installed_and_leaves_nothing(suite: str, tmp_path: Path) -> None:
    tree = probe_tree(tmp_path)
    dist = "." + golang.DISTS[suite]
    with Machine(baseline.without_go(suite)) as machine:
        before = machine.run("find /usr /etc /var/lib/systemd | sort").stdout
        repository.offer(machine, rpms.own_rpms(suite, tree=tree).values())
        done = dnf(machine, "install", "probe")
        assert done.returncode == 0, done.stdout + done.stderr
        assert machine.run("rpm -q probe").stdout == f"probe-1-1{dist}.noarch\n"
        assert machine.run("rpm -V probe").stdout == ""
        assert machine.run("systemctl is-enabled probe.service").stdout == "enabled\n"
        assert machine.path("/run/probe").is_dir()
        assert machine.read("/usr/libexec/probe/program").startswith("#!/usr/bin/python3 -sP\n")
        assert machine.run("python3 -c 'import probe_module; print(probe_module.NAME)'").stdout == "probe\n"
        repository.offer(machine, rpms.own_rpms(suite, newer=True, tree=tree).values())
        done = dnf(machine, "upgrade")
        assert machine.run("rpm -q probe").stdout == f"probe-1-1{dist}.1.noarch\n", done.stdout + done.stderr
        done = dnf(machine, "remove", "probe")
        assert done.returncode == 0, done.stdout + done.stderr
        machine.run("rm /etc/yum.repos.d/updates.repo")
        assert machine.run("find /usr /etc /var/lib/systemd | sort").stdout == before
