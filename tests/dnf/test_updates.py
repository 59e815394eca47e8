# SPDX-License-Identifier: GPL-2.0-or-later
"""Which updates pass and which do not, through every updater as it is really run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.dnf.machines import (
    EVERY_UPDATER,
    GO,
    SUITES,
    Done,
    assert_done,
    assert_nothing_left,
    assert_silent,
    assert_vetoed,
    go,
    hello,
    machine,
    recorded,
    said,
    truncate_go,
    update,
    without_go,
)
from tests.testbed import baseline, extras, journal, quota, repository, rpmbuild
from tests.testbed.machine import Machine
from tests.testbed.updaters import dnf

pytestmark = pytest.mark.root
AUTOMATIC = pytest.mark.parametrize(("suite", "updater"), [("forky", "dnf5 automatic"), ("bookworm", "dnf-automatic")])


@EVERY_UPDATER
def test_a_healthy_go_lets_an_unrelated_update_pass(suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, [extras.hello(2)])
        done = update(m, suite, updater)
        assert_done(done)
        assert_silent(done)
        assert hello(m) == "2"
        assert_nothing_left(m)


@EVERY_UPDATER
def test_a_broken_go_holds_an_unrelated_update_back(suite: str, updater: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2)])
        done = update(m, suite, updater)
        assert_vetoed(
            done, "the Go installed here is broken", f"goroot: {GO} is cut short", "-> bring all of it to one release"
        )
        assert hello(m) == "1"
        assert m.run("rpm -q hello").stdout == "hello-1-1.noarch\n"


@EVERY_UPDATER
def test_an_update_that_repairs_go_passes(suite: str, updater: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2), *go(suite, "repair")])
        assert_done(update(m, suite, updater))
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert hello(m) == "2"
        assert_nothing_left(m)


@EVERY_UPDATER
def test_a_sound_new_go_passes(suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, go(suite, "1.27.3"))
        assert_done(update(m, suite, updater))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)


@EVERY_UPDATER
def test_a_bad_new_go_is_stopped_while_the_good_one_is_in_place(suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, go(suite, "truncated"), http=True)
        done = update(m, suite, updater)
        assert_vetoed(
            done,
            "the Go that this transaction would leave is broken",
            f"goroot: {GO} is cut short",
            "dnf upgrade --exclude='golang,golang-bin,golang-src'",
        )
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert m.run("rpm -V golang golang-bin golang-src").stdout == ""
        assert_nothing_left(m)


@pytest.mark.parametrize("suite", SUITES)
def test_the_remedy_for_a_bad_new_go_works_as_it_is_printed(suite: str) -> None:
    """Also where the best is wanted, as on EL, and a package without a file in GOROOT asks for the exact release."""
    with machine(suite) as m:
        repository.offer(m, go(suite, "1.25.5"))
        assert_done(dnf(m, "install", "go-toolset"))
        m.write("/etc/dnf/dnf.conf", m.read("/etc/dnf/dnf.conf").replace("best=False", "best=True"))
        repository.offer(m, [extras.hello(2), *go(suite, "truncated")])
        done = dnf(m, "upgrade")
        assert_vetoed(done, "is cut short")
        printed = re.findall(r"dnf (upgrade --exclude='.*')$", said(done), re.M)[0]
        assert_done(dnf(m, *shlex.split(printed)))
        assert hello(m) == "2"
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"


@EVERY_UPDATER
def test_nothing_is_held_back_once_nothing_is_offered(suite: str, updater: str) -> None:
    """The remedy as it is printed where Go alone is offered; and a vendor that has withdrawn it."""
    with machine(suite) as m:
        repository.offer(m, go(suite, "truncated"))
        done = dnf(m, "upgrade")
        assert_vetoed(done, "is cut short")
        assert m.run("go-health-hook status", check=False).returncode == 1
        printed = re.findall(r"dnf (upgrade --exclude='.*')$", said(done), re.M)[0]
        assert_done(dnf(m, *shlex.split(printed)))
        assert m.run("go-health-hook status", check=False).returncode == 0
        assert not m.path("/etc/motd.d/go-health-hook").exists()
        assert_vetoed(update(m, suite, updater), "is cut short")
        assert m.run("go-health-hook status", check=False).returncode == 1
        repository.offer(m, [extras.hello(1)])
        assert_done(update(m, suite, updater))
        assert m.run("go-health-hook status", check=False).returncode == 0


NO_GOLANG = """
Name: no-golang
Version: 1
Release: 1
Summary: Takes Go away
License: GPL-2.0-or-later
BuildArch: noarch
Obsoletes: golang < 9
Obsoletes: golang-bin < 9
Obsoletes: golang-src < 9
%description
Takes Go away.
%files
"""
BAD = {
    "other-go": "compile version go1.27.3 does not match go tool version go1.25.5",
    "other-arch": "is for arm64",
    "other-compile": "mixed GOROOT: compile version go1.25.5",
    "no-crypto-tls": "src/crypto/tls",
    "without-src": "not of one release: golang-1.27.3",
}


@AUTOMATIC
@pytest.mark.parametrize("label", BAD)
def test_every_kind_of_bad_go_is_stopped(label: str, suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, go(suite, label))
        assert_vetoed(update(m, suite, updater), "that this transaction would leave is broken", BAD[label])
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert_nothing_left(m)


@AUTOMATIC
def test_a_new_go_without_any_sources_is_stopped(suite: str, updater: str) -> None:
    no_src = NO_GOLANG.replace("no-golang", "no-src").replace("golang <", "x <").replace("golang-bin", "y")
    with machine(suite) as m:
        repository.offer(m, [*go(suite, "without-src"), *rpmbuild.packages("no-src", no_src).values()])
        assert_vetoed(update(m, suite, updater), "no package of it has the sources of the standard library")
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert_nothing_left(m)


def test_an_incoming_go_that_hangs_is_stopped_in_time() -> None:
    with machine("forky") as m:
        m.write("/etc/go-health-hook.conf.d/budget.conf", "[budget]\ndnf = 3\n")
        repository.offer(m, go("forky", "hangs"))
        assert_vetoed(dnf(m, "upgrade"), "Go could not be judged within 3 s")
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert_nothing_left(m)


@EVERY_UPDATER
def test_a_go_that_hangs_holds_updates_back_in_time(suite: str, updater: str, badgo: Path) -> None:
    with machine(suite) as m:
        m.write("/etc/go-health-hook.conf.d/budget.conf", "[budget]\ndnf = 1\n")
        shutil.copy(badgo, m.path(GO))
        m.write("/usr/lib/golang/mode", "hangs")
        repository.offer(m, [extras.hello(2)])
        done = update(m, suite, updater)
        assert_vetoed(done, "Go could not be judged within 1 s")
        assert re.search("go version did not answer within|had not answered when time ran out", said(done))
        assert hello(m) == "1"
        assert_nothing_left(m)


@EVERY_UPDATER
def test_without_go_everything_passes(suite: str, updater: str) -> None:
    with without_go(suite) as m:
        repository.offer(m, [extras.hello(2)])
        assert_done(update(m, suite, updater))
        assert hello(m) == "2"


@pytest.mark.parametrize("suite", SUITES)
def test_a_first_go_is_judged_too(suite: str) -> None:
    with without_go(suite) as m:
        repository.offer(m, go(suite, "truncated"))
        assert_vetoed(dnf(m, "install", "golang"), "is cut short")
        repository.offer(m, go(suite, "1.27.3"))
        assert_done(dnf(m, "install", "golang"))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)


@pytest.mark.parametrize("suite", SUITES)
def test_a_person_may_install_and_remove_while_go_is_broken(suite: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(1, "goodbye")])
        assert_done(dnf(m, "install", "goodbye"))
        assert_done(dnf(m, "remove", "goodbye"))
        assert_done(dnf(m, "remove", "golang*"))
        assert m.run("rpm -q golang-bin", check=False).returncode == 1


@AUTOMATIC
def test_a_broken_go_holds_an_automatic_update_of_a_kernel_alone_back(suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, [extras.kernel(1)])
        assert_done(dnf(m, "install", "kernel"))
        truncate_go(m)
        repository.offer(m, [extras.kernel(1), extras.kernel(2)])
        assert_vetoed(update(m, suite, updater), "the Go installed here is broken")
        assert m.run("rpm -q kernel").stdout == "kernel-1-1.noarch\n"


@AUTOMATIC
def test_a_broken_go_holds_an_automatic_update_that_only_replaces_back(suite: str, updater: str) -> None:
    bonjour = NO_GOLANG.replace("no-golang", "bonjour").replace("Obsoletes: golang < 9", "Obsoletes: hello < 9")
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, rpmbuild.packages("bonjour", bonjour.replace("-bin", "-x").replace("-src", "-y")).values())
        assert_vetoed(update(m, suite, updater), "the Go installed here is broken")
        assert hello(m) == "1"


@pytest.mark.parametrize("suite", SUITES)
def test_what_a_person_asks_a_daemon_for_passes(suite: str) -> None:
    with quota.service() as group, machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(1, "goodbye"), extras.hello(2)])
        command = ["dnf5" if suite == "forky" else "dnf", "-y"]
        assert_done(m.run([*command, "install", "goodbye"], check=False, cgroup=group))
        m.write("/etc/go-health-hook.conf.d/automatic.conf", "[dnf]\ntransactions = automatic\n")
        assert_vetoed(m.run([*command, "upgrade"], check=False, cgroup=group))
        assert_done(m.run([*command, "remove", "golang*"], check=False, cgroup=group))
        assert m.run("rpm -q golang-bin", check=False).returncode == 1


@pytest.mark.parametrize("suite", SUITES)
def test_an_update_is_judged_though_something_of_go_goes_with_it(suite: str) -> None:
    with machine(suite) as m:
        (docs,) = rpmbuild.packages("golang-docs", GOLANG_DOCS).values()
        m.path("/root/golang-docs.rpm").write_bytes(docs.read_bytes())
        m.run("rpm -i /root/golang-docs.rpm")
        truncate_go(m)
        repository.offer(m, [extras.hello(2)])
        done = upgrade_and_remove(m, suite, "golang-docs")
        assert "nothing is installed, since the Go installed here is broken" in said(done)
        assert hello(m) == "1"
        upgrade_and_remove(m, suite, "golang golang-bin")
        assert hello(m) == "2"


def upgrade_and_remove(m: Machine, suite: str, packages: str) -> Done[str]:
    """In one transaction of a person's; dnf 4 has it only in its shell, which ends with status 0 always."""
    m.write("/root/both", f"upgrade hello\nremove {packages}\nrun\n")
    dnf5 = f"dnf5 -y do --action=upgrade hello --action=remove {packages}"
    return m.run(dnf5 if suite == "forky" else "dnf -y shell /root/both", check=False)


