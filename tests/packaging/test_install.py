# SPDX-License-Identifier: GPL-2.0-or-later
"""Every set of packages on every kind of host: what comes along, what rpm verifies, what is left after removal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.packaging import builds, sets
from tests.packaging.sets import DNF4, HOSTS, NAME, OPTIONAL
from tests.testbed import baseline, repository, rpmbuild, rpms, stubs
from tests.testbed.machine import Machine
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
EVERY_HOST = pytest.mark.parametrize("kind", HOSTS, ids=[kind.replace(" ", "-") for kind in HOSTS])


def bare() -> Machine:
    return Machine(baseline.bare("forky"))


def verified(machine: Machine) -> str:
    return machine.run(["rpm", "-V", *sorted(sets.ours(machine))], check=False).stdout


def use(machine: Machine) -> None:
    """Have the hook write all that it writes: record, override, message at login, metrics, settings."""
    machine.write("/etc/go-health-hook.conf.d/test.conf", "[announce]\nmetrics-directory = /var/lib/textfile\n")
    machine.run("mkdir -p /var/lib/textfile /etc/motd.d /usr/local/go/bin && echo broken >/usr/local/go/bin/go")
    machine.write("/etc/go-health-hook.conf.d/go.conf", "[toolchain]\ngoroot = /usr/local/go\n")
    machine.run("chmod 0755 /usr/local/go/bin/go")
    assert machine.run(["go-health-hook"], check=False).returncode == 1
    machine.run(["go-health-hook", "override", "--for", "1h", "--reason", "test"])
    assert machine.path("/var/lib/textfile/go_health_hook.prom").exists()


def forget_use(machine: Machine) -> None:
    """Remove what the test itself wrote for `use`."""
    machine.run("rm -r /etc/go-health-hook.conf.d/*.conf /usr/local/go")


@EVERY_HOST
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "strong"])
def test_install_host_gets_its_gates_and_loses_all(kind: str, weak: bool) -> None:
    with bare() as machine:
        host = sets.host(machine, kind)
        machine.run("mkdir -p /var/lib/textfile /etc/motd.d /usr/local /etc/systemd/system.conf.d")
        before = sets.tree(machine)
        sets.install(machine, NAME, weak=weak)
        recommended = {f"{NAME}-tools"} & set(rpms.own_rpms("forky")) if weak else set()
        assert sets.ours(machine) == {NAME, *host.gates, *recommended}
        assert verified(machine) == ""
        assert "go-health-hook 0." in machine.run(["go-health-hook", "status"], check=False).stdout
        use(machine)
        assert verified(machine) == ""
        forget_use(machine)
        done = dnf(machine, "remove", NAME)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not sets.ours(machine)
        after = sets.tree(machine)
        assert (sorted(after - before), sorted(before - after)) == ([], [])
        assert not machine.path("/run/go-health-hook").exists()


def orders(names: list[str]) -> Iterator[list[str]]:
    """Orders of removal: each package comes first once, each comes last once, each pair comes both ways round."""
    for i in range(len(names)):
        turned = names[i:] + names[:i]
        yield turned
        yield turned[::-1]


def test_removal_any_order_leaves_nothing() -> None:
    built = rpms.own_rpms("forky")
    with bare() as machine:
        sets.become(machine, HOSTS["none"])
        machine.run("mkdir -p /etc/systemd/system.conf.d /srv/own")
        for path in built.values():
            machine.write(f"/srv/own/{path.name}", "")
            machine.path(f"/srv/own/{path.name}").write_bytes(path.read_bytes())
        before = sets.tree(machine)
        for order in orders(sorted(built)):
            machine.run("rpm -i --nodeps /srv/own/*.rpm")
            if f"{NAME}-tuning" in built:
                machine.run(["go-health-hook", "tune", "--apply", "build-slice"])
            machine.run(" && ".join(f"rpm -e --nodeps {name}" for name in order))
            after = sets.tree(machine)
            assert (sorted(after - before), sorted(before - after)) == ([], []), order


def test_removal_optional_package_alone_leaves_the_rest_whole() -> None:
    with bare() as machine:
        sets.host(machine, "dnf5")
        sets.install(machine, NAME)
        before = sets.tree(machine)
        for name in OPTIONAL:
            sets.install(machine, name)
            done = dnf(machine, "remove", name)
            assert done.returncode == 0, done.stdout + done.stderr
            after = sets.tree(machine)
            assert (sorted(after - before), sorted(before - after)) == ([], [])
            assert verified(machine) == ""


def test_gate_updater_installed_later_brings_it_along() -> None:
    added = rpmbuild.packages("stubs-updaters", stubs.one_spec({name: sets.stub(name) for name in sets.EXTRA}))
    with bare() as machine:
        sets.host(machine, "dnf5")
        sets.install(machine, NAME)
        repository.offer(machine, added.values(), "added")
        sets.install(machine, "python3-dnf")
        assert DNF4 in sets.ours(machine)
        sets.install(machine, "rpm-ostree", "greenboot")
        assert {f"{NAME}-rpm-ostree", f"{NAME}-greenboot"} <= sets.ours(machine)


def test_upgrade_edited_configuration_stays() -> None:
    edited = ("/etc/go-health-hook.conf", "/etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions")
    older, newer = rpms.own_rpms("forky"), rpms.own_rpms("forky", newer=True)
    with bare() as machine:
        sets.host(machine, "dnf5")
        sets.install(machine, NAME)
        for path in edited:
            machine.write(path, machine.read(path) + "# edited\n")
        repository.offer(machine, newer.values(), "hook")
        for verb, packages in (("upgrade", newer), ("downgrade", older)):
            repository.offer(machine, packages.values(), "hook")
            done = dnf(machine, verb, *sorted(sets.ours(machine)))
            assert done.returncode == 0, done.stdout + done.stderr
            assert machine.run(["rpm", "-q", NAME]).stdout.strip() in packages[NAME].name
            for path in edited:
                assert machine.read(path).endswith("# edited\n")
            assert {line.split()[-1] for line in verified(machine).splitlines()} == set(edited)
        done = dnf(machine, "remove", NAME)
        assert done.returncode == 0, done.stdout + done.stderr
        left = machine.run("find /etc -name '*go-health-hook*'").stdout.split()
        assert sorted(left) == sorted(f"{path}.rpmsave" for path in edited)


def test_release_upgrade_new_python_is_not_blocked() -> None:
    """A local build for Fedora 43 is installed; the next release has another Python, and no build of ours."""
    built = rpmbuild.found(builds.build("fedora 43"))
    python = sets.stub("python3", "3.15.0", ("python(abi) = 3.15", "/usr/bin/python3", "python3-libs"))
    newer = rpmbuild.packages(
        "stubs-python", stubs.one_spec({"python3": python, "python3-dnf": sets.stub("python3-dnf", "2")})
    )
    with bare() as machine:
        sets.become(machine, HOSTS["dnf5 and dnf4"])
        repository.offer(machine, built.values(), "hook")
        sets.install(machine, NAME)
        assert DNF4 in sets.ours(machine)
        repository.offer(machine, newer.values(), "release")
        done = dnf(machine, "upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        assert machine.run(["rpm", "-q", "--qf", "%{version}", "python3"]).stdout == "3.15.0"
        assert DNF4 in sets.ours(machine)


def test_removal_directories_of_the_admin_stay() -> None:
    with bare() as machine:
        sets.host(machine, "dnf5")
        machine.run("mkdir -p /etc/systemd/system.conf.d /etc/systemd/user.conf.d /etc/ansible/facts.d")
        machine.write("/etc/ansible/facts.d/admins.fact", "{}")
        sets.install(machine, NAME, *OPTIONAL)
        for name in ("build-slice", "open-files", "tasks"):
            machine.run(["go-health-hook", "tune", "--apply", name])
        done = dnf(machine, "remove", NAME)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not machine.path("/etc/systemd/user/build.slice.d").exists()
        for path in ("/etc/systemd/system.conf.d", "/etc/systemd/user.conf.d", "/etc/ansible/facts.d/admins.fact"):
            assert machine.path(path).exists(), path


def test_packages_own_every_directory_they_fill() -> None:
    """So that any subset may be removed in any order."""
    for name, path in rpms.own_rpms("forky").items():
        with bare() as machine:
            machine.path("/root/package.rpm").write_bytes(path.read_bytes())
            files = machine.run(["rpm", "-qlp", "/root/package.rpm"]).stdout.split()
        folders = {str(parent) for file in files for parent in builds.parents(file) if "go-health-hook" in str(parent)}
        assert folders <= set(files), name


README = (builds.SPEC.parent / "README.md").read_text()


AS_ROOT = "%pytest PYTHONDONTWRITEBYTECODE=1 %{__pytest} -m root --junit-xml=/root/checked.xml\n"


def commands(after: str) -> list[str]:
    """The commands of the first indented block below that heading of the README, without sudo."""
    block = README.partition(after)[2].partition("\n    ")[2].partition("\n\n")[0]
    return [re.sub(r"^sudo ", "", line.strip()) for line in block.splitlines()]


def test_readme_clone_commands_end_in_a_wired_gate() -> None:
    """The commands as they stand, in a root whose package names are Fedora's, as root; sudo is left out.

    %check runs the tests for root alone; tests/packaging/test_build.py sees the others pass.
    """
    wanted = ("make", "rpm-build", "python3-devel", "python3-pytest", "python3-hypothesis", "systemd-rpm-macros")
    offered = rpmbuild.packages("stubs-build", stubs.one_spec({name: sets.stub(name) for name in wanted}))
    typed = commands("### From a clone")
    assert len(typed) <= 3 and typed[-1] == "go-health-hook status"
    with bare() as machine:
        machine.write("/etc/os-release", "ID=fedora\nVERSION_ID=45\n")
        machine.run("ln -s dnf5 /usr/bin/dnf && mkdir /usr/lib/rpm/redhat")
        machine.write("/etc/rpm/macros.fedora", rpms.MACROS.read_text() + "%fedora 45\n%dist .fc45\n" + AS_ROOT)
        repository.offer(machine, offered.values(), "fedora")
        builds.clone(machine, "/root/clone")
        outputs = []
        for command in typed[:-1]:
            confirmed = command.replace("dnf install", "dnf -y install")
            outputs.append(machine.run(confirmed, cwd="/root/clone", timeout=900).stdout)
        (ran,) = re.findall(r'tests="(\d+)"', machine.read("/root/checked.xml"))
        assert int(ran) > 100
        # What fits this machine, named file by file, and the repository's line.
        (named,) = re.findall(r"^  dnf install (\./dist/.*)$", outputs[0], re.M)
        assert all(machine.path(f"/root/clone/{path}").exists() for path in named.split())
        assert {path.split("/")[-1].rsplit("-", 2)[0] for path in named.split()} == sets.ours(machine)
        assert re.search(r"^  dnf install --repofrompath=clone,file:///root/clone/dist ", outputs[0], re.M)
        status = machine.run(typed[-1], check=False)
        assert re.search(r"dnf5 +wired: /etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions", status.stdout)


def test_readme_containerfile_lines_install_the_gates() -> None:
    copied, _, run = README.partition("    COPY dist ")[2].partition("\n    RUN ")
    command = run.partition("\n")[0]
    with bare() as machine:
        sets.become(machine, HOSTS["bootc with dnf5"])
        machine.run("ln -s dnf5 /usr/bin/dnf")
        source = f"{repository.REPOSITORIES}/{repository.repository(rpms.own_rpms('forky').values()).name}"
        machine.run(["cp", "-r", source, copied])
        machine.run(command)
        assert {f"{NAME}-dnf5", f"{NAME}-rpm-ostree"} <= sets.ours(machine)
        assert not machine.path(copied).exists()
        # As bootc container lint has it: what is below /var is a directory that tmpfiles.d makes.
        folders = machine.run("find /var -path '*go-health*'").stdout.split()
        declared = machine.read("/usr/lib/tmpfiles.d/go-health-hook.conf")
        assert folders and all(f" {folder} " in declared for folder in folders)


def test_make_install_keeps_an_edited_configuration_and_uninstall_cleans_up() -> None:
    with bare() as machine:
        sets.become(machine, HOSTS["dnf5"])
        before = sets.tree(machine)
        builds.clone(machine, "/root/clone")
        machine.run("/root/clone/packaging/dev/install-tree ''")
        assert "wired: " in machine.run("go-health-hook status", check=False).stdout
        edited = "/etc/go-health-hook.conf"
        machine.write(edited, machine.read(edited) + "# edited\n")
        machine.run("echo '# newer' >>/root/clone/conf/etc/go-health-hook.conf")
        done = machine.run("/root/clone/packaging/dev/install-tree ''")
        assert f"{edited} was edited" in done.stderr
        assert machine.read(edited).endswith("# edited\n")
        assert machine.read(f"{edited}.new").endswith("# newer\n")
        machine.run("/root/clone/packaging/dev/uninstall-tree")
        after = sets.tree(machine)
        assert (sorted(after - before), sorted(before - after)) == ([f"{edited}.save"], [])
