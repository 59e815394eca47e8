# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps unattended updates from leaving a machine with a broken Go."""

VERSION = "0.2.0"
