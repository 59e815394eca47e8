# SPDX-License-Identifier: GPL-2.0-or-later
"""The side of the conversation that lives inside a virtual machine: starts programs and moves files as it is asked.

A frame, both ways: two big-endian 32-bit lengths, a JSON object, raw bytes. `vm.py` is the other side.
"""

from __future__ import annotations

import json
import os
import pty
import queue
import selectors
import signal
import struct
import subprocess
import sys
import threading
import traceback

PORT = "/dev/virtio-ports/testbed.agent"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}


class Port:
    """The virtio-serial port: whole frames in, whole frames out."""

    def __init__(self) -> None:
        self.fd = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
        self.lock = threading.Lock()
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.fd, selectors.EVENT_READ)

    def exactly(self, size: int) -> bytes:
        parts = []
        while size:
            data = os.read(self.fd, min(size, 1 << 20))
            if not data:  # nobody holds the other end just now
                self.poll.select()
                continue
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def receive(self) -> tuple[dict, bytes]:
        head, body = struct.unpack(">II", self.exactly(8))
        return json.loads(self.exactly(head)), self.exactly(body)

    def send(self, message: dict, body: bytes = b"") -> None:
        head = json.dumps(message).encode()
        data = memoryview(struct.pack(">II", len(head), len(body)) + head + body)
        with self.lock:
            while data:
                data = data[os.write(self.fd, data[: 1 << 20]) :]


class Job:
    """One program: what it writes goes out as it comes, and its end is told once its pipes are drained."""

    def __init__(self, port: Port, request: dict, stdin: bytes) -> None:
        self.port, self.id = port, request["id"]
        self.terminal = -1
        argv, tty = request["argv"], request.get("tty", "")
        pipe = subprocess.PIPE
        ends = [pipe, pipe, pipe]
        if tty:
            # "in": a terminal to log in on, output still apart; "all": what a person at a terminal has.
            self.terminal, slave = pty.openpty()
            ends = [slave, slave, slave] if tty == "all" else [slave, pipe, pipe]
            argv = ["setsid", "--ctty", *argv]
        self.process = subprocess.Popen(
            argv,
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            cwd=request.get("cwd", "/"),
            env={**ENVIRONMENT, **request.get("env", {})},
            start_new_session=not tty,  # setsid does it where there is a terminal
        )
        if tty:
            os.close(slave)
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        if stdin:
            self.queue.put(stdin)
        if not request.get("stdin_open"):
            self.queue.put(None)
        threading.Thread(target=self.write, daemon=True).start()
        threading.Thread(target=self.follow, daemon=True).start()

    def write(self) -> None:
        try:
            with self.process.stdin or os.fdopen(os.dup(self.terminal), "wb", 0) as file:
                while (data := self.queue.get()) is not None:
                    file.write(data)
                    file.flush()
                if self.terminal >= 0:
                    file.write(b"\x04")
        except OSError:  # it no longer reads
            pass

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            os.killpg(self.process.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def follow(self) -> None:
        sources = {}
        if self.process.stdout:
            sources[self.process.stdout.fileno()] = "out"
        if self.process.stderr:
            sources[self.process.stderr.fileno()] = "err"
        if self.terminal >= 0 and not self.process.stdout:
            sources[self.terminal] = "out"
        wait = selectors.DefaultSelector()
        for fd in sources:
            os.set_blocking(fd, False)
            wait.register(fd, selectors.EVENT_READ)
        gone = os.pidfd_open(self.process.pid)
        wait.register(gone, selectors.EVENT_READ)
        running = True
        while running:
            ready = [key.fd for key, _ in wait.select()]
            # A child left behind may hold the pipes for ever: once the program itself is gone, take what is there.
            running = gone not in ready
            for fd in list(sources) if not running else [fd for fd in ready if fd != gone]:
                if not self.drain(fd, sources[fd]):
                    wait.unregister(fd)
                    del sources[fd]
        status = self.process.wait()
        for fd in (gone, self.terminal):
            if fd >= 0:
                os.close(fd)
        self.queue.put(None)
        self.port.send({"id": self.id, "event": "end", "status": status if status >= 0 else 128 - status})

    def drain(self, fd: int, name: str) -> bool:
        while True:
            try:
                data = os.read(fd, 1 << 18)
            except BlockingIOError:
                return True
            except OSError:  # a terminal whose other end is closed
                return False
            if not data:
                return False
            self.port.send({"id": self.id, "event": name}, data)


def put(request: dict, body: bytes) -> None:
    path = request["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{path}.testbed-new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(body)
        os.fchmod(file.fileno(), request["mode"])
    os.replace(new, path)


def answer(port: Port, jobs: dict[int, Job], request: dict, body: bytes) -> None:
    op, number = request["op"], request["id"]
    if op == "start":
        jobs[number] = Job(port, request, body)
        return
    if op == "feed":
        jobs[request["job"]].queue.put(body or None)
    elif op == "kill":
        jobs[request["job"]].kill()
    elif op == "put":
        put(request, body)
    elif op == "get":
        with open(request["path"], "rb") as file:
            port.send({"id": number, "event": "out"}, file.read())
    port.send({"id": number, "event": "end", "status": 0})


def main() -> None:
    port = Port()
    jobs: dict[int, Job] = {}
    while True:
        request, body = port.receive()
        try:
            answer(port, jobs, request, body)
        except Exception as error:  # the asker is told, the conversation goes on
            traceback.print_exc(file=sys.stderr)
            port.send({"id": request["id"], "event": "end", "status": -1, "error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
