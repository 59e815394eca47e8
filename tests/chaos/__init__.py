# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults at random in real transactions, by make chaos: not part of make test."""
