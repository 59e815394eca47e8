# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of go-health-hook for dnf 4: shows the gate, a program of its own, the transaction and obeys its veto.

Only a veto stops the transaction. Every mishap, of the gate or of this file, is logged and the transaction goes on.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess

import dnf
import dnf.transaction

# As libdnf5-actions(8) has them.
LETTERS = {
    dnf.transaction.PKG_INSTALL: "I",
    dnf.transaction.PKG_UPGRADE: "U",
    dnf.transaction.PKG_DOWNGRADE: "D",
    dnf.transaction.PKG_REINSTALL: "R",
    dnf.transaction.PKG_REMOVE: "E",
    dnf.transaction.PKG_UPGRADED: "O",
    dnf.transaction.PKG_DOWNGRADED: "O",
    dnf.transaction.PKG_OBSOLETED: "O",
}
GATE = "/usr/libexec/go-health-hook/gate"
HELD = "/run/go-health-hook/held"
VETOES = (1, 3)
SECONDS = 120  # the last resort: the gate keeps to its budget by itself
logger = logging.getLogger("dnf.plugin")


class GoHealthHook(dnf.Plugin):
    """Called by dnf before and after each transaction."""

    name = "go_health_hook"

    def resolved(self):
        """Tell the gate that nothing is offered, where it holds something back."""
        if not self.base.transaction and os.path.exists(HELD) and os.access(GATE, os.X_OK):
            self._ask("resolved")

    def pre_transaction(self):
        """Raise dnf.exceptions.Error where the gate holds the transaction back."""
        status, said = self._ask("before")
        if status in VETOES and said:
            raise dnf.exceptions.Error(said)
        for line in said.splitlines():
            logger.debug("go-health-hook: %s", line)

    def transaction(self):
        """Have the toolchain looked at again."""
        if os.access(GATE, os.X_OK):  # after its own removal there is nothing left to ask
            self._ask("after")

    def _ask(self, moment):
        try:
            if os.path.realpath(self.base.conf.installroot) != "/":
                return 0, ""
            done = subprocess.run(
                ["/usr/bin/timeout", "-k", "2", str(SECONDS), GATE, "dnf4", moment, str(os.getpid())],
                stdin=self._request(),
                stdout=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                cwd="/",
                start_new_session=False,
                timeout=SECONDS + 10,
                check=False,
            )
            if done.returncode not in (0, *VETOES):
                logger.error("go-health-hook: the gate ended with status %d, nothing was judged", done.returncode)
            return done.returncode, done.stdout.strip()
        except Exception as error:
            logger.error("go-health-hook: the gate could not be asked, nothing was judged: %r", error)
            return 0, ""

    def _request(self):
        """A file with what the gate is to know. No pipe: dnf is killed by one whose reader has gone."""
        file = os.fdopen(os.memfd_create("go-health-hook"), "w+")
        json.dump({"packages": list(self._packages())}, file)
        file.seek(0)
        return file

    def _packages(self):
        for item in self.base.transaction or []:
            package = item.pkg
            coming = item.action in dnf.transaction.FORWARD_ACTIONS
            yield {
                "name": package.name,
                "evr": package.evr,
                "full": f"{package.name}-{package.epoch}:{package.version}-{package.release}.{package.arch}",
                "action": LETTERS.get(item.action, "?"),
                "coming": coming,
                # As typed for a package of the command line, so relative to our own directory, which may be gone.
                "path": os.path.join(f"/proc/{os.getpid()}/cwd", package.localPkg()) if coming else "",
                "go": any(name.endswith("/bin/go") for name in package.files) if coming else False,
            }
