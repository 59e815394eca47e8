# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling people: text, JSON, journal, MOTD, metrics, and the record that status reads."""
