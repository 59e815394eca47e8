# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m tests.testbed: builds what is not in the cache yet and does not depend on this tree.

What does, as our packages and the machine that ostree boots, is built by the first test that asks for it, while others
run: it takes one processor only.
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.testbed import baseline, disks, extras, golang, ostree_vm, roots, vm


def main() -> int:
    if os.geteuid() != 0:
        print("testbed: not built, since only root can make a file system's owners and devices", file=sys.stderr)
        return 0
    if not shutil.which("mmdebstrap"):
        print("testbed: no root images, since mmdebstrap is not here (Fedora and EL have none)", file=sys.stderr)
        return 0
    with ThreadPoolExecutor() as side_by_side:  # most of it is waiting for the mirror
        list(side_by_side.map(roots.debian, roots.PACKAGES))
    for suite in roots.PACKAGES:
        baseline.without_go(suite)
        baseline.with_go(suite)
    for label in golang.RELEASES:
        golang.packages(label)
    for label in ("1.27.3", "truncated", "repair"):
        golang.packages(label, golang.DISTS["bookworm"])
    for label in extras.ACME_RELEASES:
        extras.acme_go(label)
    if vm.why_not():
        print(f"testbed: no virtual machine, since {vm.why_not()}", file=sys.stderr)
    else:
        disks.plain()
        ostree_vm.repository()
    return 0


sys.exit(main())
