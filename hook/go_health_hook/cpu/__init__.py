# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU tools: the limit that the kernel enforces, and what Go makes of it."""
