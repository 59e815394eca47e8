# SPDX-License-Identifier: GPL-2.0-or-later
"""One file an updater; every module here answers one."""
