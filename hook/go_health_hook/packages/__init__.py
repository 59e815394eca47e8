# SPDX-License-Identifier: GPL-2.0-or-later
"""What rpm says of Go: installed, and incoming in a transaction."""
