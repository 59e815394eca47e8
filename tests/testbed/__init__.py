# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests need and cannot fake: roots with the real updaters, packages of real Go toolchains, machines."""
