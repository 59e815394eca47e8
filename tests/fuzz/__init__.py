# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzzing, by make fuzz: not part of make test."""