def test_all_transactions_are_judged_where_that_is_wanted_and_none_where_it_is_not() -> None:
    with machine("forky") as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(1, "goodbye"), extras.hello(2)])
        m.write("/etc/go-health-hook.conf.d/all.conf", "[dnf]\ntransactions = all\n")
        assert_vetoed(dnf(m, "install", "goodbye"))
        with Machine(baseline.with_hook("forky")) as other:
            truncate_go(other)
            other.write("/etc/go-health-hook.conf.d/all.conf", "[dnf]\ntransactions = all\n")
            assert_done(dnf(other, "remove", "go-health-hook"))
        m.write("/etc/go-health-hook.conf.d/all.conf", "[dnf]\ntransactions = automatic\n")
        assert_vetoed(update(m, "forky", "dnf5 automatic"))
        assert_done(update(m, "forky", "dnf5 upgrade"))
        m.run("rpm -U --oldpackage /srv/repositories/*/hello-1-1.noarch.rpm")
        assert recorded(m)["blocks"], "what the machine does by itself is still held back"
        m.write("/etc/go-health-hook.conf.d/all.conf", "[dnf]\ntransactions = off\n")
        assert_done(update(m, "forky", "dnf5 automatic"))
        assert not recorded(m)["blocks"]


@pytest.mark.parametrize("suite", SUITES)
def test_another_root_is_untouched(suite: str) -> None:
    with machine(suite) as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(1), extras.hello(2)])
        release = "--releasever=9"
        root = ["--installroot=/other", release, "--setopt=tsflags=noscripts", "--use-host-config"][
            : 4 if suite == "forky" else 3
        ]
        assert_done(dnf(m, *root, "install", "hello-1"))
        assert_done(dnf(m, *root, "upgrade"))
        assert m.run("rpm --root /other -q hello").stdout == "hello-2-1.noarch\n"


