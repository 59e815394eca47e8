# SPDX-License-Identifier: GPL-2.0-or-later
"""The one runner: what it reports, what it bounds, what it leaves behind (nothing)."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.leftovers import left_behind

from go_health_hook.deadline import Deadline
from go_health_hook.run import process, view
from go_health_hook.run import sandbox as sandboxes
from go_health_hook.run.process import run
from go_health_hook.run.result import MAX_OUTPUT
from go_health_hook.run.sandbox import MAX_DATA, MAX_FILE, Sandbox
from go_health_hook.run.series import Held, run_series
from go_health_hook.run.worker import Worker

LONG = 60.0


@pytest.fixture(params=["bubblewrap", "none"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    if request.param == "none":
        monkeypatch.setattr(sandboxes.host(), "bwrap", "")
    elif not sandboxes.host().bwrap:
        pytest.skip("bubblewrap is not installed")
    return Sandbox()


def test_a_status_is_reported(sandbox: Sandbox) -> None:
    result = run(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], Deadline(LONG), sandbox=sandbox)
    assert (result.status, result.out, result.stderr) == (7, "out", b"err\n")
    assert result.why() == "exited with status 7: err"


def test_a_status_is_reported_of_a_program_of_this_machines() -> None:
    result = run(["/bin/sh", "-c", "echo err >&2; exit 7"], Deadline(LONG))
    assert (result.status, result.stderr) == (7, b"err\n")
    assert run(["/bin/sh", "-c", "kill -SEGV $$"], Deadline(LONG)).signal == signal.SIGSEGV
    assert "No such file" in run(["/nonexistent/program"], Deadline(LONG)).error


def test_a_signal_is_reported(sandbox: Sandbox) -> None:
    result = run(["/bin/sh", "-c", "kill -SEGV $$"], Deadline(LONG), sandbox=sandbox)
    assert result.status is None
    assert result.signal == signal.SIGSEGV
    assert "SIGSEGV" in result.why()


def test_time_ends_it_and_its_children(sandbox: Sandbox) -> None:
    name = f"10{os.getpid()}"
    script = f"trap '' TERM; setsid sleep {name} & sleep {name}"
    result = run(["/bin/sh", "-c", script], Deadline(2), sandbox=sandbox)
    assert result.timed_out and not result.ok
    assert not left_behind(f"sleep {name}")


def test_a_child_left_behind_is_ended(sandbox: Sandbox) -> None:
    name = f"20{os.getpid()}"
    result = run(["/bin/sh", "-c", f"setsid sleep {name} & echo done"], Deadline(LONG), sandbox=sandbox)
    assert result.ok and result.out == "done"
    assert not left_behind(f"sleep {name}")


def test_an_input_that_is_held_open_can_be_opened_by_its_name(sandbox: Sandbox) -> None:
    script = "exec 3</dev/stdin && echo open >&2; cat <&3; echo closed"
    result = run(["/bin/sh", "-c", script], Deadline(LONG), sandbox=sandbox, until=lambda said: b"open\n" in said)
    assert (result.status, result.out, result.stderr) == (0, "closed", b"open\n")


def test_output_is_bounded(sandbox: Sandbox) -> None:
    result = run(["/bin/sh", "-c", "while :; do echo 0123456789abcdef; done"], Deadline(LONG), sandbox=sandbox)
    assert result.overflow and not result.ok
    assert len(result.stdout) == MAX_OUTPUT


@pytest.fixture
def core_dumps() -> Iterator[None]:
    """The caller may dump core, as far as its hard limit goes."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limits)


@pytest.fixture
def further_group() -> Iterator[None]:
    """The caller has a group besides its own."""
    groups = os.getgroups()
    os.setgroups([*groups, 12345])
    yield
    os.setgroups(groups)


