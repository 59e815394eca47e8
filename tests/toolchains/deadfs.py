# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount whose server never answers, as of a network disk gone away: a FUSE file system without anybody behind it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

# linux/fuse.h
FUSE_INIT = 26


@contextlib.contextmanager
def dead_mount(place: Path) -> Iterator[threading.Event]:
    """Mount it at `place`; the event is set once somebody has asked it something and hangs.

    Requests are read and left unanswered: who waits for an answer to a request that has been read cannot be killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", os.fsencode(place), b"fuse", 0, options):
        error = ctypes.get_errno()
        os.close(device)
        raise OSError(error, os.strerror(error), str(place))
    asked = threading.Event()

    def swallow() -> None:
        while True:
            try:
                request = os.read(device, 1 << 20)
            except OSError:
                return
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            if opcode == FUSE_INIT:
                body = struct.pack("<IIIIHHII", 7, 31, 0, 0, 12, 12, 4096, 1) + bytes(32)
                os.write(device, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
            else:
                asked.set()

    reader = threading.Thread(target=swallow, daemon=True)
    reader.start()
    try:
        yield asked
    finally:
        libc.umount2(os.fsencode(place), 1 | 2)  # MNT_FORCE | MNT_DETACH: aborts what waits
        os.close(device)
        reader.join()