GOLANG_DOCS = """
Name: golang-docs
Version: 1.25.5
Release: 1
Summary: Documents
License: BSD-3-Clause
BuildArch: noarch
%description
Documents.
%install
mkdir -p %{buildroot}/usr/lib/golang/doc
touch %{buildroot}/usr/lib/golang/doc/spec.html
%files
/usr/lib/golang/doc
"""


@AUTOMATIC
def test_an_automatic_update_may_not_remove_go(suite: str, updater: str) -> None:
    with machine(suite) as m:
        repository.offer(m, [*rpmbuild.packages("no-golang", NO_GOLANG).values(), extras.hello(2)])
        assert_vetoed(update(m, suite, updater), "removes Go")
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert_done(dnf(m, "upgrade"))  # a person sees what is removed
        assert m.run("rpm -q golang-bin", check=False).returncode == 1


def test_another_vendors_go_is_judged_alike() -> None:
    with without_go("forky") as m:
        repository.offer(m, [extras.acme_go("1.25.5")])
        assert_done(dnf(m, "install", "acme-go"))
        repository.offer(m, [extras.acme_go("truncated")])
        assert_vetoed(dnf(m, "upgrade"), "/usr/local/go/bin/go is cut short")
        m.run("truncate -s 5M /usr/local/go/bin/go")
        repository.offer(m, [extras.acme_go("1.27.3")])
        assert_done(dnf(m, "upgrade"))
        assert m.run("/usr/local/go/bin/go version").stdout == "go version go1.27.3 linux/amd64\n"


