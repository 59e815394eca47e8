# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that use dnf's libraries: Ansible's modules for real, and libdnf5 driven as PackageKit drives it.

PackageKit's dnf5 backend is not packaged for these roots: a process with python3-libdnf5 does what it does, with its
cache directory and its file of prepared ids.
"""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from tests.dnf.machines import Done, assert_nothing_left, go, hello, machine, recorded, said, truncate_go
from tests.testbed import baseline, extras, repository
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
SOUND = "go version go1.25.5 linux/amd64\n"
NEW = "go version go1.27.3 linux/amd64\n"
LOOK = "/usr/libexec/go-health-hook/gate offline"

# A stand-in for packagekitd with its dnf5 backend (backends/dnf5): download only, or the transaction itself.
PACKAGEKIT = """
import sys
import libdnf5

base = libdnf5.base.Base()
base.load_config()
base.get_config().get_cachedir_option().set("/var/cache/PackageKit/45/metadata")
base.setup()
sack = base.get_repo_sack()
sack.create_repos_from_system_configuration()
sack.load_repos()
goal = libdnf5.base.Goal(base)
goal.add_rpm_upgrade()
transaction = goal.resolve()
transaction.download()
if sys.argv[1] == "only-download":
    ids = []
    for item in transaction.get_transaction_packages():
        package = item.get_package()
        if libdnf5.transaction.transaction_item_action_is_inbound(item.get_action()):
            parts = package.get_name(), package.get_evr(), package.get_arch(), package.get_repo_id()
            ids.append(";".join(parts))
    with open("/var/lib/PackageKit/prepared-update", "w") as file:
        file.write("[update]\\nprepared_ids=%s\\n" % ",".join(ids))
    sys.exit()
result = transaction.run()
for problem in transaction.get_transaction_problems():
    print(problem, file=sys.stderr)
sys.exit(result != libdnf5.base.Transaction.TransactionRunResult_SUCCESS)
"""


def packagekit(m: Machine, what: str) -> Done[str]:
    m.run("mkdir -p /var/lib/PackageKit")
    m.write("/root/packagekit.py", PACKAGEKIT)
    return m.run(["python3", "/root/packagekit.py", what], check=False)


def test_packagekit_broken_installed_go_is_announced_and_holds_the_update() -> None:
    with machine("forky") as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2)], http=True)
        assert packagekit(m, "only-download").returncode == 0
        assert m.run(LOOK, check=False).returncode == 1
        done = packagekit(m, "update")
        assert done.returncode == 1 and "the Go installed here is broken" in said(done)
        assert hello(m) == "1"


def test_packagekit_bad_go_is_announced_before_the_reboot_and_refused() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), *go("forky", "truncated")], http=True)
        assert packagekit(m, "only-download").returncode == 0
        look = m.run(LOOK, check=False)
        assert look.returncode == 1 and "is cut short" in look.stdout
        # The boot for updates, as systemd's generator marks it.
        m.run("mkdir -p /run/systemd/generator.early")
        m.run("ln -s /usr/lib/systemd/system/system-update.target /run/systemd/generator.early/default.target")
        done = packagekit(m, "update")
        assert done.returncode == 1 and "is cut short" in said(done)
        assert m.run("go version").stdout == SOUND
        m.run("rm -r /run/systemd/generator.early")
        command = look.stdout.split("its vendor has fixed it: ")[1].splitlines()[0]
        assert m.run(command.replace("dnf upgrade", "dnf5 -y upgrade"), check=False).returncode == 0
        assert hello(m) == "2"
        assert m.run(LOOK).returncode == 0
        assert m.run("go-health-hook status", check=False).returncode == 0, recorded(m)
        assert_nothing_left(m)


def test_packagekit_sound_go_passes() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), *go("forky", "1.27.3")], http=True)
        assert packagekit(m, "only-download").returncode == 0
        assert m.run(LOOK).returncode == 0
        assert packagekit(m, "update").returncode == 0
        assert m.run("go version").stdout == NEW


MODULES = {"forky": "dnf5", "bookworm": "dnf"}
EACH = pytest.mark.parametrize("suite", MODULES)


def ansible_machine(suite: str) -> Machine:
    """A machine that sees the ansible-core of the virtual environment."""
    return Machine(baseline.with_hook(suite), binds={"/ansible": Path(sysconfig.get_path("purelib"))})


def ansible(m: Machine, suite: str, cwd: str = "/root", **arguments: object) -> Done[str]:
    """Run the module with the machine's own Python, as Ansible does on the machine that it manages."""
    m.write("/root/arguments.json", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    command = ["python3", "-m", f"ansible.modules.{MODULES[suite]}", "/root/arguments.json"]
    return m.run(command, check=False, cwd=cwd, env={"PYTHONPATH": "/ansible"})


@EACH
def test_ansible_each_case(suite: str) -> None:
    """Broken installed Go, bad incoming Go (from a repository and by a relative path), sound Go."""
    with ansible_machine(suite) as m:
        m.run("cp -a /usr/lib/golang/bin/go /root/go")
        truncate_go(m)
        repository.offer(m, [extras.hello(2)])
        done = ansible(m, suite, name="*", state="latest")
        assert done.returncode == 1 and "the Go installed here is broken" in said(done), said(done)
        m.run("cp -a /root/go /usr/lib/golang/bin/go")
        repository.offer(m, go(suite, "truncated"))
        assert ansible(m, suite, name="*", state="latest", download_only=True).returncode == 0
        done = ansible(m, suite, name="*", state="latest")
        assert done.returncode == 1 and "is cut short" in said(done)
        m.run("mkdir /root/pk && rm /etc/yum.repos.d/updates.repo")
        for path in go(suite, "truncated"):
            if not path.name.startswith("go-toolset"):
                (m.path("/root/pk") / path.name).write_bytes(path.read_bytes())
        names = [f"./{path.name}" for path in sorted(m.path("/root/pk").iterdir())]
        done = ansible(m, suite, "/root/pk", name=names, state="latest", disable_gpg_check=True)
        assert done.returncode == 1 and "is cut short" in said(done), said(done)
        assert m.run("go version").stdout == SOUND
        repository.offer(m, [extras.hello(2), *go(suite, "1.27.3")])
        assert ansible(m, suite, name="*", state="latest").returncode == 0
        assert m.run("go version").stdout == NEW
        assert_nothing_left(m)
