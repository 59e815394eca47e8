# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: every measurement of this folder, each a module with `main()`; arguments name the ones to run."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.bench as here

if __name__ == "__main__":
    names = sorted(m.name for m in pkgutil.iter_modules(here.__path__) if m.name not in ("__main__", "measure"))
    for name in sys.argv[1:] or names:
        print(f"\n== {name}: {(importlib.import_module(f'tests.bench.{name}').__doc__ or '').splitlines()[0]}")
        importlib.import_module(f"tests.bench.{name}").main()
