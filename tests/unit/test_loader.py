# SPDX-License-Identifier: GPL-2.0-or-later
"""The dynamic loader's complaints: which library is missing, and which incoming package brings it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from go_health_hook.gates import _libraries
from go_health_hook.go import loader
from go_health_hook.verdict import BROKEN, FAIL, NOT_JUDGED, WARN, Finding

NO_FILE = "cannot open shared object file: No such file or directory"
GO = "/usr/lib/golang/bin/go"
X = "x-0:1-1.noarch"


@pytest.mark.parametrize(
    ("said", "library", "version"),
    [
        (f"{GO}: error while loading shared libraries: libnew.so.2: {NO_FILE}", "libnew.so.2", ""),
        (f"{GO}: error while loading shared libraries: /lib64/libz.so.1: file too short", "libz.so.1", ""),
        (f"{GO}: /lib64/libc.so.6: version `GLIBC_2.39' not found (required by {GO})", "libc.so.6", "GLIBC_2.39"),
        (
            f"{GO}: relocation error: {GO}: symbol x version GLIBC_2.36 not defined in file libc.so.6 with link time",
            "libc.so.6",
            "GLIBC_2.36",
        ),
        (f"{GO}: symbol lookup error: {GO}: undefined symbol: fresh", loader.ANY, ""),
    ],
)
def test_lacking_loader_messages_name_library_and_version(said: str, library: str, version: str) -> None:
    wanted = loader.lacking(f"go version exited with status 127: {said}")
    assert wanted is not None
    assert (wanted.soname, wanted.version) == (library, version)


@pytest.mark.parametrize(
    "said",
    ["was killed by SIGSEGV", "exited with status 127: /bin/sh: 1: exec: go: not found", f"{GO} is cut short", ""],
)
def test_lacking_other_failures_miss_no_library(said: str) -> None:
    assert loader.lacking(said) is None


def test_lacking_real_loader_is_understood(tmp_path: Path) -> None:
    """The machine's own loader, asked for a library that is not there."""
    done = subprocess.run(
        ["/bin/true"],
        env={"LD_PRELOAD": "", "LD_LIBRARY_PATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    (tmp_path / "libc.so.6").write_bytes(b"no library")
    done = subprocess.run(["/bin/true"], env={"LD_LIBRARY_PATH": str(tmp_path)}, stderr=subprocess.PIPE, text=True)
    wanted = loader.lacking(done.stderr)
    assert done.returncode == 127
    assert wanted is not None and wanted.soname == "libc.so.6"


def package(provides: list[str], files: list[str]) -> dict[str, object]:
    return {"nevra": "glibc-2.39-1.x86_64", "providename": provides, "filenames": files}


GLIBC = package(["glibc", "libc.so.6()(64bit)", "libc.so.6(GLIBC_2.39)(64bit)"], ["/usr/lib64/libc.so.6"])


@pytest.mark.parametrize(
    ("wanted", "header", "brings"),
    [
        (("libc.so.6", "GLIBC_2.39"), GLIBC, True),
        (("libc.so.6", "GLIBC_2.40"), GLIBC, False),
        (("libnew.so.2", ""), GLIBC, False),
        (("libnew.so.2", ""), package([], ["/opt/x/lib/libnew.so.2"]), True),
        (("libnew.so.2", "NEW_1"), package([], ["/opt/x/lib/libnew.so.2"]), True),
        (("libnew.so.2", ""), package(["libnew.so.2()(64bit)"], ["/usr/lib64/libnew.so.2.1"]), True),
        (("libnew.so.2", ""), package(["libnew.so.20()(64bit)"], ["/usr/lib64/libnew.so.20"]), False),
        (("libnew.so.2", ""), package(["x"], ["/etc/ld.so.conf.d/x.conf"]), True),
        ((loader.ANY, ""), GLIBC, True),
        ((loader.ANY, ""), package(["hello"], ["/usr/bin/hello"]), False),
    ],
)
def test_bringer_is_a_package_with_library_and_version(
    wanted: tuple[str, str], header: dict[str, object], brings: bool
) -> None:
    assert bool(loader.bringer(loader.Lacking(*wanted), [header])) is brings


def finding(said: str) -> Finding:
    return Finding(FAIL, f"go version exited with status 127: {GO}: {said}", "reinstall it")


def test_excuse_without_incoming_packages_go_stays_broken() -> None:
    broken = finding(f"error while loading shared libraries: libnew.so.2: {NO_FILE}")
    assert not _libraries.excuse([broken], [], {}, True)
    assert (broken.status, broken.ground) == (FAIL, BROKEN)


def test_excuse_package_that_is_not_found_leaves_go_not_judged(tmp_path: Path) -> None:
    broken = finding(f"error while loading shared libraries: libnew.so.2: {NO_FILE}")
    places = {X: [(str(tmp_path), "", "x.rpm")]}
    with pytest.raises(_libraries.NotFound, match=X):
        _libraries.excuse([broken], [X], {}, False)
    assert _libraries.excuse([broken], [X], places, True)
    assert (broken.status, broken.ground) == (WARN, NOT_JUDGED)
    assert "libnew.so.2" in broken.summary and "could be found" in broken.summary


def test_excuse_other_failures_are_left_alone(tmp_path: Path) -> None:
    broken = Finding(FAIL, f"{GO} is cut short")
    assert not _libraries.excuse([broken], [X], {X: [(str(tmp_path), "", "x.rpm")]}, False)
    assert broken.ground is BROKEN
