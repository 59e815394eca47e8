# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration, read so that a disk which does not answer holds nobody up."""

from __future__ import annotations

from go_health_hook import config
from go_health_hook.errors import BadInput
from go_health_hook.text import clean

SECONDS = 2.0  # for a look at small files


def load(path: str | None = None) -> config.Config:
    """Return the settings in force; `path` stands in for what is in /etc. Raises BadInput.

    Where a file is a link, another process reads all of them first.
    """
    links = config.links(path)
    if links:
        from go_health_hook.deadline import Deadline
        from go_health_hook.run.worker import bounded

        if not bounded(lambda: _answers(path), Deadline(SECONDS), False, dead=True):
            raise BadInput(f"{clean(links[0])}: what it leads to does not answer", hint="look after its disk")
    return config.load(config.severities(), path)


def _answers(path: str | None) -> bool:
    """Read it, whatever it says."""
    try:
        config.load(config.severities(), path)
    except BadInput:
        pass
    return True