@pytest.mark.usefixtures("core_dumps")
def test_memory_files_and_dumps_are_bounded(sandbox: Sandbox) -> None:
    wanted = {"data size": MAX_DATA, "file size": MAX_FILE, "core file size": 0}
    result = run(["/bin/cat", "/proc/self/limits"], Deadline(LONG), sandbox=sandbox)
    lines = {name: line for name in wanted for line in result.out.splitlines() if line.startswith(f"Max {name}")}
    assert {name: int(line.split()[-3]) for name, line in lines.items()} == wanted
    if sandboxes.host().may_raise_limits:
        assert {name: int(line.split()[-2]) for name, line in lines.items()} == wanted


@pytest.mark.root
def test_what_it_writes_is_bounded(sandbox: Sandbox) -> None:
    if "--size" not in sandboxes.host().knows or not sandboxes.host().bwrap:
        pytest.skip("this bubblewrap bounds no file system")
    result = run(["/bin/df", "--block-size=1", "--output=size", "/tmp"], Deadline(LONG), sandbox=sandbox)
    assert int(result.out.split()[-1]) == sandboxes.MAX_TMP


def test_the_callers_own_limits_stay(sandbox: Sandbox) -> None:
    before = Path("/proc/self/limits").read_text()
    assert run(["/bin/true"], Deadline(LONG), sandbox=sandbox).ok
    assert Path("/proc/self/limits").read_text() == before


