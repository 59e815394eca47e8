# SPDX-License-Identifier: GPL-2.0-or-later
"""The go that misbehaves, as the tests of toolchains have it."""

from __future__ import annotations

from tests.toolchains.conftest import badgo

__all__ = ["badgo"]
