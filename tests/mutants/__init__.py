# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the unit tests notice a wrong decision: each of about a hundred is made in a scratch copy."""
