# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages as a build system makes them and as a person installs, upgrades and removes them."""
