# SPDX-License-Identifier: GPL-2.0-or-later
"""What is started in place of a toolchain's program: helpers that shut it in, and a mark that says when it begins.

Every program is started through helpers of this machine: bubblewrap, setpriv, unshare, sh. The last of them writes a
mark of its own to the standard error stream, and only then becomes the program. Where the mark is missing, a helper
failed, and nothing that was written or returned is the program's. A program cannot forge it: once it can write, it has
begun.
"""

from __future__ import annotations

import os

from go_health_hook.run.sandbox import TEMPORARY, Sandbox, Unsandboxed, host
from go_health_hook.run.scratch import scratch_directory
from go_health_hook.run.view import drop_ids, view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# The mark is the script's own name, so that the shell's messages about an execution that failed begin with it as well.
MARK = 'printf "%s\\n" "$0" >&2; '
PROGRAM = 'exec "$@"'


class Command:
    """A command line with what it needs. `mark` is the first line of its errors once the program begins.

    `helpers` are the names of those that come before; `asked` are the options that an old bubblewrap may not know.
    """

    def __init__(self, argv: Sequence[str], env: dict[str, str], sandbox: Sandbox | None) -> None:
        """Raises Unsandboxed and OSError."""
        self.argv = list(argv)
        self.env = dict(env)
        self.options: dict[str, Any] = {}
        self.scratch = ""
        self.asked: list[str] = []
        self.helpers: list[str] = []
        self.mark = b""
        self.status_read = self.status_write = -1
        if sandbox is not None:
            self.options["umask"] = 0o022  # the caller's may keep a program from using what it makes
            self._shut_in(sandbox)

    def _shut_in(self, sandbox: Sandbox) -> None:
        h = host()
        name = f"begun-{os.urandom(8).hex()}"
        marked = ["/bin/sh", "-c", MARK + PROGRAM, name]
        if self.argv[:-1] == ["/bin/sh", "-c"] and not sandbox.needs_view:
            # A script of ours, and the shell is this machine's: one does for both.
            marked, self.argv = ["/bin/sh", "-c", MARK + self.argv[-1], name], []
        if h.bwrap:
            self.asked = list(h.knows)
            self.helpers = ["bwrap"]
            self.status_read, self.status_write = os.pipe2(os.O_CLOEXEC)
            self.options["pass_fds"] = (self.status_write,)
            if sandbox.root != "/" and not h.as_root:
                marked = []  # the shell would be the other root's
            self.argv = view(sandbox, marked, self.argv, self.status_write)
        else:
            if sandbox.needs_view:
                raise Unsandboxed("cannot run a program of another root here", hint="install bubblewrap")
            self.scratch = scratch_directory()
            self.env = {
                k: v.replace("/tmp/", self.scratch + "/", 1) if k in TEMPORARY and v.startswith("/tmp/") else v
                for k, v in self.env.items()
            }
            self.argv = [*marked, *self.argv]
            if h.setpriv:
                drop = drop_ids() if h.as_root else [h.setpriv, "--no-new-privs"]
                self.argv = [*drop, "--pdeathsig=KILL", *self.argv]
            elif h.as_root:
                self.options.update(user=h.uid, group=h.gid, extra_groups=[])
        if h.setpriv and (h.as_root or not h.bwrap):
            self.helpers.append("setpriv")
        self.mark = f"{name}\n".encode() if marked else b""

    def begun(self, errors: bytes) -> bool:
        """Whether the program itself has begun, by what has come on the standard error stream."""
        return errors.startswith(self.mark)

    def close_status(self) -> bytes:
        """Return what bubblewrap has said about the program's end, and let go of the descriptors."""
        said = b""
        if self.status_read >= 0:
            os.set_blocking(self.status_read, False)
            try:
                said = os.read(self.status_read, 4096)
            except OSError:
                pass
            os.close(self.status_read)
            self.status_read = -1
        self.started()
        return said

    def started(self) -> None:
        """Let go of what only the child needs."""
        if self.status_write >= 0:
            os.close(self.status_write)
            self.status_write = -1
