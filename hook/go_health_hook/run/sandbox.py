# SPDX-License-Identifier: GPL-2.0-or-later
"""How a toolchain's program is shut in: what it sees, as whom it runs, what it may use. The runner asks for it here."""

from __future__ import annotations

import contextlib
import os
import resource
import stat

from go_health_hook.errors import HookError
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOBODY = 65534
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


class Unsandboxed(HookError):
    """This machine cannot shut a program in, so it was not run: that says nothing about the program."""


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
        self.bwrap = root_owned_program("bwrap")
        self.setpriv = root_owned_program("setpriv")
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


def root_owned_program(name: str) -> str:
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


def host() -> _Host:
    """What this machine offers for sandboxing."""
    global _host
    if _host is None:
        _host = _Host()
    return _host


@contextlib.contextmanager
def lower_limits() -> Iterator[None]:
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


def view(sandbox: Sandbox, argv: Sequence[str], status_fd: int) -> list[str]:
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
        args += drop_ids()
    return [*args, *argv]


def drop_ids() -> list[str]:
    """setpriv's command line that makes the kernel's own ids nobody's: --uid in a user namespace only shows that id."""
    h = host()
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [h.setpriv, *ids, "--inh-caps=-all"]


def no_ids(said: str) -> Unsandboxed:
    return Unsandboxed(
        f"cannot run a program as nobody here: {clean(said)}",
        hint="give root here CAP_SETUID, CAP_SETGID and CAP_SETPCAP, and a user namespace that maps nobody",
    )


def scratch_directory() -> str:
    """A new directory for a program without a view of its own, open to it alone."""
    path = f"{_SCRATCH}{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def remove_scratch(*paths: str) -> None:
    import shutil

    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def sweep_scratch() -> None:
    """Remove what a worker that was ended has left: its directories have this run's mark in their names."""
    directory, mark = os.path.split(_SCRATCH)
    try:
        remove_scratch(*(f"{directory}/{name}" for name in os.listdir(directory) if name.startswith(mark)))
    except OSError:
        pass
