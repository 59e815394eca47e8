# SPDX-License-Identifier: GPL-2.0-or-later
"""What image systems have that can be driven without a machine: rpm-ostree's bus, greenboot's directories."""
