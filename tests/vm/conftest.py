# SPDX-License-Identifier: GPL-2.0-or-later
"""The plain machine with what `make install` makes on it, and a Go that the hook looks after."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.testbed.ostree_vm import compile_hook
from tests.testbed.vm import VM

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooked(plain_vm: VM, tmp_path_factory: pytest.TempPathFactory) -> VM:
    root = tmp_path_factory.mktemp("installed")
    subprocess.run([TREE / "packaging/dev/install-tree", root], check=True)
    compile_hook(root)
    plain_vm.install_tree(root)
    # The machine's Go, and one that a full disk has cut short, to change places with it.
    plain_vm.ok("""
        cp -al /opt/go/1.27.3 /opt/go/broken && rm /opt/go/broken/bin/go
        head -c 5000000 /opt/go/1.27.3/bin/go >/opt/go/broken/bin/go && chmod 0755 /opt/go/broken/bin/go
        ln -sfn /opt/go/1.27.3 /usr/local/go
    """)
    return plain_vm
