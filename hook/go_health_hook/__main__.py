# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m go_health_hook` is the command line."""

from __future__ import annotations

import sys

from go_health_hook.cli import main

if __name__ == "__main__":
    sys.exit(main())
