# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs and workers: started, bounded, sandboxed and killed."""
