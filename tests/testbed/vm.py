# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual machine as a conversation: started once, then asked many things through its agent (guest/agent.py).

QEMU in software (TCG): the machines these tests run on seldom lend their processor to a guest. No network. Every wait
is for an event; time limits are there to end a dead run.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import shlex
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Callable, NamedTuple

from tests.testbed import cache

DEAD = 900.0  # seconds after which whatever was asked counts as dead
# With a thread for each CPU, QEMU 7.2 now and then runs an instruction that the kernel has just patched away, and the
# kernel stops ("Oops: int3"). Most of that patching is done while booting, which is no slower with a single thread.
BOOTING = os.environ.get("GO_HEALTH_HOOK_QEMU_ACCEL", "tcg,thread=single")
RUNNING = os.environ.get("GO_HEALTH_HOOK_QEMU_ACCEL", "tcg,thread=multi")
# Services that only cost time on an emulated processor.
MASKED = [
    *("ldconfig", "systemd-journal-catalog-update", "systemd-hwdb-update", "systemd-update-done", "systemd-binfmt"),
    *("e2scrub_reap", "apparmor", "systemd-pcrmachine", "serial-getty@ttyS0", "getty@tty1"),
]


class VMError(AssertionError):
    """What was asked of a virtual machine failed; the message carries the end of its console."""


class Boot(NamedTuple):
    """What a boot loader would hand to the processor."""

    kernel: Path
    initrd: Path
    options: str


class Answer(NamedTuple):
    """What a program in the machine left: status as a shell counts it (128 + signal), and what it wrote."""

    status: int
    stdout: str
    stderr: str