def test_a_go_whose_sources_are_elsewhere_is_judged_with_them() -> None:
    with without_go("forky") as m:
        repository.offer(m, [extras.acme_go("linked")])
        assert_done(dnf(m, "install", "acme-go"))
        assert m.run("/usr/local/go/bin/go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert "would be allowed" in m.run("go-health-hook --dry-run").stdout
        repository.offer(m, [extras.acme_go("linked-broken")])
        assert_vetoed(dnf(m, "upgrade"), "src/crypto/tls")


GOTOOL = """
Name: gotool
Version: {version}
Release: 1
Summary: Go there
License: GPL-2.0-or-later
BuildArch: noarch
%description
Go there.
%install
mkdir -p %{{buildroot}}/opt/gotool/bin
printf '#!/bin/sh\\necho gone\\n' >%{{buildroot}}/opt/gotool/bin/go
%files
%attr(0755,root,root) /opt/gotool/bin/go
"""


@pytest.mark.parametrize("suite", SUITES)
def test_a_program_that_is_called_go_is_no_toolchain(suite: str) -> None:
    old, new = (rpmbuild.packages(f"gotool-{n}", GOTOOL.format(version=n))["gotool"] for n in (1, 2))
    with machine(suite) as m:
        repository.offer(m, [old])
        assert_done(dnf(m, "install", "gotool"))
        truncate_go(m)
        repository.offer(m, [new])
        assert_vetoed(dnf(m, "upgrade"), "the Go installed here is broken")
    with without_go(suite) as m:
        repository.offer(m, [old])
        assert_done(dnf(m, "install", "gotool"))
        repository.offer(m, [new])
        done = dnf(m, "upgrade")
        assert_done(done)
        assert_silent(done)


@pytest.mark.skipif((os.cpu_count() or 1) < 3, reason="a quota shows in GOMAXPROCS with three CPUs or more")
@pytest.mark.parametrize("suite", SUITES)
def test_upgrade_to_a_go_that_ignores_quotas_is_stopped(suite: str) -> None:
    upgrade = ["dnf5" if suite == "forky" else "dnf", "-y", "upgrade"]
    with quota.cpu_quota(1) as group, machine(suite) as m:
        m.write("/etc/go-health-hook.conf.d/slow.conf", "[budget]\ndnf = 60\n")
        repository.offer(m, go(suite, "back-to-1.24"))
        done = m.run(upgrade, check=False, cgroup=group)
        assert_vetoed(done, "ignores the CPU limit here", "gomaxprocs: the runtime takes")
        assert "broken" not in said(done)
        m.write("/etc/go-health-hook.conf.d/slow.conf", "[budget]\ndnf = 60\n[checks]\ngomaxprocs = advisory\n")
        done = m.run(upgrade, check=False, cgroup=group)
        assert_done(done)
        assert "gomaxprocs: the runtime takes" in said(done)


def test_packages_named_on_the_command_line_are_judged_where_they_lie() -> None:
    with machine("forky") as m:
        for path in go("forky", "truncated"):
            m.path(f"/root/{path.name}").write_bytes(path.read_bytes())
        m.run("rm -f /root/go-toolset*")
        assert_vetoed(m.run("dnf5 -y upgrade /root/golang*.rpm", check=False), "is cut short")


@pytest.mark.parametrize("suite", SUITES)
def test_without_bubblewrap_incoming_packages_are_judged_where_they_are_laid_out(suite: str) -> None:
    with machine(suite) as m:
        m.run("rm /usr/bin/bwrap")
        repository.offer(m, go(suite, "other-compile" if suite == "forky" else "truncated"))
        assert_vetoed(dnf(m, "upgrade"), "mixed GOROOT" if suite == "forky" else "is cut short")
        repository.offer(m, go(suite, "1.27.3"))
        assert_done(dnf(m, "upgrade"))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)


