# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machines themselves: they boot, answer, and are what the other tests take them for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testbed import disks, programs
from tests.testbed import ostree_vm as ostree
from tests.testbed.vm import VM, VMError

pytestmark = pytest.mark.root


def test_plain_machine_is_up_and_whole(plain_vm: VM) -> None:
    assert plain_vm.ok("systemctl is-system-running") == "running"
    assert plain_vm.ok("nproc") == "8"
    assert plain_vm.ok("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"
    assert plain_vm.ok("findmnt -no FSTYPE /") == "ext4"


def test_answers_carry_status_output_and_input(plain_vm: VM) -> None:
    answer = plain_vm.run('cat; echo "$1" >&2; exit 7', "a  b", stdin=b"in\xff")
    assert answer == (7, "in\udcff", "a  b\n")
    assert plain_vm.run("kill -9 $$").status == 128 + 9
    with pytest.raises(VMError, match="status 1"):
        plain_vm.ok("false")


def test_a_program_that_leaves_children_behind_has_ended(plain_vm: VM) -> None:
    assert plain_vm.run("sleep 10000 & echo $!").stdout.strip().isdigit()


def test_a_job_is_talked_with_while_others_run(plain_vm: VM) -> None:
    job = plain_vm.start("while read -r word; do echo got $word; done; echo end", stdin=None)
    job.write(b"one\n")
    assert job.line() == "got one"
    assert plain_vm.ok("echo two") == "two"
    job.write(b"")
    assert job.line() == "end"
    assert job.wait().status == 0
    assert plain_vm.start("exec sleep 10000").kill().status == 128 + 15


def test_files_and_trees_go_in_and_out(plain_vm: VM, tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    plain_vm.put("/var/tmp/new/folder/file", data, 0o751)
    assert plain_vm.get("/var/tmp/new/folder/file") == data
    assert plain_vm.ok("stat -c '%a %U' /var/tmp/new/folder/file") == "751 root"
    unit = tmp_path / "usr/lib/systemd/system/laid.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nType=oneshot\nExecStart=/usr/bin/echo laid here\n")
    (tmp_path / "bin").mkdir()  # a link in the machine, and to stay one
    tmp_path.chmod(0o700)
    plain_vm.install_tree(tmp_path)
    assert plain_vm.ok("readlink /bin; stat -c %a /") == "usr/bin\n755"
    plain_vm.ok("systemctl start laid")
    assert [e["MESSAGE"] for e in plain_vm.journal("-u", "laid", "_COMM=echo")] == ["laid here"]


def test_the_clock_is_set(plain_vm: VM) -> None:
    then = plain_vm.clock()
    plain_vm.set_clock(then + 86400)
    assert then + 86400 <= plain_vm.clock() < then + 2 * 86400
    plain_vm.set_clock(then)


def test_a_login_is_a_session_below_the_users_slice(plain_vm: VM) -> None:
    answer = plain_vm.login("dev", "cat /proc/self/cgroup; id -un; tty; echo $XDG_RUNTIME_DIR")
    group = r"0::/user\.slice/user-1000\.slice/session-\w+\.scope"
    assert re.fullmatch(rf"{group}\ndev\n/dev/pts/\d+\n/run/user/1000\n", answer.stdout), answer
    assert plain_vm.login("ops", "[ -t 1 ] && exit 5", tty="all").status == 5


def test_a_users_manager_runs_services_with_limits(plain_vm: VM) -> None:
    script = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cpu.max; cat /proc/self/cgroup"
    answer = plain_vm.user_run("dev", script, "-p", "CPUQuota=150%")
    group = r"0::/user\.slice/user-1000\.slice/user@1000\.service/app\.slice/\S+\.service"
    assert re.fullmatch(f"150000 100000\n{group}\n", answer.stdout), answer


@pytest.mark.parametrize(
    ("version", "go_line", "in_slice", "in_leaf"),
    [
        ("1.21.13", "", 8, 8),
        ("1.24.11", "", 8, 8),
        ("1.25.5", "1.21", 8, 8),
        ("1.25.5", "", 8, 2),
        ("1.27.3", "", 8, 2),
    ],
)
def test_go_sees_the_quota_of_its_own_cgroup_only(
    plain_vm: VM, version: str, go_line: str, in_slice: int, in_leaf: int
) -> None:
    program = f"/usr/local/bin/procs-{version}-{go_line}"
    plain_vm.put_file(program, programs.procs(version, go_line))
    plain_vm.ok("systemctl set-property --runtime user-1000.slice CPUQuota=200%")
    try:
        assert plain_vm.login("dev", program).stdout == f"GOMAXPROCS={in_slice} NumCPU=8\n"
        answer = plain_vm.user_run("dev", program, "-p", "CPUQuota=200%")
        assert answer.stdout == f"GOMAXPROCS={in_leaf} NumCPU=8\n"
    finally:
        plain_vm.ok("systemctl revert user-1000.slice")


def test_every_toolchain_is_there_and_compiles_for_a_user(plain_vm: VM) -> None:
    said = plain_vm.login("dev", "for go in /opt/go/*/bin/go; do $go version; done").stdout
    assert said == "".join(f"go version go{version} linux/amd64\n" for version in disks.GO)
    plain_vm.ok("/opt/go/1.27.3/bin/go list -deps crypto/tls", env={"GOTOOLCHAIN": "local", "GOCACHE": "/tmp/gocache"})


@pytest.mark.long
def test_off_and_on_again_keeps_the_disk_and_the_journal(fresh_vm: VM) -> None:
    fresh_vm.ok("echo kept >/var/kept && logger --tag before kept")
    fresh_vm.reboot()
    assert fresh_vm.ok("cat /var/kept") == "kept"
    assert [e["MESSAGE"] for e in fresh_vm.journal("--boot=-1", "--identifier=before")] == ["kept"]
    fresh_vm.shutdown()
    with pytest.raises(VMError, match="off"):
        fresh_vm.run("true")


def test_ostree_booted_the_machine(ostree_vm: VM) -> None:
    assert ostree_vm.ok("systemctl is-system-running") == "running"
    assert ostree_vm.ok("ls /run/ostree-booted") == "/run/ostree-booted"
    assert "* debian" in ostree_vm.ok("ostree admin status")
    assert "ro" in ostree_vm.ok("findmnt -no OPTIONS --target /usr").split(",")
    assert ostree.booted(ostree_vm) == "main"
    assert ostree_vm.ok("go version") == f"go version go{ostree.RUNNING} linux/amd64"
    assert ostree_vm.ok("readlink -f /usr/bin/go") == "/usr/lib/golang/bin/go"
    assert ostree_vm.run("/usr/bin/go-health-hook --version").status == 0
    refs = ostree_vm.ok("ostree refs --repo=/ostree/repo --list debian").split()
    assert {f"debian/{name}" for name in ostree.COMMITS} <= set(refs)


@pytest.mark.long
def test_what_is_staged_is_booted_next(ostree_vm: VM) -> None:
    ostree_vm.ok("ostree admin deploy --stage debian/good")
    assert ostree.staged(ostree_vm)
    ostree_vm.shutdown()
    ostree_vm.boot()
    assert ostree.booted(ostree_vm) == "good"
    assert ostree_vm.ok("go version") == f"go version go{ostree.NEWER} linux/amd64"
    before = [e["MESSAGE"] for e in ostree_vm.journal("--boot=-1", "--unit=ostree-finalize-staged")]
    assert "Bootloader updated" in "\n".join(before)


@pytest.mark.long
def test_what_is_locked_is_not(ostree_vm: VM) -> None:
    ostree_vm.ok("ostree admin deploy --stage debian/good && ostree admin lock-finalization")
    ostree_vm.reboot()
    assert ostree.booted(ostree_vm) == "main"
    before = [e["MESSAGE"] for e in ostree_vm.journal("--boot=-1", "--unit=ostree-finalize-staged")]
    assert "locked for finalization" in "\n".join(before)
