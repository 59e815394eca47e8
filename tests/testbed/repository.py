# SPDX-License-Identifier: GPL-2.0-or-later
"""Package repositories, as many as there are sets of packages to offer to a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed import cache
from tests.testbed.machine import REPOSITORIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.testbed.machine import Machine

PORT = 8080


def repository(packages: Iterable[Path]) -> Path:
    """The folder of a repository that has these packages and nothing else; made once for the same packages."""
    chosen = sorted(set(packages))

    def build(new: Path) -> None:
        for path in chosen:
            try:
                os.link(path, new / path.name)
            except OSError:  # another file system
                shutil.copy(path, new)
        subprocess.run(["createrepo_c", "--quiet", "--general-compress-type=gz", new], check=True)

    names = cache.key(path.name for path in chosen)
    return cache.built(f"repositories/{names}", [str(path) for path in chosen], build)


def offer(machine: Machine, packages: Iterable[Path], name: str = "updates", http: bool = False) -> str:
    """Makes these packages what the machine's repository of that name has; where it finds them.

    As files its updaters may use the packages where they lie; over HTTP they download them first.
    """
    folder = f"{REPOSITORIES}/{repository(packages).name}"
    url = f"file://{folder}"
    if http:
        serve(machine)
        url = f"http://127.0.0.1:{PORT}/{Path(folder).name}"
    machine.write(f"/etc/yum.repos.d/{name}.repo", f"[{name}]\nname={name}\nbaseurl={url}\nenabled=1\ngpgcheck=0\n")
    return url


def serve(machine: Machine) -> None:
    """Starts a web server of all repositories in the machine, if it has none."""
    command = ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", REPOSITORIES, str(PORT)]
    if " ".join(command) in machine.processes().values():
        return
    server = machine.start(command, stderr=subprocess.DEVNULL)
    assert server.stdout and server.stdout.readline().startswith("Serving HTTP")
    server.stdout.close()