def test_its_environment_and_descriptors_are_ours(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SECRET", "x")
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    result = run(["/bin/sh", "-c", "env; ls /proc/self/fd | wc -l; pwd"], Deadline(LONG), sandbox=sandbox)
    os.close(stray)
    assert "SECRET" not in result.out and "LD_PRELOAD" not in result.out
    assert result.out.splitlines()[-1] == "/"
    assert int(result.out.splitlines()[-2]) <= 5  # three, the listing's own, and bubblewrap's status in its own process


def test_a_program_that_is_missing_is_an_answer(sandbox: Sandbox) -> None:
    result = run(["/nonexistent/program"], Deadline(LONG), sandbox=sandbox)
    assert not result.ok and "/nonexistent/program" in result.why(), result.why()


def test_input_is_held_until_the_word_comes(sandbox: Sandbox) -> None:
    script = "echo word >&2; cat; echo after"
    result = run(["/bin/sh", "-c", script], Deadline(LONG), sandbox=sandbox, until=lambda said: b"word" in said)
    assert result.ok and result.out == "after"


def test_a_series_keeps_its_answers_apart(sandbox: Sandbox) -> None:
    commands = [
        ["/bin/echo", "it's one"],
        ["-GONE", "/bin/sh", "-c", "echo ${GONE-unset} ${KEPT-unset}"],
        ["/bin/sh", "-c", "echo bad >&2; exit 3"],
        ["/bin/sh", "-c", "kill -KILL $$"],
        ["/bin/echo", "last"],
    ]
    results = run_series(commands, Deadline(LONG), env={"GONE": "x", "KEPT": "y"}, sandbox=sandbox)
    assert [r.out for r in results] == ["it's one", "unset y", "", "", "last"]
    assert [r.status for r in results] == [0, 0, 3, None, 0]
    assert results[2].stderr == b"bad\n"
    assert results[3].signal == signal.SIGKILL


def test_a_series_says_what_a_hanging_member_kept_from_running(sandbox: Sandbox) -> None:
    results = run_series(
        [["/bin/echo", "one"], ["/bin/sleep", "600"], ["/bin/true"]], Deadline(2), env={}, sandbox=sandbox
    )
    assert results[0].ok
    assert results[1].timed_out and results[2].timed_out


def test_a_series_holds_the_input_of_its_last_member_open(sandbox: Sandbox) -> None:
    script = "echo $WORD >&2; cat; echo after"
    held = Held(["/bin/sh", "-c", script], {"WORD": "it's said"}, lambda said: b"it's said" in said)
    commands = [["/bin/cat"], ["/bin/sh", "-c", "echo ${WORD-unset}"]]
    results = run_series(commands, Deadline(LONG), env={}, sandbox=sandbox, held=held)
    assert [r.out for r in results] == ["", "unset", "after"]
    assert [r.status for r in results] == [0, 0, 0]
    assert results[2].stderr == b"it's said\n"
    repeat = results[2].repeat
    assert repeat is not None and repeat().out == "after"


def test_a_series_says_when_its_last_member_did_not_begin(sandbox: Sandbox) -> None:
    held = Held(["/bin/echo"], {}, lambda said: True)
    results = run_series([["/bin/sleep", "600"]], Deadline(2), env={}, sandbox=sandbox, held=held)
    assert results[0].timed_out and results[1].timed_out


def test_nothing_starts_when_no_time_is_left(sandbox: Sandbox) -> None:
    result = run(["/bin/echo", "x"], Deadline(1, time.monotonic() - 2), sandbox=sandbox)
    assert result.timed_out and not result.stdout


def test_of_etc_it_sees_what_a_linked_program_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sandboxes.host().bwrap:
        pytest.skip("bubblewrap is not installed")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/openssl.cnf").write_text("wanted")
    (tmp_path / "tls/private.key").write_text("secret")
    monkeypatch.setattr(view, "ETC", (*view.ETC, str(tmp_path / "tls/openssl.cnf"), str(tmp_path / "none")))
    script = f"cat {tmp_path}/tls/*; ls /etc"
    result = run(["/bin/sh", "-c", script], Deadline(LONG), sandbox=Sandbox())
    assert result.ok, result.stderr
    assert result.out.startswith("wanted") and "secret" not in result.out and "passwd" not in result.out


OLD = """#!/bin/bash
# Stands in for bubblewrap 0.4.1 (EL9): what that does not know it refuses in the same words.
for word; do
    [ "$word" = -- ] && break
    case $word in --perms | --size) echo "bwrap: Unknown option $word" >&2; exit 1 ;; esac
done
exec %s "$@"
"""


def test_an_old_bubblewrap_serves_all_that_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = sandboxes.host()
    if not host.bwrap:
        pytest.skip("bubblewrap is not installed")
    old = tmp_path / "bwrap"
    old.write_text(OLD % host.bwrap)
    old.chmod(0o755)
    monkeypatch.setattr(host, "bwrap", str(old))
    monkeypatch.setattr(host, "knows", ["--perms", "--size"])
    running = [process.start(["/bin/echo", word], Deadline(LONG), sandbox=Sandbox()) for word in ("one", "two")]
    assert [r.wait().out for r in running] == ["one", "two"]
    assert host.bwrap == str(old) and not host.knows
    shown = run(["/bin/sh", "-c", "touch /tmp/x && echo $$"], Deadline(LONG), sandbox=Sandbox())
    assert shown.ok and int(shown.out) < 10  # its own process namespace, and a /tmp that nobody may use


def test_a_program_that_cannot_be_executed_takes_nobody_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    host = sandboxes.host()
    if not host.bwrap:
        pytest.skip("bubblewrap is not installed")
    bwrap = host.bwrap
    monkeypatch.setattr(host, "as_root", False)  # a person's toolchain is executed by bubblewrap itself
    result = run(["/nonexistent/program"], Deadline(LONG), sandbox=Sandbox())
    assert (result.status, host.bwrap) == (127, bwrap)


def test_a_view_that_has_worked_is_not_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = sandboxes.host()
    if not host.bwrap:
        pytest.skip("bubblewrap is not installed")
    assert run(["/bin/true"], Deadline(LONG), sandbox=Sandbox()).ok
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho 'bwrap: No space left on device' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(host, "bwrap", str(refuses))
    with pytest.raises(sandboxes.Unsandboxed, match="No space left"):
        run(["/bin/true"], Deadline(LONG), sandbox=Sandbox())


def test_another_root_needs_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes.host(), "bwrap", "")
    with pytest.raises(sandboxes.Unsandboxed, match="another root"):
        run(["/bin/true"], Deadline(LONG), sandbox=Sandbox("/usr"))


@pytest.mark.root
def test_cgroups_can_be_read_by_the_unprivileged_user(sandbox: Sandbox) -> None:
    """bubblewrap closes the directories that it makes for a bind itself to other users (0.5.0 and later)."""
    if not os.path.isdir("/sys/fs/cgroup"):
        pytest.skip("there are no cgroups here")
    result = run(["/bin/ls", "/sys/fs/cgroup"], Deadline(LONG), sandbox=sandbox)
    assert result.ok and sorted(result.out.split()) == sorted(os.listdir("/sys/fs/cgroup")), result.why()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["net", "pid", "ipc", "uts", "mnt"])
