# SPDX-License-Identifier: GPL-2.0-or-later
"""The one runner of programs: bounded in time and output, sandboxed, unprivileged, killed with all that it started.

Nothing else in the package starts a process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import stat
import subprocess
import threading
import time

from go_health_hook.deadline import Deadline
from go_health_hook.errors import HookError
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

NOBODY = 65534
MAX_OUTPUT = 1 << 20
# How long a killed process may take to go before it is left behind: one in uninterruptible sleep never goes.
REAP_SECONDS = 0.05
# What one toolchain program may use: Go reserves address space that it never touches, so data is what is bounded.
MAX_DATA = 3 << 30
MIN_DATA = 1 << 29
MAX_FILE = 256 << 20
MAX_PROCESSES = 4096
MAX_TMP = 1 << 30

# Of /etc a program sees what loading it takes. Programs of EL's Go call OpenSSL, which finds here what is allowed on a
# machine in FIPS mode; without it they would give up there (golang-fips/openssl).
ETC = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/openssl.d",
    "/etc/pki/tls/fips_local.cnf",
)

# What a toolchain's environment places in the view's own /tmp; without a view a directory of the run's takes its place.
TEMPORARY = ("TMPDIR", "GOPATH", "GOCACHE")

CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


class Unsandboxed(HookError):
    """This machine cannot shut a program in, so it was not run: that says nothing about the program."""


class Result:
    """How a program ended. `status` is its exit status, or None when it was killed, cut off or never started."""

    __slots__ = (
        "argv",
        "elapsed_s",
        "error",
        "overflow",
        "sandbox",
        "signal",
        "status",
        "stderr",
        "stdout",
        "timed_out",
    )

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.status: int | None = None
        self.signal: int | None = None
        self.stdout = b""
        self.stderr = b""
        self.timed_out = False
        self.overflow = False
        self.error = ""
        self.sandbox = ""
        self.elapsed_s = 0.0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit status 0."""
        return self.status == 0

    @property
    def out(self) -> str:
        """Standard output as text, undecodable bytes as backslash escapes, without blanks around it."""
        return self.stdout.decode("utf-8", "backslashreplace").strip()

    def why(self) -> str:
        """One line on why it is not `ok`: signal, time, status, and the first line it wrote to stderr."""
        said = first_line(self.stderr) or first_line(self.stdout)
        if self.error:
            return self.error
        if self.timed_out:
            return f"did not answer within {self.elapsed_s:.1f} s"
        if self.overflow:
            return f"wrote more than {MAX_OUTPUT >> 10} KiB and was stopped"
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            return f"was killed by {name}" + (f": {said}" if said else "")
        return f"exited with status {self.status}" + (f": {said}" if said else "")


class Sandbox:
    """What a toolchain program sees: a root, read-only, with `binds` of (host path, path inside) laid over it.

    With bubblewrap it is a view of its own, without network; as root the program runs as nobody, whatever the view.
    `helpers` are binds that a program can do without where there is no view. `writable` is a directory of the host,
    owned by nobody, that is bound read-write at /tmp/writable.
    """

    __slots__ = ("binds", "helpers", "root", "writable")

    def __init__(
        self,
        root: str = "/",
        binds: Sequence[tuple[str, str]] = (),
        helpers: Sequence[tuple[str, str]] = (),
        writable: str = "",
    ) -> None:
        self.root = root
        self.binds = list(binds)
        self.helpers = list(helpers)
        self.writable = writable

    @property
    def needs_view(self) -> bool:
        """Whether its programs make sense only in a view of their own."""
        return self.root != "/" or any(source != target for source, target in self.binds)


class _Host:
    """What this machine offers for sandboxing; found once, changed when bubblewrap turns out not to work."""

    def __init__(self) -> None:
        self.bwrap = _root_owned_program("bwrap")
        self.setpriv = _root_owned_program("setpriv")
        # Options that not every bubblewrap knows (EL9's 0.4.1 neither), the older first; taken out when it turns out.
        self.knows = ["--perms", "--size"]
        self.viewed = False  # whether a program has run in a view of bubblewrap's
        # Whether a program was killed or could not be started: want of memory and a failing disk look so, and pass.
        self.struck = False
        self.as_root = os.geteuid() == 0
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.may_raise_limits = self.as_root and _may_raise_limits()
        if self.as_root and not self.setpriv:
            self.bwrap = ""  # inside a view nothing else could make the ids nobody's

    def describe(self) -> str:
        who = "as nobody" if self.as_root else "as the caller"
        if self.bwrap:
            return f"bubblewrap, {who}, no network"
        return f"no bubblewrap: {who}, with the machine's own view and network"


