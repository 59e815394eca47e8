# SPDX-License-Identifier: GPL-2.0-or-later
"""A Go toolchain in a subject: where it is, whether root may execute it, and how it is asked.

The runner is loaded once there is something to run: on a machine without Go, that is a third of the start of `cpu`.
"""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.go import elf, trust
from go_health_hook.go.elsewhere import is_goroot, unjudged
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.run import process
    from go_health_hook.run.result import Result
    from go_health_hook.run.sandbox import Sandbox
    from go_health_hook.run.series import Held

# Where `go` is looked for. Root's own PATH is not asked: sudo and cron bring a user's along.
SEARCH = ("/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin")
FAMILIAR = ("/usr/lib/golang", "/usr/local/go")
# Where only packages put programs: a link there that leads nowhere is not one that a person left behind.
PACKAGED = ("/usr/bin", "/usr/sbin")
PROBES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probes")
PROBES_INSIDE = "/tmp/probes"

# Below GOROOT, what is read before anything is run. The sources of each package are looked at when they are read.
DECISIVE = ("go.env", "VERSION", "src", "src/runtime", "src/crypto", "src/crypto/tls", "pkg/include", "lib")
# Which of the sources are asked whether they can be read: where one cannot, the others cannot either.
READ = ("src/runtime", "src/runtime/proc.go", "src/crypto/tls", "src/crypto/tls/tls.go")


