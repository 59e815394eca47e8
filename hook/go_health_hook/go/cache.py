# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's own Go build cache: with the index kept there (cmd/go/internal/modindex) `go list` is much faster."""

from __future__ import annotations

import os

from go_health_hook.run.sandbox import NOBODY, host

SYSTEM = "/var/cache/go-health-hook"


def build_cache() -> str:
    """A directory that toolchain programs may write, or an empty string where it cannot be had.

    Root's is nobody's, below a directory that only root may enter. Another service that runs as nobody gets there only
    through the /proc entries of a toolchain that runs at that moment; what it spoils makes a listing or a build fail,
    and that is then done again without the cache. A person's lies with the person's other caches.
    """
    try:
        if os.geteuid() != 0:
            home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            if not os.path.isabs(home):
                return ""
            path = f"{home}/go-health-hook/build"
            os.makedirs(path, 0o700, exist_ok=True)
            return path
        if not host().bwrap:
            return ""  # nobody could not reach it
        if not os.path.isdir(SYSTEM):
            os.mkdir(SYSTEM, 0o700)
        if os.lstat(SYSTEM).st_uid != 0 or os.lstat(SYSTEM).st_mode & 0o077:
            os.chmod(SYSTEM, 0o700)
        path = f"{SYSTEM}/build"
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            os.chown(path, NOBODY, NOBODY)
        return path
    except OSError:
        return ""
