# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel and systemd say: cgroups and units."""
