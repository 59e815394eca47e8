# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person runs, one file a command."""
