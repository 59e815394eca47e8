# SPDX-License-Identifier: GPL-2.0-or-later
"""How a toolchain's program is shut in: what it sees, as whom it runs, what it may use. The runner asks for it here."""

from __future__ import annotations

import contextlib
import os
import resource
import stat

from go_health_hook import files
from go_health_hook.errors import NotJudged
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Toolchains run as a user of their own, so that no stranger shares the uid; nobody where that user is not there.
USER = "go-health-hook"
NOBODY = 65534
PASSWD = ("/etc/passwd", "/usr/lib/passwd")  # the second with nss-altfiles, on image systems
# What one toolchain program may use: Go reserves address space that it never touches, so data is what is bounded.
MAX_DATA = 3 << 30
MIN_DATA = 1 << 29
MAX_FILE = 256 << 20
MAX_PROCESSES = 4096
# The same for nobody, whose threads belong to other services too.
MAX_PROCESSES_SHARED = 32768
MAX_TMP = 1 << 30

# What no view shows of the top of a machine: what it has of its own, sockets, data, and disks that may not answer.
KEPT_OUT = (
    *("bin", "boot", "dev", "lib", "lib32", "lib64", "libx32", "lost+found", "media", "mnt"),
    *("proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"),
)
# What a toolchain's environment places in the view's own /tmp; without a view a directory of the run's takes its place.
TEMPORARY = ("TMPDIR", "GOPATH", "GOMODCACHE", "GOCACHE")


class Unsandboxed(NotJudged):
    """This machine cannot shut a program in, so it was not run: that says nothing about the program."""


class Sandbox(Record):
    """What a toolchain program sees of a root, read-only, with `binds` of (host path, path inside) laid over it.

    Of the root it is /usr, what loading a program takes, and `paths`. With bubblewrap it is a view of its own, without
    network; as root the program runs as nobody, whatever the view. `helpers` are binds that a program can do without
    where there is no view. `writable` is a directory of the host, owned by nobody, bound read-write at /tmp/writable.
    """

    root: str = "/"
    binds: Sequence[tuple[str, str]] = ()
    helpers: Sequence[tuple[str, str]] = ()
    writable: str = ""
    paths: Sequence[str] = ()

    @property
    def needs_view(self) -> bool:
        """Whether its programs make sense only in a view of their own."""
        return self.root != "/" or any(source != target for source, target in self.binds)

    def wider(self) -> Sandbox:
        """Return a view that also has the folders at the top of this machine in which programs and libraries may lie.

        What a Go links to or is started through may lie outside /usr, as with Homebrew and Nix. Another root's is as
        it is.
        """
        if self.needs_view:
            return self
        folders = [f"/{name}" for name in os.listdir("/") if name not in KEPT_OUT and os.path.isdir(f"/{name}")]
        return Sandbox(self.root, self.binds, self.helpers, self.writable, [*self.paths, *folders])


class _Host:
    """What this machine offers for sandboxing; found once, changed when bubblewrap turns out not to work."""

    def __init__(self) -> None:
        self.bwrap = root_owned_program("bwrap")
        self.setpriv = root_owned_program("setpriv")
        self.unshare = root_owned_program("unshare")
        # Options that not every bubblewrap knows (EL9's 0.4.1 neither), the older first; taken out when it turns out.
        self.knows = ["--perms", "--size"]
        self.proven: set[str] = set()  # helpers through which a program has begun
        # Whether a program was killed or could not be started: want of memory and a failing disk look so, and pass.
        self.struck = False
        self.as_root = os.geteuid() == 0
        own = _own_user() if self.as_root else None
        self.user = USER if own else "nobody"
        self.uid, self.gid = own or (NOBODY, NOBODY)
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.may_raise_limits = self.as_root and _may_raise_limits()
        if self.as_root and not self.setpriv:
            self.bwrap = ""  # inside a view nothing else could make the ids nobody's

    def describe(self) -> str:
        who = f"as {self.user}" if self.as_root else "as the caller"
        if self.bwrap:
            return f"bubblewrap, {who}, no network"
        return f"no bubblewrap: {who}, with the machine's own view and network"


def _own_user() -> tuple[int, int] | None:
    """The ids of USER, read without asking a name service, which may need the network."""
    for path in PASSWD:
        try:
            lines = files.read(path).decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split(":")
            if fields[0] == USER and len(fields) == 7 and fields[2].isdecimal() and fields[3].isdecimal():
                uid, gid = int(fields[2]), int(fields[3])
                return (uid, gid) if 0 < uid < 1 << 31 and 0 < gid < 1 << 31 else None
    return None


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

    Return the answer of a try, since root of a user namespace has CAP_SYS_RESOURCE without effect (kernel/sys.c,
    do_prlimit). The limit tried is far above the use of any program here.
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
        # For a person the limit would count every thread of the desktop.
        wanted.append((resource.RLIMIT_NPROC, MAX_PROCESSES_SHARED if host().uid == NOBODY else MAX_PROCESSES))
    lowered = []
    for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
        # Not ours to give, but where the caller's own soft limit is lower than the hard one, that one is enough.
        soft, hard = resource.getrlimit(what)
        if soft != hard:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, (hard, hard))
                lowered.append((what, (soft, hard)))
    try:
        for what, value in wanted:
            soft, hard = resource.getrlimit(what)
            new = (_lower(soft, value), _lower(hard, value) if host().may_raise_limits else hard)
            if new != (soft, hard):
                with contextlib.suppress(ValueError, OSError):
                    resource.setrlimit(what, new)
                    lowered.append((what, (soft, hard)))
        yield
    finally:
        for what, limits in lowered:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, limits)


def _lower(limit: int, value: int) -> int:
    return value if limit == resource.RLIM_INFINITY else min(limit, value)


def no_ids(said: str) -> Unsandboxed:
    return Unsandboxed(
        f"cannot run a program as nobody here: {clean(said)}",
        hint="give root here CAP_SETUID, CAP_SETGID and CAP_SETPCAP, and a user namespace that maps nobody",
    )