CLUMSY = """
Name: clumsy
Version: 1
Release: 1
Summary: Breaks Go as it is installed
License: GPL-2.0-or-later
BuildArch: noarch
%description
Breaks Go as it is installed.
%posttrans
truncate -s 5M /usr/lib/golang/bin/go
%files
"""


def clumsy() -> Path:
    return rpmbuild.packages("clumsy", CLUMSY)["clumsy"]


@pytest.mark.parametrize("suite", SUITES)
def test_what_no_check_could_have_seen_is_announced_afterwards(suite: str) -> None:
    with machine(suite) as m:
        journal.start(m)
        m.run("mkdir -p /run/systemd/system")
        repository.offer(m, [extras.hello(2), clumsy()])
        done = dnf(m, "upgrade", "hello")
        assert_done(done)
        assert "after this transaction" not in said(done)
        done = dnf(m, "install", "clumsy")
        assert_done(done)
        assert "after this transaction Go is broken: goroot" in said(done)
        loud = [e["MESSAGE"] for e in journal.entries(m, "PRIORITY=3")]
        assert [line for line in loud if "Go found broken after a transaction" in line]
        (run,) = recorded(m)["gates"].values()
        assert (run["verdict"], run["checks"]) == ("block", ["goroot"])


@pytest.mark.parametrize("suite", SUITES)
def test_a_first_go_is_looked_at_again_afterwards(suite: str) -> None:
    with without_go(suite) as m:
        repository.offer(m, [*go(suite, "1.27.3"), clumsy()])
        done = dnf(m, "install", "golang", "clumsy")
        assert_done(done)
        assert "after this transaction Go is broken: goroot" in said(done)


def test_a_transaction_is_not_blamed_for_what_came_before_it() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), extras.hello(1, "goodbye"), *go("forky", "truncated")])
        assert_vetoed(dnf(m, "upgrade"), "is cut short")
        assert not m.path("/run/go-health-hook/before").exists()
        m.write("/run/go-health-hook/before", "7\n/usr/lib/golang\nas one left it that was killed\n")
        m.write("/etc/go-health-hook.conf.d/automatic.conf", "[dnf]\ntransactions = automatic\n")
        truncate_go(m)
        done = dnf(m, "install", "goodbye")
        assert_done(done)
        assert "after this transaction" not in said(done)
