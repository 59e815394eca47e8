# SPDX-License-Identifier: GPL-2.0-or-later
"""The macros that the spec uses: what each comes to in Fedora and EL, and that ours agree where theirs are missing."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.packaging import builds
from tests.testbed import rpms
from tests.unit.macros import DIRECTORIES

# rpm's own, sections and directives, and those that the spec itself defines.
RPM = """attr autosetup bcond_with bcond_without buildroot config dir dist doc else endif exclude fedora ghost global if
license make_install name private release rhel url version with without
build changelog check description files install package post postun pre prep preun
pretrans posttrans preuntrans postuntrans transfiletriggerin transfiletriggerpostun look"""
OWN = set(RPM.split())
PLAIN = {**DIRECTORIES, "python3": "/usr/bin/python3"}
# With an argument: what the expansion must contain. One of the alternatives, where Fedora's calls a helper.
CALLED = {
    "py_byte_compile %{python3} /tree": [r"/usr/bin/python3", r"compileall|py_byte_compile", r"/tree"],
    "pytest -q tests": [r"pytest", r"-q tests"],
    "systemd_post a.timer": [r"\[ \$1 -eq 1 \]", r"preset a\.timer|install-system-units a\.timer"],
    "systemd_preun a.timer": [r"\[ \$1 -eq 0 \]", r"disable --now a\.timer|remove-system-units a\.timer"],
    "systemd_postun a.timer": [r"^$|systemd"],
}
# Differs between distributions, and between the roots of the tests.
WHERE_PYTHON_IS = {"python3_sitelib": r"/usr/lib/python3[\d.]*/(site|dist)-packages"}


def expanded(macro: str) -> str:
    """What rpm makes of a macro; with Fedora's own macros where this machine has them."""
    command = ["rpm", "--eval", f"%{{{macro}}}"]
    if " " in macro:
        name, _, arguments = macro.partition(" ")
        command[2] = f"%{name} {arguments}"
    if not os.path.isdir("/usr/lib/rpm/redhat"):
        shown = subprocess.run(["rpm", "--showrc"], stdout=subprocess.PIPE, text=True, check=True).stdout
        path = re.findall(r"^Macro path: (.*)$", shown, re.M)[0]
        command.append(f"--macros={path}:{rpms.MACROS}")
        command = [command[0], command[-1], *command[1:-1]]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_macros_every_one_of_the_spec_is_listed() -> None:
    used = set(re.findall(r"(?<!%)%\{?[!?]*([a-z_]\w*)", builds.SPEC.read_text()))
    listed = {*PLAIN, *WHERE_PYTHON_IS, *(call.split()[0] for call in CALLED)}
    assert used - OWN <= listed


@pytest.mark.parametrize("macro", PLAIN)
def test_macro_plain_expands_as_in_fedora(macro: str) -> None:
    assert expanded(macro) == PLAIN[macro]


@pytest.mark.parametrize("call", CALLED, ids=[call.split()[0] for call in CALLED])
def test_macro_called_does_what_it_does_in_fedora(call: str) -> None:
    text = expanded(call)
    for pattern in CALLED[call]:
        assert re.search(pattern, text), text


@pytest.mark.parametrize("macro", WHERE_PYTHON_IS)
def test_macro_of_python_leads_below_usr_lib(macro: str) -> None:
    assert re.fullmatch(WHERE_PYTHON_IS[macro], expanded(macro))
