# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this is a container in which no systemd runs, as where an image is built."""

from __future__ import annotations

import os

from go_health_hook import files

# Of podman and buildah, RUN instructions included.
MARK = "/run/.containerenv"
# Docker's builder binds its own files over /etc/hosts and /etc/resolv.conf, from a folder of this name.
MOUNTS, BUILDER = "/proc/self/mountinfo", b"/buildkit/"
SYSTEMD = "/run/systemd/system"  # sd_booted(3)


def is_build() -> bool:
    """Return whether what is written below /var would stay in an image, and no machine is here to be told anything."""
    if os.path.isdir(SYSTEMD):
        return False
    # systemd's CONTAINER_INTERFACE document: every container manager sets it.
    if os.environ.get("container") or os.path.exists(MARK):  # noqa: SIM112
        return True
    return BUILDER in files.head(MOUNTS)
