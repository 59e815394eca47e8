# SPDX-License-Identifier: GPL-2.0-or-later
"""A control before the blame: could this machine, at this moment, have run any program the same way?

Asked only after a program of the toolchain failed. Where the control fails as well, the failure says nothing about the
toolchain.
"""

from __future__ import annotations

import os
import resource
import signal
import stat

from go_health_hook import files
from go_health_hook.run.process import run
from go_health_hook.run.sandbox import MIN_DATA, Sandbox, Unsandboxed, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline
    from go_health_hook.run.result import Result

SECONDS = 3.0  # the longest that the control may take
LEAST = 0.2  # with less time left there is no control, and so no blame
# A program that fails by itself dies of one of these; the others are sent, by somebody or by the kernel's OOM killer.
CRASHES = (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
# What a Go program may need: the runtime reserves address space that it never touches.
NEEDED = {
    "address space": (resource.RLIMIT_AS, 4 << 30),
    "data": (resource.RLIMIT_DATA, MIN_DATA),
    "file size": (resource.RLIMIT_FSIZE, 64 << 20),
    "open files": (resource.RLIMIT_NOFILE, 128),
    "stack": (resource.RLIMIT_STACK, 1 << 20),
    "processes": (resource.RLIMIT_NPROC, 256),
    "CPU time": (resource.RLIMIT_CPU, 600),
}
LEAST_MEMORY = 96 << 20  # bytes available
LEAST_ROOM = 32 << 20  # bytes free where a program without a view writes

# As many processes at once as `go build` has threads and children. They wait for the end of the standard input, so no
# time passes; a shell that cannot start one says so and fails.
SCRIPT = """
exec 3<&0 || exit 1
n=0
while [ $n -lt $1 ]; do (read -r x <&3; exit 0) & n=$((n + 1)); done
echo all of them
wait
/bin/true && sh -c 'exit 7'
[ $? = 7 ] && echo fine
"""


def excuse(deadline: Deadline) -> str:
    """Return why a failure just now may be the machine's, in one line, or an empty string where it is not."""
    return _limits() or _devices() or _memory() or _room() or _control(deadline)


def sent(result: Result) -> str:
    """Return why the end of a program by a signal says nothing about it, or an empty string."""
    number = result.signal
    if number is None:
        return ""
    if number == signal.SIGKILL:
        return "it was killed by SIGKILL, as the kernel does where memory is short"
    if number == signal.SIGSYS:
        return "it was killed by SIGSYS: system calls of its kind are denied here (SystemCallArchitectures=, seccomp)"
    if number not in CRASHES:
        return "it was ended by a signal that a program does not send itself"
    return ""


def _limits() -> str:
    for name, (what, needed) in NEEDED.items():
        limit = resource.getrlimit(what)[1 if what in (resource.RLIMIT_AS, resource.RLIMIT_CPU) else 0]
        if limit == resource.RLIM_INFINITY or limit >= needed:
            continue
        if what == resource.RLIMIT_NPROC and host().as_root:
            continue  # set for each program (run/sandbox.py); the control shows whether it is reached
        return f"the limit on its {name} is {limit} here (ulimit), Go may need {needed}"
    return ""


def _devices() -> str:
    """The devices that every program relies on; some script may have put a file in the place of one."""
    for path, number in (("/dev/null", (1, 3)), ("/dev/zero", (1, 5)), ("/dev/urandom", (1, 9))):
        try:
            info = os.stat(path)
        except OSError as error:
            return f"{path} cannot be used here: {error.strerror}"
        if not stat.S_ISCHR(info.st_mode) or (os.major(info.st_rdev), os.minor(info.st_rdev)) != number:
            return f"{path} is not the device that it should be"
        if info.st_mode & 0o006 != 0o006:
            return f"{path} is closed to other users (mode {stat.S_IMODE(info.st_mode):04o})"
    return ""


def _memory() -> str:
    try:
        lines = files.head("/proc/meminfo", 8192).splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith(b"MemAvailable:"))
    except (StopIteration, ValueError, IndexError):
        return ""
    return f"memory is short: {available >> 20} MiB available" if available < LEAST_MEMORY else ""


def _room() -> str:
    from go_health_hook.run import scratch

    if host().bwrap:
        return ""  # a view's own /tmp is in memory
    place = scratch.place()
    try:
        room = os.statvfs(place)
    except OSError as error:
        return f"{place}: {error.strerror}"
    if room.f_flag & os.ST_NOEXEC:
        return f"{place} is mounted noexec"
    short = room.f_bavail * room.f_frsize < LEAST_ROOM or (room.f_files and room.f_favail < 100)
    return f"{place} is full" if short else ""


def _control(deadline: Deadline) -> str:
    left = deadline.remaining()
    if left < LEAST:
        return "no time is left for a control"
    count = min(128, 32 + 4 * (os.cpu_count() or 1))
    limit = deadline.within(min(SECONDS, left / 2))
    command = ["/bin/sh", "-c", SCRIPT, "control", str(count)]
    try:
        done = run(command, limit, sandbox=Sandbox(), until=lambda said: b"all of them" in said)
    except Unsandboxed as error:
        return error.message
    if done.ok and done.out.endswith("fine") and not done.stderr.strip():
        return ""
    return f"a shell with {count} children cannot run here either: {done.why()}"
