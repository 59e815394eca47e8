# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec, the installed tree and NEWS agree, without a build."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

from tests.unit.macros import DIRECTORIES

from go_health_hook import VERSION

TREE = Path(__file__).parents[2]
SPEC = (TREE / "go-health-hook.spec").read_text()
MACROS = {
    **DIRECTORIES,
    "name": "go-health-hook",
    "private": "/usr/lib/go-health-hook",
    "python3_sitelib": "/python3_sitelib",
}
SECTION = re.compile(
    r"^%(files|package|description|prep|build|install|check|pre|post|preun|postun|changelog|\w*trigger)"
)


def packed() -> tuple[list[str], list[str]]:
    """The patterns of all %files sections: those that take files in, and those that leave files out."""
    taken: list[str] = []
    left_out: list[str] = []
    inside = False
    for line in SPEC.splitlines():
        if SECTION.match(line):
            inside = line.startswith("%files")
        elif (
            inside
            and line
            and line[0] not in "#"
            and not line.startswith(("%if", "%else", "%endif", "%dir", "%doc", "%license"))
        ):
            words = [re.sub(r"%\{(\w+)\}", lambda m: MACROS[m.group(1)], word) for word in line.split()]
            pattern = words[-1] + ("*" if words[-1].endswith("/") else "")
            (left_out if words[0] == "%exclude" else taken).append(pattern)
    return taken, left_out


def test_spec_every_installed_file_is_packed() -> None:
    taken, _ = packed()
    installed = [f"/{path.relative_to(TREE / 'conf')}" for path in sorted((TREE / "conf").rglob("*"))]
    missing = [
        path
        for path in installed
        if not (TREE / f"conf{path}").is_dir()
        and "__pycache__" not in path
        and not path.endswith(".gitkeep")
        and not any(fnmatch.fnmatch(path, pattern) for pattern in taken)
    ]
    assert not missing


def test_spec_every_subpackage_owns_the_directories_of_ours_it_fills() -> None:
    """So that packages can be removed in any order."""
    for section in re.split(r"^%files", SPEC, flags=re.M)[1:]:
        lines = section.split("\n%")[0] if "\n%post" in section else section
        for folder in ("%{_libexecdir}/%{name}", "%{private}"):
            if f"\n{folder}/" in lines:
                assert f"%dir {folder}\n" in lines or f"\n{folder}/\n" in lines, section.splitlines()[0]


def test_spec_version_changelog_and_news_agree() -> None:
    assert re.findall(r"^Version:\s+(\S+)$", SPEC, re.M) == [VERSION]
    assert SPEC.partition("%changelog\n")[2].splitlines()[0].endswith(f" - {VERSION}-1")
    assert (TREE / "NEWS").read_text().startswith(f"go-health-hook {VERSION} (")


def test_install_tree_destination_is_made(tmp_path: Path) -> None:
    subprocess.run([TREE / "packaging/dev/install-tree", tmp_path / "not/there yet"], check=True)
    assert (tmp_path / "not/there yet/usr/bin/go-health-hook").stat().st_mode & 0o777 == 0o755


def test_spec_units_are_static_or_preset() -> None:
    """A unit that the package pulls in by a link of its own has no [Install]: systemctl disable would do nothing."""
    folder = TREE / "conf/usr/lib/systemd/system"
    linked = {path.name for path in folder.glob("*.*/*") if path.is_symlink()}
    enabled = {path.name for path in folder.iterdir() if path.is_file() and "\n[Install]\n" in path.read_text()}
    assert not linked & enabled
    preset = {name.replace("%{name}", "go-health-hook") for name in re.findall(r"^%systemd_post (.*)$", SPEC, re.M)}
    assert enabled <= {name for line in preset for name in line.split()}


# ostree sets the time of every file to 0.
def test_spec_compiled_python_is_not_bound_to_the_time_of_its_source(tmp_path: Path) -> None:
    command = re.search(r"^PYTHONHASHSEED=0 %\{python3\} (?:.*\\\n)*.*$", SPEC, re.M)
    assert command
    private = tmp_path / "usr/lib/go-health-hook"
    private.mkdir(parents=True)
    (private / "a.py").write_text("A = 1\n")
    script = command[0].replace("%{python3}", sys.executable).replace("%{private}", "/usr/lib/go-health-hook")
    subprocess.run(["sh", "-ec", script.replace("%{buildroot}", str(tmp_path))], check=True)
    compiled = sorted((private / "__pycache__").iterdir())
    assert len(compiled) == 2
    for path in compiled:
        # PEP 552: bit 0 for a hash in place of time and size, bit 1 for one that is compared.
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 0b11
        assert str(tmp_path).encode() not in path.read_bytes()