def _root_owned_program(name: str) -> str:
    for directory in ("/usr/bin", "/bin"):
        path = f"{directory}/{name}"
        try:
            info = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode) and info.st_mode & 0o111 and info.st_uid == 0:
            return path
    return ""


def _may_raise_limits() -> bool:
    """Whether a hard limit that this process lowers can be raised again.

    Tried, since root of a user namespace has CAP_SYS_RESOURCE in vain (kernel/sys.c, do_prlimit). What is tried with
    is far above what any program here may use.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        return False
    high = 1 << 62
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (high if soft == resource.RLIM_INFINITY else soft, high))
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    except (ValueError, OSError):
        return False
    return True


_host: _Host | None = None
# Where this run's scratch directories are; its workers, which are forked, know the mark as well.
_SCRATCH = f"/tmp/go-health-hook-{os.urandom(8).hex()}-"
_lock = threading.Lock()
_live: dict[int, subprocess.Popen[bytes]] = {}


def host() -> _Host:
    """What this machine offers for sandboxing."""
    global _host
    if _host is None:
        _host = _Host()
    return _host


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Lower this process's own limits for as long as it starts a child, which inherits them.

    No wrapper, no code between fork and exec; and what this process starts afterwards has its own limits again. Hard
    limits too, where they can be raised again, so that the child cannot raise its own.
    """
    data = min(MAX_DATA, max(MIN_DATA, host().memory // 2))
    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, data), (resource.RLIMIT_FSIZE, MAX_FILE)]
    if host().as_root:
        # For a person the limit would count every thread of the desktop; root's programs run as nobody.
        wanted.append((resource.RLIMIT_NPROC, MAX_PROCESSES))
    lowered = []
    try:
        for what, value in wanted:
            soft, hard = resource.getrlimit(what)
            if soft == resource.RLIM_INFINITY or soft > value:
                with contextlib.suppress(ValueError, OSError):
                    resource.setrlimit(what, (value, value if host().may_raise_limits else hard))
                    lowered.append((what, (soft, hard)))
        yield
    finally:
        for what, limits in lowered:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, limits)


