# SPDX-License-Identifier: GPL-2.0-or-later
"""Slow is told from hung: on samples of /proc that were recorded on a real kernel (6.18, two CPUs)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from go_health_hook.deadline import DOUBT, NEXT, RAN, Deadline
from go_health_hook.run import progress
from go_health_hook.run.progress import FIRST, LAST, LATE, Account, Process, Sample, Thread, Watch, sample, tend

RECORDED = Path(__file__).parent / "progress"


def recorded(name: str) -> list[tuple[float, Sample]]:
    """The samples of a file, each with the seconds since the one before."""
    samples: list[tuple[float, Sample]] = []
    for line in (RECORDED / f"{name}.txt").read_text().splitlines():
        words = line.split()
        if words[0] == "after":
            samples.append((float(words[1]), {}))
        elif words[0] == "process":
            read = None if words[7] == "None" else int(words[7])
            process = Process({}, float(words[3]), int(words[5]), read)
            samples[-1][1][int(words[1])] = process
        elif words[0] == "thread":
            process.threads[int(words[1])] = Thread(float(words[3]), float(words[5]), words[7])
    return samples


def account_of(samples: list[tuple[float, Sample]]) -> tuple[Account, float]:
    """What comes of the samples, and the seconds that they took."""
    account = Account()
    for seconds, now in samples:
        account.add(now, seconds)
    return account, sum(seconds for seconds, _ in samples)


@pytest.mark.parametrize("name", ["quota", "quota-short", "busy", "disk"])
def test_account_slow_machine_credits_nearly_all_that_was_not_run(name: str) -> None:
    account, total = account_of(recorded(name))
    assert account.credit > 0.7 * (total - account.ran)
    assert account.credit + account.ran <= total + 0.001


@pytest.mark.parametrize("name", ["sleeping", "waking", "spinning", "siblings", "disk-dead"])
def test_account_hang_on_a_quiet_machine_credits_nothing(name: str) -> None:
    account, total = account_of(recorded(name))
    assert account.credit < 0.03 * total


@pytest.mark.parametrize("name", ["sleeping-busy", "stopped"])
def test_account_hang_on_a_busy_machine_credits_its_start_alone(name: str) -> None:
    account, total = account_of(recorded(name))
    assert account.credit < 0.2 * total
    assert account.idle > 0.7 * total


def test_account_siblings_that_spin_run_all_the_time() -> None:
    account, total = account_of(recorded("siblings"))
    assert account.ran == pytest.approx(total)


def one(ran: float, waited: float, state: str, *, faults: int = 0, read: int | None = None) -> Sample:
    return {7: Process({7: Thread(ran, waited, state)}, 0.0, faults, read)}


def test_account_wait_that_goes_on_is_counted_once() -> None:
    """The kernel adds a wait when it is over; until then the thread shows as ready and has not run."""
    samples = [(0.1, one(0.1, 0.0, "R")), (0.1, one(0.1, 0.0, "R")), (0.1, one(0.1, 0.0, "R"))]
    account, _ = account_of(samples)
    assert account.credit == pytest.approx(0.2)
    account.add(one(0.11, 0.2, "S"), 0.1)
    assert account.credit == pytest.approx(0.2)


def test_account_disk_that_pauses_is_credited_once_it_delivers() -> None:
    account, _ = account_of([(0.1, one(0.01, 0.0, "D", read=5)) for _ in range(20)])
    assert account.credit == 0.0
    account.add(one(0.01, 0.0, "D", read=6), 0.1)
    assert account.credit == pytest.approx(2.09)


@pytest.mark.parametrize("last", [one(0.01, 0.0, "S"), one(0.01, 0.0, "D", faults=1), {}])
def test_account_read_is_answered_by_a_fault_another_state_or_the_end(last: Sample) -> None:
    """Without /proc/PID/io, which another user's processes keep to themselves."""
    account, _ = account_of([(0.1, one(0.01, 0.0, "D")) for _ in range(3)])
    assert account.credit == 0.0
    account.add(last, 0.1)
    assert account.credit > 0.25


def test_account_hang_stays_proven_when_its_end_is_dealt_with() -> None:
    account, _ = account_of([*((0.1, one(0.01, 0.0, "S")) for _ in range(30)), (0.1, one(0.01, 0.0, "R"))])
    assert account.idle == pytest.approx(3.0)


def test_account_disk_that_does_not_answer_is_in_doubt_and_no_sleep() -> None:
    """The next answer of a busy disk may take seconds, with the reads of others before it."""
    account, total = account_of(recorded("disk-dead"))
    assert account.doubt > 0.9 * total
    assert account.idle < 0.1 * total


