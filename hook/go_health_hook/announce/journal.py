# SPDX-License-Identifier: GPL-2.0-or-later
"""One structured entry in the journal for every event, with a message of the catalog that says what to do.

Speaks the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL). python3-systemd is not used: to import it takes
as long as a gate may spend on announcing, and its send reports success when there is no journal at all.
"""

from __future__ import annotations

import _socket as sockets  # socket makes enums of its hundreds of constants first, and an updater waits
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKET = "/run/systemd/journal/socket"
SEND_SECONDS = 1.0
IDENTIFIER = "go-health-hook"

# syslog(3)
CRIT, ERR, WARNING, NOTICE, INFO = 2, 3, 4, 5, 6

# What each kind of event is called and its MESSAGE_ID; conf/usr/lib/systemd/catalog says what to do about each.
MESSAGE_IDS = {
    "allowed": "fb316bdf977845029199740bdc77a087",
    "blocked": "171be386ff984068a16631d231bf9af8",
    "timeout": "da8e996fcf8f493cb7c9a90723aeb245",
    "broken": "b8d7a2a1f0a84f53b6bd5be9c8d2ad4e",
    "unjudged": "5f0c2c0d6b1e4d0e9a3f7b1c64a8d2e7",
    "fault": "40fb88969d184971a3a22f4ac553e423",
    "override": "8959b0a26e694c5b853fc3b3a4496a9a",
    "warned": "e4f4f4f4880749dcb3fc18a9d34661f2",
    "released": "e4d616094271436ea287580679374bef",
    "override-set": "902732be0a5842109303916a6a181b7d",
    "override-cleared": "fcc16c1688ba4df8b599f1adf7714149",
    "locked": "2923cb582394482089600fe841003352",
    "unlocked": "b76366df52954d5f8d41761e007389b2",
    "discarded": "fc8b814990a3460ab0860d6df046a2d3",
}


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """The fields as the protocol has them: NAME=value lines, or a length where the value has line breaks."""
    data = bytearray()
    for name, value in fields:
        raw = value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            data += name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
        else:
            data += name.encode() + b"=" + raw + b"\n"
    return bytes(data)


def send(kind: str, message: str, priority: int, fields: Iterable[tuple[str, str]] = (), path: str = SOCKET) -> None:
    """Send one entry of a kind of MESSAGE_IDS. Raises OSError when no journal takes it."""
    data = encode(
        [
            ("MESSAGE", message),
            ("MESSAGE_ID", MESSAGE_IDS[kind]),
            ("PRIORITY", str(priority)),
            ("SYSLOG_IDENTIFIER", IDENTIFIER),
            *fields,
        ]
    )
    channel = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC)
    channel.settimeout(SEND_SECONDS)
    try:
        channel.connect(path)
        try:
            channel.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            _send_file(channel, data)
    except OSError as error:
        raise OSError(error.errno or errno.ETIMEDOUT, error.strerror or "takes no entries", path) from None
    finally:
        channel.close()


def _send_file(channel: sockets.socket, data: bytes) -> None:
    """Send what is too large for a datagram as a sealed memory file, as the protocol asks."""
    import fcntl

    fd = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        channel.sendmsg([], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))])
    finally:
        os.close(fd)