def _view(sandbox: Sandbox, argv: Sequence[str], status_fd: int) -> list[str]:
    """The bubblewrap command line for `argv` seen from inside `sandbox`."""
    h = host()
    args = [h.bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    args += ["--new-session", "--cap-drop", "ALL", "--json-status-fd", str(status_fd)]
    drop = h.as_root and (sandbox.root == "/" or os.path.exists(sandbox.root + h.setpriv))
    if drop:
        for cap in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            args += ["--cap-add", cap]
    elif h.as_root:
        # A root without util-linux: the ids are then nobody's in a user namespace only.
        args += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    binds = [*sandbox.binds, *sandbox.helpers]
    if sandbox.root == "/":
        args += ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            if os.path.islink(f"/{name}"):
                args += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                args += ["--ro-bind", f"/{name}", f"/{name}"]
        binds = [(path, path) for path in ETC if os.path.exists(path)] + binds
    else:
        args += ["--ro-bind", sandbox.root, "/"]
        # /sys too: a deployment's own is empty and cannot be written to, so there is no place in it for the cgroups.
        args += [a for d in ("var", "run", "sys") if os.path.isdir(f"{sandbox.root}/{d}") for a in ("--tmpfs", f"/{d}")]
    args += ["--proc", "/proc", "--dev", "/dev"]
    # The Go runtime looks for its quota here; the cgroup namespace stays the caller's for the same reason.
    if os.path.isdir("/sys/fs/cgroup") and os.path.isdir(f"{sandbox.root}/sys"):
        args += ["--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup"]
    args += ["--perms", "1777"] if "--perms" in h.knows else []
    args += ["--size", str(MAX_TMP)] if "--size" in h.knows else []
    args += ["--tmpfs", "/tmp"]
    made = {"/", "/usr", "/tmp"}
    for source, target in binds:
        # Parents that bubblewrap makes on its own may be closed to nobody; those made by name are 0755.
        parents = target.strip("/").split("/")[:-1]
        if sandbox.root == "/" and not target.startswith("/usr/"):
            for i in range(1, len(parents) + 1):
                parent = "/" + "/".join(parents[:i])
                if parent not in made:
                    made.add(parent)
                    args += ["--dir", parent]
        args += ["--ro-bind", source, target]
    if sandbox.writable:
        args += ["--bind", sandbox.writable, "/tmp/writable"]
    args += ["--chdir", "/", "--"]
    if drop:
        if "--perms" not in h.knows:
            args += ["/bin/sh", "-c", 'chmod 1777 /tmp; exec "$@"', "sh"]
        args += _drop()
    return [*args, *argv]


def _drop() -> list[str]:
    """setpriv's command line that makes the kernel's own ids nobody's: --uid in a user namespace only shows that id."""
    h = host()
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [h.setpriv, *ids, "--inh-caps=-all"]


class Running:
    """A started program. The thread that started it must also wait for it: its death takes the program with it.

    Its standard input is empty; with `until` it is held open instead, until that is true of what the program has said.
    """

    def __init__(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        env: dict[str, str] | None = None,
        sandbox: Sandbox | None = None,
        until: Callable[[bytes], bool] | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> None:
        self.argv = list(argv)
        self.deadline = deadline
        self.env = {**CLEAN_ENVIRONMENT, **(env or {})}
        self.sandbox = sandbox
        self.until = until
        self.max_output = max_output
        self.result = Result(argv)
        self.started = time.monotonic()
        self._start()

    def _start(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._asked: list[str] = []
        self._status_read = self._status_write = -1
        self._stdin = -1
        h = host()
        command = list(self.argv)
        options: dict[str, Any] = {}
        env = dict(self.env)
        limits: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.sandbox is not None:
            limits = _limits()
            self.result.sandbox = h.describe()
            if h.bwrap:
                self._asked = list(h.knows)
                self._status_read, self._status_write = os.pipe2(os.O_CLOEXEC)
                command = _view(self.sandbox, command, self._status_write)
                options["pass_fds"] = (self._status_write,)
            else:
                if self.sandbox.needs_view:
                    raise Unsandboxed("cannot run a program of another root here", hint="install bubblewrap")
                _become_subreaper()
                self._scratch = _scratch_directory()
                env = {
                    k: v.replace("/tmp/", self._scratch + "/", 1) if k in TEMPORARY and v.startswith("/tmp/") else v
                    for k, v in env.items()
                }
                if h.setpriv:
                    drop = _drop() if h.as_root else [h.setpriv, "--no-new-privs"]
                    command = [*drop, "--pdeathsig=KILL", *command]
                elif h.as_root:
                    options.update(user=NOBODY, group=NOBODY, extra_groups=[])
        if self.deadline.expired:
            self.result.timed_out = True
            self._close_status()
            return
        stdin = subprocess.DEVNULL
        if self.until:
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
            if self.sandbox is not None and h.as_root:
                # Some programs open it by name, as /dev/stdin: it must then be theirs.
                os.fchown(stdin, NOBODY, NOBODY)
        try:
            with _lock, limits:
                self._process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=env,
                    cwd="/",
                    close_fds=True,
                    start_new_session=True,
                    **options,
                )
                _live[self._process.pid] = self._process
        except (OSError, subprocess.SubprocessError) as error:
            if "user" in options and getattr(error, "errno", 0) in (errno.EPERM, errno.EINVAL):
                self._finish()
                raise _no_ids(str(error)) from None
            self.result.error = f"could not be started: {clean(getattr(error, 'strerror', '') or str(error))}"
            h.struck = True
        finally:
            if stdin >= 0:
                os.close(stdin)
        if self._status_write >= 0:
            os.close(self._status_write)
            self._status_write = -1

    def wait(self) -> Result:
        """Return how it ended; never later than the deadline and REAP_SECONDS. Raises Unsandboxed."""
        process = self._process
        if process is None:
            self._finish()
            return self.result
        try:
            self._converse(process)
        finally:
            self._end(process)
        if self._setup_failed():
            return self._without_view()
        self._finish()
        said = first_line(self.result.stderr)
        # What setpriv says of its own work; that it could not execute the program is about the program.
        if self.result.status and said.startswith("setpriv: ") and "failed to execute" not in said:
            raise _no_ids(said)
        return self.result

    def _converse(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout and process.stderr
        streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        out, err = process.stdout.fileno(), process.stderr.fileno()
        poll = select.poll()
        for fd in streams:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        # The end of the program counts, not the end of its pipes: a child that it left behind may hold those open.
        exited = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                exited = os.pidfd_open(process.pid)
                poll.register(exited, select.POLLIN)
        pending = set(streams)
        done = False
        try:
            while not done and (pending or (exited >= 0 and process.returncode is None)):
                left = self.deadline.remaining()
                if left <= 0:
                    self.result.timed_out = True
                    break
                events = poll.poll(min(left, 3600.0 if exited >= 0 else 0.02) * 1000 + 1)
                if exited < 0 and process.poll() is not None:
                    done = True
                for fd, _ in events:
                    if fd == exited:
                        done = True
                done = self._drain([fd for fd in pending if done or fd in dict(events)], streams, pending, poll) or done
                if self._stdin >= 0 and self.until and self.until(bytes(streams[err]) + bytes(streams[out])):
                    self._close_stdin()
        finally:
            if exited >= 0:
                os.close(exited)
            self.result.stdout, self.result.stderr = bytes(streams[out]), bytes(streams[err])

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _drain(self, ready: list[int], streams: dict[int, bytearray], pending: set[int], poll: select.poll) -> bool:
        """Read what has come; True when the program has written more than it may."""
        for fd in ready:
            while True:
                try:
                    chunk = os.read(fd, 65536)
                except BlockingIOError:
                    break
                except OSError:
                    chunk = b""
                if not chunk:
                    pending.discard(fd)
                    poll.unregister(fd)
                    break
                streams[fd] += chunk
                if len(streams[fd]) > self.max_output:
                    del streams[fd][self.max_output :]
                    self.result.overflow = True
                    return True
        return False

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Reap it, or kill it with its group and what escaped from the group; take its status."""
        cut = self.result.timed_out or self.result.overflow
        if not cut:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(self.deadline.remaining(), 3600.0) + 0.001)
        if process.returncode is None:
            if not cut:
                self.result.timed_out = True
                cut = True
            _kill_group(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_SECONDS)
        elif self.sandbox is None or self._scratch:
            _kill_group(process.pid)
        with _lock:
            _live.pop(process.pid, None)
        if self._scratch:
            _kill_strays()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        code = process.returncode
        if not cut and code is not None:
            if code < 0:
                self.result.signal = -code
                host().struck = True
            elif self.sandbox is not None and code > 128:
                self.result.signal = code - 128  # bubblewrap and shells report a signal so
                host().struck = True
            else:
                self.result.status = code

    def _close_status(self) -> bytes:
        said = b""
        if self._status_read >= 0:
            os.set_blocking(self._status_read, False)
            with contextlib.suppress(OSError):
                said = os.read(self._status_read, 4096)
            os.close(self._status_read)
            self._status_read = -1
        if self._status_write >= 0:
            os.close(self._status_write)
            self._status_write = -1
        return said

    def _setup_failed(self) -> bool:
        """Whether bubblewrap ended before the program began: it reports an exit code only once its view stands."""
        used = self._status_read >= 0
        said = self._close_status()
        if not used or self.result.timed_out or self.result.overflow:
            return False
        if self.result.ok or b"exit-code" in said:
            host().viewed = True
            return False
        if self.result.stderr.startswith(b"bwrap: execvp "):
            # The view stands; it is the program that cannot be executed. Shells call that 127 (execve(2), sh(1)).
            self.result.status = 127
            return False
        return True

    def _without_view(self) -> Result:
        """Run it again with what this machine's bubblewrap can do: an old one, or none."""
        h = host()
        said = first_line(self.result.stderr)
        with _lock:
            # Others that run side by side may have met the same and changed it already.
            unknown = next((i for i, option in enumerate(self._asked) if f"nknown option {option}" in said), -1)
            if unknown >= 0:
                h.knows = h.knows[:unknown]  # nor what is younger
            elif self.sandbox is not None and self.sandbox.needs_view:
                raise Unsandboxed(f"cannot show a program another root here: {said}", hint="see bwrap(1)")
            elif h.viewed:
                # It works here: what fails now is not to run a toolchain with less around it than the last one.
                raise Unsandboxed(f"cannot make a view for a program any more: {said}", hint="see bwrap(1)")
            else:
                h.bwrap = ""
        self._close_stdin()
        self.result = Result(self.argv)
        self._start()
        return self.wait()

    def _finish(self) -> None:
        self._close_stdin()
        self.result.elapsed_s = time.monotonic() - self.started
        if self._scratch:
            _remove_scratch(self._scratch)
            self._scratch = ""


def _no_ids(said: str) -> Unsandboxed:
    return Unsandboxed(
        f"cannot run a program as nobody here: {clean(said)}",
        hint="give root here CAP_SETUID, CAP_SETGID and CAP_SETPCAP, and a user namespace that maps nobody",
    )


def run_host(name: str, arguments: Sequence[str], deadline: Deadline) -> Result:
    """Run a program that manages this machine, as `ostree`: root's own, as the caller, unsandboxed, bounded.

    Raises nothing; where it is not installed the Result's `error` says so.
    """
    program = _root_owned_program(name)
    if not program:
        result = Result([name, *arguments])
        result.error = "is not installed"
        return result
    return run([program, *arguments], deadline)


def has_host(name: str) -> bool:
    """Whether a program that `run_host` would run is installed."""
    return bool(_root_owned_program(name))


def start(argv: Sequence[str], deadline: Deadline, **options: Any) -> Running:
    """Start `argv` (options: see Running) and return at once; `.wait()` gives the Result."""
    return Running(argv, deadline, **options)


def run(argv: Sequence[str], deadline: Deadline, **options: Any) -> Result:
    """Run `argv` to its end or the deadline's (options: see Running); the Result says it all. Raises Unsandboxed."""
    return Running(argv, deadline, **options).wait()


def run_series(
    commands: Sequence[Sequence[str]], deadline: Deadline, *, env: dict[str, str], sandbox: Sandbox
) -> list[Result]:
    """Run commands one after another in one sandbox; return a Result for each.

    Setting up a view costs more than a short command does, and views set up at the same time wait for each other in the
    kernel. A command of the form ["-NAME", …] is run without NAME in its environment. What comes after one that hangs
    or writes too much has not run, and is reported as it is.
    """
    mark = os.urandom(16).hex()
    script = ""
    for command in commands:
        unset = "unset " + command[0][1:] + ";" if command[0].startswith("-") else ""
        words = " ".join(_quoted(word) for word in command if word is not command[0] or not unset)
        script += f"( {unset} exec {words} ); s=$?; printf '\\n{mark} %s\\n' $s; printf '\\n{mark} 0\\n' >&2\n"
    whole = run(["/bin/sh", "-c", script], deadline, env=env, sandbox=sandbox)
    if not whole.ok and not whole.timed_out and not whole.overflow and mark.encode() not in whole.stdout:
        # No shell in that root: one by one, then.
        return [_run_alone(command, deadline, env, sandbox) for command in commands]
    out, err = _parted(whole.stdout, mark), _parted(whole.stderr, mark)
    results = []
    for i, command in enumerate(commands):
        result = Result(command)
        result.sandbox, result.elapsed_s = whole.sandbox, whole.elapsed_s
        result.stdout = out[i][0] if i < len(out) else b""
        result.stderr = err[i][0] if i < len(err) else b""
        status = out[i][1] if i < len(out) else None
        if status is None:
            result.timed_out, result.overflow = whole.timed_out, whole.overflow
            if not whole.timed_out and not whole.overflow:
                result.error = f"was cut off: the shell that ran it {whole.why()}"
        elif status > 128:
            result.signal = status - 128
            host().struck = True
        else:
            result.status = status
        results.append(result)
    return results


def _run_alone(command: Sequence[str], deadline: Deadline, env: dict[str, str], sandbox: Sandbox) -> Result:
    if not command[0].startswith("-"):
        return run(command, deadline, env=env, sandbox=sandbox)
    return run(command[1:], deadline, env={k: v for k, v in env.items() if k != command[0][1:]}, sandbox=sandbox)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _parted(stream: bytes, mark: str) -> list[tuple[bytes, int | None]]:
    """What stands before each mark, with the number behind it; what follows the last one has none."""
    parts = stream.split(f"\n{mark} ".encode())
    found: list[tuple[bytes, int | None]] = []
    body = parts[0]
    for part in parts[1:]:
        number, _, rest = part.partition(b"\n")
        found.append((body, int(number)))
        body = rest
    found.append((body, None))
    return found


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """The direct children of every thread of `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as listing:
                found += [int(word) for word in listing.read().split()]
    return found


def _kill_strays() -> None:
    """Kill what a program without a view of its own left behind: its orphans have become our children."""
    for _ in range(50):  # each round kills a generation; a program that forks faster than that meets its process limit
        with _lock:
            strays = [pid for pid in _children(os.getpid()) if pid not in _live]
            for pid in strays:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if not strays:
            return
        for pid in strays:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.001)


def kill_tree(pid: int) -> None:
    """Kill `pid` and everything below it that can still be found."""
    below = _children(pid)
    for child in below:
        kill_tree(child)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    """Call prctl(2); where ctypes is not to be had the process does without."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def _become_subreaper() -> None:
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


def _scratch_directory() -> str:
    """A new directory for a program without a view of its own, open to it alone."""
    path = f"{_SCRATCH}{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def _remove_scratch(*paths: str) -> None:
    import shutil

    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _sweep_scratch() -> None:
    """Remove what a worker that was ended has left: its directories have this run's mark in their names."""
    directory, mark = os.path.split(_SCRATCH)
    try:
        _remove_scratch(*(f"{directory}/{name}" for name in os.listdir(directory) if name.startswith(mark)))
    except OSError:
        pass


def _let_go_of(keep: set[int]) -> None:
    """Close what was inherited, so that a worker left behind holds no pipe open on which somebody waits for its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _die_with_parent(watched: int) -> None:
    """In a worker: wait until the parent is gone, however it went, then end with everything that was started."""
    os.read(watched, 1)
    kill_tree(os.getpid())


class Worker:
    """A forked child that does what may block for ever, so that this process can always leave in time.

    A thread stuck in stat on a dead mount, or a child in uninterruptible sleep, keeps its process from ending; the
    worker is left behind in such a case and the caller is not. `work(send)` runs in the child; what it sends comes out
    of `messages()`, marshalled, so plain values only.

    With `outlive` (seconds) it may go on after its caller has left, for at most that long. It then holds nothing of
    the caller's: an updater that waits for the end of its hook's streams, or has locked a file, is not kept waiting.
    Being asked to end does not end it sooner: once an updater that was refused has left, systemd sends SIGTERM to all
    that remains of its service.
    """

    def __init__(self, work: Callable[[Callable[[object], None]], None], outlive: int = 0) -> None:
        self.finished = False
        self.outlive = outlive
        self._buffer = b""
        self._fd, write = os.pipe2(os.O_CLOEXEC)
        watched, self._life = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._fd)
            os.close(self._life)
            self._child(work, write, watched, outlive)
        os.close(write)
        os.close(watched)

    @staticmethod
    def _child(work: Callable[[Callable[[object], None]], None], write: int, watched: int, outlive: int) -> None:
        import marshal

        status = 1
        lock = threading.Lock()

        def send(message: object) -> None:
            data = marshal.dumps(message)  # type: ignore[arg-type]
            with lock:
                view = memoryview(len(data).to_bytes(4, "big") + data)
                while view:
                    view = view[os.write(write, view) :]

        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if outlive else signal.SIG_DFL)
            os.setsid()
            if outlive:
                _let_go_of(keep={write})
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(outlive)
            else:
                _let_go_of(keep={write, watched})
                threading.Thread(target=_die_with_parent, args=(watched,), daemon=True).start()
            work(send)
            status = 0
        except BaseException as error:  # a worker reports its own bug, since nobody above it can
            with contextlib.suppress(OSError):
                import traceback

                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                send(("bug", trace))
        finally:
            os._exit(status)

    def messages(self, deadline: Deadline) -> Iterator[Any]:
        """Yield what the worker sends until it ends (`finished` is then true) or the deadline comes."""
        import marshal

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            while len(self._buffer) >= 4 and len(self._buffer) >= 4 + int.from_bytes(self._buffer[:4], "big"):
                size = int.from_bytes(self._buffer[:4], "big")
                message = marshal.loads(self._buffer[4 : 4 + size])
                self._buffer = self._buffer[4 + size :]
                yield message
            left = deadline.remaining()
            if left <= 0:
                return
            if poll.poll(left * 1000 + 1):
                chunk = os.read(self._fd, 65536)
                if not chunk:
                    self.finished = True
                    return
                self._buffer += chunk

    def close(self) -> None:
        """End the worker and all below it; one that cannot be ended, or may outlive us, is left behind."""
        os.close(self._fd)
        os.close(self._life)
        if not self.finished:
            if self.outlive:
                return
            kill_tree(self.pid)
            _sweep_scratch()
        limit = time.monotonic() + REAP_SECONDS / 5
        while time.monotonic() < limit:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.0005)


def bounded(work: Callable[[], Any], deadline: Deadline, otherwise: Any) -> Any:
    """What `work` returns (plain values), done in a worker so that nothing in it can hold the caller up.

    `otherwise` where time runs out. Raises RuntimeError for a fault of its own.
    """
    worker = Worker(lambda send: send(("value", work())))
    try:
        for kind, value in worker.messages(deadline):
            if kind == "bug":
                raise RuntimeError(value)
            return value
    finally:
        worker.close()
    return otherwise


class Attended:
    """A person's own program, run as they would run it: their environment, directory and terminal, no sandbox.

    It shares our process group, so that what is typed at the terminal reaches it; the streams in `through` come through
    us, the others are ours. Only `trace` and `bench` start such.
    """

    def __init__(self, argv: Sequence[str], env: dict[str, str], through: Sequence[str] = ("stderr",)) -> None:
        """Start it. Raises OSError where it cannot be started."""
        pipes = dict.fromkeys(through, subprocess.PIPE)
        started = time.monotonic()
        self._process = subprocess.Popen(list(argv), env=env, close_fds=True, **pipes)  # type: ignore[call-overload]
        self.started = started
        self.pid: int = self._process.pid
        self.status: int | None = None
        self._poll = select.poll()
        self._open: dict[int, str] = {}
        for name in through:
            fd = getattr(self._process, name).fileno()
            os.set_blocking(fd, False)
            self._open[fd] = name
            self._poll.register(fd, select.POLLIN)
        self._exited = -1
        with contextlib.suppress(OSError, AttributeError):
            self._exited = os.pidfd_open(self.pid)
            self._poll.register(self._exited, select.POLLIN)

    def read(self, seconds: float) -> list[tuple[str, bytes]]:
        """What came through within that time, as (stream, data); returns sooner when something came, or it ended.

        Once it has ended, `status` is its exit status, or the negative number of the signal that killed it.
        """
        end = time.monotonic() + seconds
        came: list[tuple[str, bytes]] = []
        while not came and self.status is None:
            left = end - time.monotonic()
            if left <= 0:
                break
            wait = left if self._exited >= 0 else min(left, 0.02)
            for fd, _ in self._poll.poll(wait * 1000 + 1):
                if fd == self._exited:
                    continue
                came += self._take(fd)
            self.status = self._process.poll()
        if self.status is not None:
            # What it left running may hold the streams open; what is in them now is the end.
            for fd in list(self._open):
                came += self._take(fd)
        return came

    def _take(self, fd: int) -> list[tuple[str, bytes]]:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(fd)
            del self._open[fd]
            return []
        return [(self._open[fd], data)]

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def close(self) -> None:
        """Take its status and let go of its streams; one that still runs is killed."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self.status = self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        if self._exited >= 0:
            os.close(self._exited)
            self._exited = -1
