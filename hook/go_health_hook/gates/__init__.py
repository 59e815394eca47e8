# SPDX-License-Identifier: GPL-2.0-or-later
"""One file an updater, with `answer(args, configuration) -> int`; what several share has a name with a leading _."""
