# SPDX-License-Identifier: GPL-2.0-or-later
"""Odd machines, healthy and broken, and what the hook has to say of each: see case.py."""
