# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of Go: toolchains, the runtime's rules, build information, running processes."""