def why_not() -> str:
    """The reason why no virtual machine can be made and started here, or nothing."""
    for program in (qemu(), "mke2fs", "debugfs", "qemu-img"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return ""


def qemu() -> str:
    kvm = "/usr/libexec/qemu-kvm"
    return "qemu-system-x86_64" if shutil.which("qemu-system-x86_64") or not os.path.exists(kvm) else kvm


class OneAtATime:
    """Lets one process at a time run virtual machines: a lock in the cache, held while any of its own runs."""

    file: IO[str] | None = None
    holders = 0

    @classmethod
    def take(cls) -> None:
        if not cls.holders:
            folder = cache.home() / "testbed"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            cls.file = (folder / ".vm.lock").open("w")
            fcntl.flock(cls.file, fcntl.LOCK_EX)
        cls.holders += 1

    @classmethod
    def give(cls) -> None:
        cls.holders -= 1
        if not cls.holders and cls.file:
            cls.file.close()
            cls.file = None


class Monitor:
    """QEMU's own control channel (QMP)."""

    def __init__(self, path: Path) -> None:
        self.socket = connect(path)
        self.lines = self.socket.makefile("rb")
        self.events: list[dict] = []
        json.loads(self.lines.readline())
        self.ask("qmp_capabilities")
        self.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def ask(self, command: str, **arguments: object) -> object:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self.lines.readline():
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise VMError(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]
        raise VMError(f"QEMU was gone before it answered {command}")

    def migrated(self) -> None:
        while event := self.next_event():
            if event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"):
                if event["data"]["status"] == "completed":
                    return
                break
        raise VMError("the machine's memory could not be written or read")

    def next_event(self) -> dict | None:
        if self.events:
            return self.events.pop(0)
        line = self.lines.readline()
        return json.loads(line) if line else None


def connect(path: Path) -> socket.socket:
    # QEMU was given the socket already listening, so this never waits for it to come up.
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(DEAD)
    channel.connect(str(path))
    return channel


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    return server


class Job:
    """A program running in the machine. What it writes is collected as it comes."""

    def __init__(self, vm: VM, number: int, what: str) -> None:
        self.vm, self.number, self.what = vm, number, what
        self.stdout, self.stderr = bytearray(), bytearray()
        self.taken = 0
        self.status: int | None = None
        self.error = ""
        self.changed = threading.Condition()

    def event(self, message: dict, body: bytes) -> None:
        with self.changed:
            if message["event"] == "end":
                self.status, self.error = message["status"], message.get("error", "")
            else:
                (self.stdout if message["event"] == "out" else self.stderr).extend(body)
            self.changed.notify_all()

    def until(self, done: Callable[[], bool], timeout: float) -> None:
        with self.changed:
            in_time = self.changed.wait_for(lambda: done() or self.status is not None, timeout)
        if not in_time:
            self.vm.ask({"op": "kill", "job": self.number})
            raise self.vm.failure(f"no answer in {timeout:.0f} s from: {self.what}", self.said())
        if self.error:
            raise self.vm.failure(f"{self.error}: {self.what}", self.said())

    def said(self) -> str:
        return "".join(
            f"-- {name}:\n{bytes(data[-4000:]).decode(errors='replace')}\n"
            for name, data in (("stdout", self.stdout), ("stderr", self.stderr))
            if data
        )

    def wait(self, timeout: float = DEAD) -> Answer:
        """Its answer, once it has ended. Raises VMError when it does not, or the machine goes away."""
        self.until(lambda: False, timeout)
        return Answer(
            self.status if self.status is not None else -1,
            self.stdout.decode(errors="surrogateescape"),
            self.stderr.decode(errors="surrogateescape"),
        )

    def line(self, timeout: float = DEAD) -> str:
        """The next line of its standard output; empty once it has ended and all was read."""
        self.until(lambda: b"\n" in self.stdout[self.taken :], timeout)
        end = self.stdout.find(b"\n", self.taken) + 1 or len(self.stdout)
        text = bytes(self.stdout[self.taken : end])
        self.taken = end
        return text.decode(errors="surrogateescape").rstrip("\n")

    def write(self, data: bytes) -> None:
        """Gives it input; nothing (b"") ends its input."""
        self.vm.ask({"op": "feed", "job": self.number}, data)

    def kill(self) -> Answer:
        """Ends it and its process group with SIGTERM, and waits for that."""
        self.vm.ask({"op": "kill", "job": self.number})
        return self.wait()


class VM:
    """One virtual machine and its disk. `boot` says what to start the disk with, asked again at every boot."""

    def __init__(
        self,
        disk: Path,
        boot: Callable[[Path], Boot],
        *,
        folder: Path,
        cpus: int = 2,
        memory: int = 3072,  # MiB
        name: str = "vm",
    ) -> None:
        self.disk, self.find_boot, self.cpus, self.memory, self.name = disk, boot, cpus, memory, name
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.boots = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.jobs: dict[int, Job] = {}
        self.number = 0
        self.sending = threading.Lock()
        self.sockets: tempfile.TemporaryDirectory[str] | None = None

    # --- on and off

    def boot(self, options: str = "", timeout: float = DEAD) -> VM:
        """Starts the machine and waits until systemd is up; `options` are added to the kernel's."""
        self.start_qemu(self.find_boot(self.disk), options, "-accel", BOOTING)
        return self.up(timeout)

    def suspend(self, state: Path) -> None:
        """Writes what is in the machine's memory to a file and ends it; its disk stays as it is at this moment."""
        self.ok("sync")
        self.monitor.ask("stop")
        self.monitor.ask("migrate", uri=f"exec:cat >{shlex.quote(str(state))}")
        self.monitor.migrated()
        self.kill()

    def wake(self, state: Path, boot: Boot) -> VM:
        """Goes on where a machine with the same boot, CPUs and memory, and a disk as it was then, was suspended."""
        self.start_qemu(boot, "", "-accel", RUNNING, "-incoming", "defer")
        self.monitor.ask("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
        self.monitor.migrated()
        self.monitor.ask("cont")
        self.set_clock(time.time())
        return self

    def up(self, timeout: float) -> VM:
        state = self.run("systemctl is-system-running --wait", timeout=timeout).stdout.strip()
        if state not in ("running", "degraded"):
            raise self.failure(f"systemd is {state!r} after boot")
        return self

    def start_qemu(self, boot: Boot, options: str, *arguments: str) -> None:
        if self.process:
            raise VMError("this machine is on already")
        OneAtATime.take()
        self.boots += 1
        # A socket's path may have 107 characters, so not in the test's own folder.
        self.sockets = tempfile.TemporaryDirectory(prefix="vm-")
        folder = Path(self.sockets.name)
        servers = {name: listening(folder / name) for name in ("qmp", "agent")}
        masks = " ".join(f"systemd.mask={unit}.service" for unit in MASKED)
        self.process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL",  # never left behind by a test run that was killed
                qemu(), "-name", self.name, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
                "-cpu", "max", "-smp", str(self.cpus), "-m", str(self.memory), "-net", "none",
                "-serial", f"file:{self.console_path()}",
                "-chardev", f"socket,id=qmp,fd={servers['qmp'].fileno()},server=on,wait=off",
                "-mon", "chardev=qmp,mode=control",
                "-drive", f"file={self.disk},if=virtio,format={disk_format(self.disk)},cache=unsafe",
                "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
                "-chardev", f"socket,id=agent,fd={servers['agent'].fileno()},server=on,wait=off",
                "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=testbed.agent",
                "-kernel", boot.kernel, "-initrd", boot.initrd, "-append", f"{boot.options} panic=-1 {masks} {options}",
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "qemu.log").open("ab"),
            stderr=subprocess.STDOUT,
            pass_fds=[s.fileno() for s in servers.values()],
            start_new_session=True,
        )  # fmt: skip
        self.agent = connect(folder / "agent")
        self.agent.settimeout(None)
        qmp = folder / "qmp"
        for server in servers.values():
            server.close()
        try:
            self.monitor = Monitor(qmp)
        except (OSError, VMError) as error:
            raise self.failure(f"QEMU did not start: {error}", (self.folder / "qemu.log").read_text()) from error
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def wait_off(self, timeout: float = DEAD) -> str:
        """Waits until the machine is off by itself; "poweroff", "reboot" or "killed"."""
        assert self.process
        with os.fdopen(os.pidfd_open(self.process.pid)) as gone:
            if not select.select([gone], [], [], timeout)[0]:
                raise self.failure(f"still on after {timeout:.0f} s")
        reasons = {"guest-shutdown": "poweroff", "guest-reset": "reboot"}
        how = "killed"
        while event := self.monitor.next_event():
            if event["event"] == "SHUTDOWN":
                how = reasons.get(event["data"]["reason"], how)
        self.clear()
        return how

    def shutdown(self, timeout: float = DEAD) -> None:
        """Shuts it down as a person would, and waits until it is off."""
        self.run("systemctl --no-block poweroff")
        how = self.wait_off(timeout)
        if how != "poweroff":
            raise self.failure(f"asked to power off, it ended with {how}")

    def reboot(self, options: str = "", timeout: float = DEAD) -> VM:
        """Reboots it; what comes up is what the disk's boot loader entry says then."""
        self.run("systemctl --no-block reboot")
        how = self.wait_off(timeout)
        if how != "reboot":
            raise self.failure(f"asked to reboot, it ended with {how}")
        return self.boot(options, timeout)

    def kill(self) -> None:
        """Pulls the plug."""
        if self.process:
            self.process.kill()
            self.clear()

    def clear(self) -> None:
        assert self.process
        self.process.wait()
        self.agent.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        for channel in (self.agent, self.monitor.socket):
            channel.close()
        self.process = None
        if self.sockets:
            self.sockets.cleanup()
        OneAtATime.give()

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # --- the conversation

    def listen(self) -> None:
        stream = self.agent.makefile("rb")
        try:
            while len(head := stream.read(8)) == 8:
                size, body = struct.unpack(">II", head)
                message = json.loads(stream.read(size))
                data = stream.read(body)
                job = self.jobs.get(message["id"])
                if job:
                    job.event(message, data)
                    if message["event"] == "end":
                        del self.jobs[message["id"]]
        except (OSError, ValueError):
            pass
        for job in list(self.jobs.values()):
            job.event({"event": "end", "status": -1, "error": "the machine went off"}, b"")
        self.jobs.clear()

    def send(self, request: dict, body: bytes = b"", what: str = "") -> Job:
        if not self.process:
            raise VMError(f"the machine is off: {what}")
        with self.sending:
            self.number += 1
            job = Job(self, self.number, what or request["op"])
            self.jobs[self.number] = job
            head = json.dumps({**request, "id": self.number}).encode()
            self.agent.sendall(struct.pack(">II", len(head), len(body)) + head + body)
        return job

    def ask(self, request: dict, body: bytes = b"") -> None:
        self.send(request, body).wait()

    def start(
        self,
        script: str,
        *arguments: str,
        stdin: bytes | None = b"",
        env: dict[str, str] | None = None,
        argv: list[str] | None = None,
        tty: str = "",
    ) -> Job:
        """Starts a bash script (as root) and returns the running job. stdin None keeps its input open for Job.write().

        tty: "in" gives it a terminal as standard input, "all" for its output too (then all of it is stdout).
        """
        request = {
            "op": "start",
            "argv": argv or ["bash", "-c", script, "bash", *arguments],
            "env": env or {},
            "tty": tty,
            "stdin_open": stdin is None,
        }
        return self.send(request, stdin or b"", script)

    def run(self, script: str, *arguments: str, timeout: float = DEAD, **more: object) -> Answer:
        """Runs a bash script as root, below the agent's service, and waits for its end."""
        return self.start(script, *arguments, **more).wait(timeout)  # type: ignore[arg-type]

    def ok(self, script: str, *arguments: str, timeout: float = DEAD, **more: object) -> str:
        """Like run, for what must succeed; its stdout without the last newline. Raises VMError."""
        job = self.start(script, *arguments, **more)  # type: ignore[arg-type]
        answer = job.wait(timeout)
        if answer.status:
            raise self.failure(f"status {answer.status} from: {script}", job.said())
        return answer.stdout.rstrip("\n")

    def start_login(self, user: str, script: str, *, tty: str = "in", stdin: bytes | None = b"", **more: object) -> Job:
        """Starts a bash script in a login session of its own (PAM, so a session-N.scope below user-UID.slice)."""
        # A session that comes without a terminal counts as a background one.
        argv = ["su", "--login", user, "--shell", "/bin/bash", "--session-command", script]
        return self.start(script, argv=argv, tty=tty, stdin=stdin, **more)  # type: ignore[arg-type]

    def login(self, user: str, script: str, *, timeout: float = DEAD, **more: object) -> Answer:
        """Runs a bash script in a login session of its own and waits for its end."""
        return self.start_login(user, script, **more).wait(timeout)  # type: ignore[arg-type]

    def start_user(self, user: str, script: str, *options: str, stdin: bytes | None = b"") -> Job:
        """Starts a bash script as a service of the user's own manager; options go to systemd-run (`-p CPUQuota=…`).

        The user lingers from then on, or the manager would end some seconds after the last login.
        """
        uid = self.ok('loginctl enable-linger "$1" && systemctl start "user@$(id -u "$1")" && id -u "$1"', user)
        argv = [
            "setpriv", "--reuid", user, "--regid", user, "--init-groups",
            "systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", *options, "bash", "-c", script,
        ]  # fmt: skip
        return self.start(script, argv=argv, stdin=stdin, env={"XDG_RUNTIME_DIR": f"/run/user/{uid}"})

    def user_run(self, user: str, script: str, *options: str, timeout: float = DEAD) -> Answer:
        """Runs a bash script as a service of the user's own manager and waits for its end."""
        return self.start_user(user, script, *options).wait(timeout)

    # --- files, packages, journal, clock

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Writes a file, owned by root, with its folders."""
        self.ask({"op": "put", "path": path, "mode": mode}, data.encode() if isinstance(data, str) else data)

    def put_file(self, path: str, source: Path) -> None:
        """Copies a file of the host, with its mode."""
        self.put(path, source.read_bytes(), source.stat().st_mode & 0o7777)

    def get(self, path: str) -> bytes:
        """What is in a file of the machine."""
        job = self.send({"op": "get", "path": path}, what=f"read {path}")
        job.wait()
        return bytes(job.stdout)

    def put_tree(self, source: Path, at: str = "/") -> None:
        """Lays a folder of the host over one in the machine, as root's; folders that are there stay as they are."""
        self.ok('mkdir -p "$1" && tar -C "$1" --keep-directory-symlink --no-overwrite-dir -x', at, stdin=tar(source))

    def install_tree(self, destdir: Path) -> None:
        """Installs what `make install DESTDIR=` made, and does what a package's scripts would."""
        self.put_tree(destdir)
        self.ok("systemctl daemon-reload && systemd-tmpfiles --create && journalctl --update-catalog")

    def install_rpms(self, packages: list[Path], *options: str) -> Answer:
        """Installs packages with rpm and their scripts, in one transaction, without looking at dependencies."""
        folder = self.ok("mktemp -d /var/tmp/rpms.XXXXXX")
        for package in packages:
            self.put_file(f"{folder}/{package.name}", package)
        answer = self.run(f'rpm --upgrade --nodeps --verbose "$@" {folder}/*.rpm', *options)
        self.run(f"rm -rf {folder}")
        return answer

    def journal(self, *arguments: str) -> list[dict]:
        """Entries of the journal, oldest first, as journalctl's JSON has them; arguments are journalctl's."""
        text = self.ok('journalctl --no-pager --all --output=json "$@"', *arguments)
        return [json.loads(line) for line in text.splitlines()]

    def set_clock(self, seconds: float) -> None:
        """Sets the machine's clock to a time in seconds since 1970."""
        self.ok('date --utc --set="@$1"', f"{seconds:.3f}")

    def clock(self) -> float:
        """The machine's time, in seconds since 1970."""
        return float(self.ok("date +%s.%N"))

    # --- what it was doing when something failed

    def console_path(self, boot: int = 0) -> Path:
        return self.folder / f"console-{boot or self.boots}.log"

    def console(self, lines: int = 60) -> str:
        """The end of what the machine wrote on its console since the last boot."""
        try:
            text = self.console_path().read_text(errors="replace").replace("\r", "")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def failure(self, what: str, said: str = "") -> VMError:
        return VMError(f"{self.name}: {what}\n{said}-- console (boot {self.boots}):\n{self.console()}")


def tar(folder: Path) -> bytes:
    """A folder as a tar archive whose files all belong to root."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".", filter=owned)
    return buffer.getvalue()


def disk_format(disk: Path) -> str:
    with disk.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def overlay(base: Path, disk: Path) -> Path:
    """A disk that starts as `base` and never changes it."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", disk_format(base), str(disk)], check=True
    )
    return disk