class Toolchain:
    """A GOROOT of a subject. All paths are the subject's.

    `problem` says why it is none (a dangling link, a file …). `foreign` says why root must not execute it, `closed` why
    the user whom its programs run as cannot. In each of these cases nothing of it is run. `lost` names the link that
    the distribution's users follow and that leads nowhere. `lasting` is whether it may use a build cache that lasts.
    """

    def __init__(self, subject: Subject, goroot: str, via: str) -> None:
        self.subject = subject
        self.goroot = goroot
        self.via = via
        self.lasting = False
        self.problem = ""
        self.lost = ""
        self.foreign: trust.Hindrance | None = None
        self.closed: trust.Hindrance | None = None
        self.tools = ""
        self._broken: dict[str, str] = {}
        try:
            self.goroot = subject.realpath(goroot)
            if not stat.S_ISDIR(subject.stat(self.goroot).st_mode):
                self.problem = f"GOROOT {clean(goroot)} is a file, not a directory"
            elif self.goroot == "/":
                self.problem = "GOROOT is the root directory itself"
        except OSError as error:
            self.problem = _path_problem(goroot, error)
        if self.problem:
            return
        self.goroot = self._home_of_go()
        self.tools = self._tool_directory()
        programs = [self.go, *(self.tool(t) for t in ("compile", "link", "asm"))]
        if os.geteuid() == 0:
            decisive = [f"{self.goroot}/{name}" for name in DECISIVE]
            self.foreign = trust.changeable(subject, [*programs, self.gofmt, self.tools, *decisive, self.goroot])
        if not self.foreign:
            self.closed = trust.closed(subject, self.goroot, programs, [f"{self.goroot}/{name}" for name in READ])

    @property
    def untrusted(self) -> str:
        """Why nothing of it is run, for root's or its users' sake, or an empty string."""
        hindrance = self.foreign or self.closed
        return hindrance.text if hindrance else ""

    @property
    def go(self) -> str:
        """The path of the go command."""
        return f"{self.goroot}/bin/go"

    @property
    def gofmt(self) -> str:
        """The path of gofmt."""
        return f"{self.goroot}/bin/gofmt"

    def tool(self, name: str) -> str:
        """The path of a compiled tool, as compile or link."""
        return f"{self.tools}/{name}"

    @property
    def runnable(self) -> bool:
        """Whether anything of it may and can be executed."""
        return not self.problem and not self.untrusted and not self.broken(self.go)

    def _home_of_go(self) -> str:
        """GOROOT as go itself finds it: by its executable, links followed (cmd/go/internal/cfg, findGOROOT).

        It differs where every file is a link to another tree, as stow(8) and `cp -s` make them.
        """
        try:
            real = self.subject.realpath(self.go)
        except OSError:
            return self.goroot
        home = os.path.dirname(os.path.dirname(real))
        return home if real.endswith("/bin/go") and home != "/" and is_goroot(self.subject, home) else self.goroot

    def _tool_directory(self) -> str:
        """GOROOT/pkg/tool/OS_ARCH; with several, the one of go's machine, else one whose compiler runs here."""
        base = f"{self.goroot}/pkg/tool"
        try:
            names = sorted(n for n in self.subject.listdir(base) if n.startswith("linux_"))
        except OSError:
            names = []
        if len(names) > 1:
            own = f"linux_{elf.GOARCH.get(self._machine())}"
            runs = [n for n in names if not self.broken(f"{base}/{n}/compile")]
            names = [own] if own in names else runs or names
        return f"{base}/{names[0]}" if names else f"{base}/linux_unknown"

    def _machine(self) -> int:
        """The machine that go is for (elf(5): e_machine); this one where go is a script or damaged."""
        try:
            with open(self.subject.open(self.go), "rb", buffering=0) as file:
                return elf.opened(file.fileno()).machine
        except (OSError, elf.NotElf):
            return elf.MACHINES.get(os.uname().machine, (0,))[0]

    def read(self, name: str, limit: int = 65536) -> str | None:
        """The text of a file below GOROOT, cut at `limit` bytes, or None where it is not there.

        The text is shown, so one outside GOROOT that not every user may read counts as absent. Raises OSError.
        """
        try:
            with open(self.subject.open(f"{self.goroot}/{name}", home=self.goroot), "rb") as file:
                return file.read(limit).decode("utf-8", "replace")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                return None
            raise

    def broken(self, path: str) -> str:
        """Why an executable of it cannot run on this machine, found without running it, or an empty string.

        Looked at once: all checks of a run judge the same file.
        """
        if path not in self._broken:
            self._broken[path] = self._why_broken(path)
        return self._broken[path]

    def _why_broken(self, path: str) -> str:
        name = clean(path)
        try:
            info = self.subject.stat(path)
            if not stat.S_ISREG(info.st_mode):
                return f"{name} is not a regular file"
            if not info.st_mode & 0o111:
                return f"{name} is not executable (mode {stat.S_IMODE(info.st_mode):04o})"
            with open(self.subject.open(path), "rb", buffering=0) as file:
                return elf.problem(name, lambda size, offset: os.pread(file.fileno(), size, offset), info.st_size)
        except OSError as error:
            return _path_problem(path, error)

    def environment(self) -> dict[str, str]:
        """A clean environment for its programs: no user's settings, no other toolchain, no network.

        HOME cannot be written, so that Go's telemetry stays quiet. The build cache is in the sandbox's own /tmp and
        gone with it, as is the module cache: where go.env has GOFIPS140, a module is unpacked there. An empty GOFLAGS
        would count as none, and go.env's would hold; -a=false says what holds anyway.
        """
        return {
            "GOROOT": self.goroot,
            "GOTOOLCHAIN": "local",
            "GOENV": "off",
            "GOFLAGS": "-a=false",
            "GOPROXY": "off",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
            "HOME": "/nonexistent",
            "GOPATH": "/tmp/gopath",
            "GOMODCACHE": "/tmp/gomodcache",
            "GOCACHE": "/tmp/gocache",
            "TMPDIR": "/tmp/",
        }

    def cache_environment(self, cache: str) -> dict[str, str]:
        """What makes the go command use a build cache of the host, bound into its view, rather than one of its own."""
        from go_health_hook.run.sandbox import host

        if not cache:
            return {}
        return {"GOCACHE": "/tmp/writable" if host().bwrap else cache}

    def sandbox(self, writable: str = "", own_settings: bool = False) -> Sandbox:
        """The view its programs are run in: the subject's root, the toolchain where it is, our probe sources.

        With `own_settings` a go.env without settings lies over the toolchain's, where there is a view: what an admin
        has set there, as a GOCACHEPROG, cannot all be overridden by the environment.
        """
        from go_health_hook.run.sandbox import Sandbox

        binds = [(os.path.realpath(source), target) for source, target in self.subject.binds]
        paths = [] if self.subject.binds else self._outside_usr()
        helpers = [(PROBES, self._probes())]
        if own_settings and self.subject.exists(f"{self.goroot}/go.env"):
            helpers.append((f"{PROBES}/go.env", self.subject.realpath(f"{self.goroot}/go.env")))
        return Sandbox(self.subject.root, binds, helpers, writable, paths)

    def _outside_usr(self) -> list[str]:
        """GOROOT, and what links in it lead to, where the sandbox's /usr does not have it."""
        paths = [] if self.goroot.startswith("/usr/") else [self.goroot]
        tools = os.path.relpath(self.tools, self.goroot)
        programs = ("bin", "bin/go", "bin/gofmt", "pkg", "pkg/tool", tools, f"{tools}/compile")
        for name in (*programs, "src", "lib", "go.env"):
            try:
                real = self.subject.realpath(f"{self.goroot}/{name}")
            except OSError:
                continue
            if not real.startswith(("/usr/", self.goroot + "/")) and real not in paths:
                paths.append(real)
        return paths

    def start(self, argv: list[str], deadline: Deadline, **options: Any) -> process.Running:
        """Start one of its programs in the sandbox; `.wait()` in the same thread."""
        from go_health_hook.run import process

        env = {**self.environment(), **options.pop("env", {})}
        sandbox = options.pop("sandbox", None) or self.sandbox()
        return process.start(argv, deadline, env=env, sandbox=sandbox, **options)

    def series(self, commands: list[list[str]], deadline: Deadline, held: Held | None = None) -> list[Result]:
        """Run several of its short programs in one sandbox (see series.run_series).

        What gofmt parses is half a megabyte, and to collect garbage meanwhile doubles its time.
        """
        from go_health_hook.run import series

        env = {**self.environment(), "GOGC": "off"}
        return series.run_series(commands, deadline, env=env, sandbox=self.sandbox(), held=held)

    def probe(self, name: str) -> str:
        """The path, as its programs see it, of one of our Go sources."""
        return f"{self._probes()}/{name}"

    def _probes(self) -> str:
        """Where our sources are seen: where they are, so that the path holds with a view and without; else in /tmp."""
        return PROBES if self.subject.root == "/" else PROBES_INSIDE