def test_view_has_namespace_of_its_own(kind: str) -> None:
    if not sandboxes.host().bwrap:
        pytest.skip("bubblewrap is not installed")
    result = run(["/bin/readlink", f"/proc/self/ns/{kind}"], Deadline(LONG), sandbox=Sandbox())
    assert result.ok and result.out.startswith(f"{kind}:") and result.out != os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.root
def test_kernel_settings_cannot_be_written_in_a_view() -> None:
    if not sandboxes.host().bwrap:
        pytest.skip("bubblewrap is not installed")
    result = run(["/bin/cat", "/proc/self/mountinfo"], Deadline(LONG), sandbox=Sandbox())
    mounts = {line.split()[4]: line.split()[5].split(",") for line in result.out.splitlines()}
    assert "ro" in mounts["/proc/sys"] and "ro" in mounts["/usr"]
    assert [point for point in mounts if point.startswith("/sys/") and not point.startswith("/sys/fs/cgroup")] == []


@pytest.mark.root
@pytest.mark.usefixtures("further_group")
def test_the_kernel_sees_nobody(sandbox: Sandbox) -> None:
    script = "grep -E 'Uid|Gid|Groups|CapEff|NoNewPrivs' /proc/self/status; cat /etc/shadow"
    result = run(["/bin/sh", "-c", script], Deadline(LONG), sandbox=sandbox)
    words = result.out.split()
    assert words == ["Uid:", *["65534"] * 4, "Gid:", *["65534"] * 4, "Groups:", "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def test_a_worker_sends_what_it_finds() -> None:
    def work(send: Callable[[object], None]) -> None:
        send(("a", 1))
        send({"b": [2.5, None]})

    worker = Worker(work)
    assert list(worker.messages(Deadline(LONG))) == [("a", 1), {"b": [2.5, None]}]
    assert worker.finished
    worker.close()


def test_a_worker_that_hangs_is_left_in_time_and_ended() -> None:
    def hang(send: object) -> None:
        time.sleep(600)

    worker = Worker(hang)
    assert list(worker.messages(Deadline(0.1))) == []
    assert not worker.finished
    worker.close()
    with contextlib.suppress(ChildProcessError):  # waited for already, unless the machine is slow
        assert os.WTERMSIG(os.waitpid(worker.pid, 0)[1]) == signal.SIGKILL


def test_a_worker_reports_its_own_bug() -> None:
    def bug(send: object) -> None:
        raise RuntimeError("mine")

    worker = Worker(bug)
    (message,) = worker.messages(Deadline(LONG))
    worker.close()
    assert message[0] == "bug" and "RuntimeError: mine" in message[1]


def test_wider_view_shows_folders_that_programs_may_lie_in(tmp_path: Path) -> None:
    shown = Sandbox(paths=["/opt/go"]).wider().paths
    assert shown[0] == "/opt/go"
    assert "/etc" in shown
    assert not {"/usr", "/root", "/run", "/tmp", "/var", "/proc"} & set(shown)
    other = Sandbox(str(tmp_path))
    assert other.wider() is other


def test_repeat_without_a_wider_view_runs_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be shown proves nothing about the program, and nothing in its favour."""
    if not sandboxes.host().bwrap:
        pytest.skip("bubblewrap is not installed")
    unseen = Sandbox(binds=[("/proc/nothing", "/proc/nothing")])
    monkeypatch.setattr(Sandbox, "wider", lambda self: unseen)
    command = ["/bin/sh", "-c", "exit 3"]
    alone = run(command, Deadline(LONG), sandbox=Sandbox())
    (one,) = run_series([command], Deadline(LONG), env={}, sandbox=Sandbox())
    for result in (alone, one):
        assert result.status == 3
        assert result.repeat is not None and result.repeat().status == 3
