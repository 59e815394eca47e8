# SPDX-License-Identifier: GPL-2.0-or-later
"""The gates on bootc's composefs backend: real EROFS images over a real object store, and a stand-in for bootc."""