def test_account_processes_that_have_ended_do_not_sleep() -> None:
    """The worker gave up before a starved keeper looked: 3.5 s in which all had waited for a CPU."""
    account, _ = account_of([(0.1, one(0.01, 0.0, "R")), (3.5, one(0.0, 0.0, "Z"))])
    assert account.idle == 0.0
    assert account.doubt == pytest.approx(3.5, abs=0.1)


def test_account_late_look_is_in_doubt_by_as_much() -> None:
    """The whole machine may have been suspended, or all of us stopped."""
    account = Account()
    account.add(one(0.01, 0.0, "S"), 0.1)
    account.add(one(0.01, 0.0, "S"), 10.0, late=9.9)
    assert account.doubt == pytest.approx(9.9)
    assert account.idle == pytest.approx(0.2)


def test_account_traced_process_is_kept_waiting_by_its_tracer() -> None:
    account, _ = account_of([(0.1, one(0.01, 0.0, "t")) for _ in range(11)])
    assert account.credit == pytest.approx(1.0)
    stopped, _ = account_of([(0.1, one(0.01, 0.0, "T")) for _ in range(11)])
    assert stopped.credit == 0.0


def test_account_idle_time_cannot_be_credited_later_as_a_wait_for_a_cpu() -> None:
    account, _ = account_of([(1.0, one(0.01, 0.0, "S")) for _ in range(5)])
    account.add(one(0.02, 4.0, "S"), 0.1)
    assert account.credit <= 0.1


def test_sample_names_this_process_and_its_children() -> None:
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)
        os._exit(0)
    try:
        now = sample(os.getpid())
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert {os.getpid(), child} <= now.keys()
    assert now[os.getpid()].threads[os.getpid()].state == "-"
    assert now[child].threads[child].state in "RSD"
    assert sample(child) == {}


def test_tend_without_a_ceiling_or_in_a_worker_does_nothing() -> None:
    assert tend(Deadline(5)) == 3600
    others = Deadline(5, ceiling=60)
    assert others.clock
    others.clock.owner = 1
    assert tend(others) == 3600


def test_watch_looks_first_after_a_moment_and_before_the_end() -> None:
    deadline = Deadline(5, ceiling=60)
    assert deadline.clock
    watch = Watch(deadline.clock, deadline.started)
    assert 0 < watch.look(5.0) <= FIRST
    assert watch.last == deadline.started
    watch.last -= LAST
    watch.look(0.01)
    assert watch.last > deadline.started
    last = watch.last
    watch.look(0.0)
    assert watch.last > last


def test_watch_promises_a_look_before_the_end() -> None:
    """However long the pauses are: a worker goes by the promise."""
    deadline = Deadline(5, ceiling=60)
    assert deadline.clock
    watch = Watch(deadline.clock, deadline.started)
    watch.pause = 0.0
    watch.account.for_cpu, watch.account.share = True, 0.0
    assert watch.look(LAST + 0.02) <= LAST / 2
    assert deadline.clock.cell[NEXT] <= time.monotonic() + LAST / 2


def test_watch_that_looks_late_is_in_doubt() -> None:
    deadline = Deadline(5, ceiling=60)
    assert deadline.clock
    watch = Watch(deadline.clock, deadline.started)
    watch.look(0.0)
    watch.last -= 3.0
    deadline.clock.cell[NEXT] = time.monotonic() - 2.0 - LATE
    watch.look(5.0)
    assert deadline.clock.cell[DOUBT] > 1.9


def test_watch_time_that_the_host_took_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(5, ceiling=60)
    assert deadline.clock
    monkeypatch.setattr(progress, "_machine", lambda: (0, 0))
    watch = Watch(deadline.clock, deadline.started)
    monkeypatch.setattr(progress, "_machine", lambda: (1000, 800))
    watch.account.ran = 4.5
    watch.look(0.0)
    assert deadline.clock.cell[RAN] == pytest.approx(0.9, abs=0.1)
    assert deadline.clock.cell[DOUBT] > 4.0


@pytest.mark.root
@pytest.mark.parametrize(("user", "state"), [(65534, "t"), (0, "T")])
def test_sample_stopped_program_of_a_shared_user_counts_as_traced(user: int, state: str) -> None:
    """Another service of user nobody's may have stopped it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user, group=user, extra_groups=[]) as program:
        os.kill(program.pid, signal.SIGSTOP)
        os.waitpid(program.pid, os.WUNTRACED)
        assert sample(os.getpid())[program.pid].any_in(state)
        program.kill()