def _path_problem(path: str, error: OSError) -> str:
    """One line on a path that leads nowhere."""
    asked, at = clean(path), clean(str(error.filename or path))
    if error.errno == errno.ELOOP:
        return f"{asked} is a loop of symbolic links"
    if error.errno == errno.ENOENT and at != asked:
        return f"{asked} leads to {at}, which does not exist"
    return f"{asked}: {error.strerror}"


def _is_remains(subject: Subject, path: str) -> bool:
    """Whether a directory holds nothing that could run: a package that is gone leaves what it did not own behind."""
    try:
        if not stat.S_ISDIR(subject.stat(path).st_mode):
            return False
    except OSError:
        return False
    return not any(subject.has_name(f"{path}/{name}") for name in ("bin/go", "pkg/tool"))


def find(subject: Subject, goroot: str = "") -> Toolchain | None:
    """Find the toolchain to judge, or None where there is none (`why_none` says what there is instead).

    `goroot` is what a person or the configuration says. Otherwise: the environment's GOROOT when not root and the
    subject is the running root, then `go` on the search path through links and alternatives, then the familiar places;
    what an uninstalled Go left behind in one of those counts only while the distribution's `go` still leads there.
    """
    if goroot:
        return Toolchain(subject, goroot, "given")
    if os.geteuid() != 0 and subject.kind == "running" and os.environ.get("GOROOT"):
        return Toolchain(subject, os.environ["GOROOT"], "GOROOT in the environment")
    dangling = lost = ""
    other = False  # a `go` that works and lies in no GOROOT
    for directory in SEARCH:
        link = f"{directory}/go"
        if not subject.has_name(link):
            continue
        try:
            real = subject.realpath(link)
        except OSError as error:
            dangling = dangling or _path_problem(link, error)
            if directory in PACKAGED:
                lost = lost or _path_problem(link, error)
            continue
        home = os.path.dirname(os.path.dirname(real))
        if real.endswith("/bin/go") and is_goroot(subject, home):
            return Toolchain(subject, home, link)
        other = True
    for path in FAMILIAR:
        if subject.has_name(path) and (lost or not _is_remains(subject, path)):
            found = Toolchain(subject, path, path)
            if dangling and not found.problem:
                found.via = f"{path} ({dangling})"
                found.lost = lost if path == FAMILIAR[0] and not other else ""
            return found
    return None if other or not lost else _gone(subject, lost)


def why_none(subject: Subject) -> str:
    """Return, in one line, what answers to `go` in a subject in which `find` finds no toolchain."""
    return unjudged(subject, SEARCH)


def _gone(subject: Subject, lost: str) -> Toolchain | None:
    """The toolchain that the distribution's packages should have brought and that is gone, or None.

    Where no package says so, the link is one that was left behind when Go was removed: there is nothing to protect.
    """
    from go_health_hook.linux.rpmdb import ownership

    if not ownership(subject.root, FAMILIAR[0]).packages:
        return None
    gone = Toolchain(subject, FAMILIAR[0], "go on the search path")
    gone.problem = lost
    return gone
