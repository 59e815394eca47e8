# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger holds for the same files on the same boot alone; whatever is odd about it means a full run."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from go_health_hook.config import Config, severities
from go_health_hook.go import ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from go_health_hook.go.toolchain import Toolchain

pytestmark = pytest.mark.root
FOUND = {"stdlib": {"status": "pass"}}
FILES = (
    *("bin/go", "bin/gofmt", "pkg/tool/linux_amd64/compile", "pkg/tool/linux_amd64/link", "pkg/include/textflag.h"),
    *("VERSION", "go.env", "src/runtime/proc.go", "src/crypto/tls/tls.go", "src/crypto/tls/tls_test.go"),
    *("src/fmt/print.go", "src/fmt/testdata/x/a.go"),
)


class Machine:
    """A GOROOT in a folder, and the ledger next to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goroot = folder / "go"
        for name in FILES:
            path = self.goroot / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        self.place = folder / "cache"
        self.file = self.place / "healthy"
        self.boot = folder / "boot_id"
        self.boot.write_text("one\n")
        self.machine_id = folder / "machine-id"
        self.machine_id.write_text("this\n")
        monkeypatch.setattr(ledger, "SYSTEM", str(self.place))
        monkeypatch.setattr(ledger, "FILE", str(self.file))
        monkeypatch.setattr(ledger, "BOOT_ID", str(self.boot))
        monkeypatch.setattr(ledger, "MACHINE_ID", str(self.machine_id))
        self.config = Config(severities())
        tools = f"{self.goroot}/pkg/tool/linux_amd64"
        self.toolchain = cast("Toolchain", SimpleNamespace(goroot=str(self.goroot), via="/usr/bin/go", tools=tools))

    def enter(self, began: float | None = None) -> None:
        """Enter it as healthy, in a run that begins long after the files were made."""
        began = time.time() + 60 if began is None else began
        ledger.enter(self.toolchain, self.config, FOUND, ["golang-1"], ["runtime", "crypto/tls"], began)

    @property
    def holds(self) -> bool:
        return ledger.recall(self.toolchain, self.config) is not None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_ledger_entry_holds_and_says_what_was_found(machine: Machine) -> None:
    assert not machine.holds
    machine.enter()
    entry = ledger.recall(machine.toolchain, machine.config)
    assert entry is not None
    assert entry.findings == FOUND
    assert entry.packages == ["golang-1"]
    assert entry.line.startswith("as judged 20")
    assert machine.file.stat().st_mode & 0o777 == 0o600


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    """Same size, same times but for the one that nobody can set."""
    info = path.stat()
    path.write_bytes(b"x" * info.st_size)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replace(path: Path) -> None:
    shutil.copy2(path, f"{path}.new")
    os.replace(f"{path}.new", path)


def remove(path: Path) -> None:
    path.unlink()


def forbid(path: Path) -> None:
    path.chmod(0)


def link(path: Path) -> None:
    path.rename(f"{path}.old")
    path.symlink_to(f"{path}.old")


@pytest.mark.parametrize("change", [truncate, rewrite, replace, remove, forbid, link])
@pytest.mark.parametrize(
    "name", ["bin/go", "bin/gofmt", "pkg/tool/linux_amd64/link", "VERSION", "go.env", "src/runtime/proc.go"]
)
def test_ledger_changed_file_ends_it(machine: Machine, change: Callable[[Path], None], name: str) -> None:
    machine.enter()
    change(machine.goroot / name)
    assert not machine.holds


@pytest.mark.parametrize("name", ["bin/other", "pkg/include/new.h", "src/crypto/tls/old.go", "src/fmt/new.go"])
def test_ledger_new_file_ends_it(machine: Machine, name: str) -> None:
    machine.enter()
    (machine.goroot / name).write_text("package x\n")
    assert not machine.holds


@pytest.mark.parametrize("name", ["", "src", "bin", "src/crypto", ".."])
def test_ledger_closed_directory_ends_it(machine: Machine, name: str) -> None:
    machine.enter()
    (machine.goroot / name).chmod(0o711)
    assert not machine.holds


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        *(
            ("src/runtime/os_windows.go", False),
            ("src/runtime/asm_arm64.s", False),
            ("src/runtime/a_linux_386.go", False),
        ),
        *(
            ("src/runtime/a_windows_amd64.go", False),
            ("src/runtime/os_linux.go", True),
            ("src/runtime/a_amd64.s", True),
        ),
        *(("src/runtime/a_linux_amd64.go", True), ("src/runtime/windows.go", True), ("src/runtime/a_unix.go", True)),
        *(("src/runtime/a_newos.go", True), ("src/crypto/tls/a_windows.go", True)),
    ],
)
def test_ledger_source_that_no_build_here_reads_does_not_end_it(machine: Machine, name: str, ends: bool) -> None:
    """gofmt reads all sources of the key modules."""
    path = machine.goroot / name
    path.write_text("package x\n")
    machine.enter()
    truncate(path)
    assert machine.holds is not ends


def test_ledger_of_an_unknown_architecture_looks_at_all_sources(machine: Machine) -> None:
    path = machine.goroot / "src/runtime/asm_arm64.s"
    path.write_text("")
    machine.toolchain.tools = f"{machine.goroot}/pkg/tool/linux_new"
    machine.enter()
    path.write_text("x")
    assert not machine.holds


def test_ledger_test_data_and_neighbours_do_not_end_it(machine: Machine) -> None:
    machine.enter()
    (machine.goroot / "src/fmt/testdata/x/b.go").write_text("")
    (machine.goroot.parent / "neighbour").write_text("")
    assert machine.holds


def change_boot(machine: Machine) -> None:
    machine.boot.write_text("two\n")


def change_machine(machine: Machine) -> None:
    machine.machine_id.write_text("that\n")


def change_modules(machine: Machine) -> None:
    machine.config._values["toolchain"]["modules"] = ["net/http"]


def cut(machine: Machine) -> None:
    data = machine.file.read_bytes()
    machine.file.write_bytes(data[: len(data) // 2])


def cut_at_a_line(machine: Machine) -> None:
    lines = machine.file.read_text().split("\n")
    machine.file.write_text("\n".join([*lines[:-3], *lines[-2:]]))


def empty(machine: Machine) -> None:
    machine.file.write_bytes(b"")


def nonsense(machine: Machine) -> None:
    machine.file.write_bytes(b"[" * 100_000 + b"\xff\x00")


def fifo(machine: Machine) -> None:
    machine.file.unlink()
    os.mkfifo(machine.file, 0o600)


def linked(machine: Machine) -> None:
    machine.file.rename(f"{machine.file}.old")
    machine.file.symlink_to(f"{machine.file}.old")


def of_a_user(machine: Machine) -> None:
    os.chown(machine.file, 1000, 1000)


def writable(machine: Machine) -> None:
    machine.file.chmod(0o666)


def open_directory(machine: Machine) -> None:
    machine.place.chmod(0o777)


@pytest.mark.parametrize(
    "change",
    [
        *(change_boot, change_machine, change_modules, cut, cut_at_a_line, empty, nonsense, fifo, linked, of_a_user),
        *(writable, open_directory),
    ],
)
def test_ledger_on_any_doubt_does_not_hold(machine: Machine, change: Callable[[Machine], None]) -> None:
    machine.enter()
    change(machine)
    assert not machine.holds


def test_ledger_of_another_hook_does_not_hold(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.enter()
    monkeypatch.setattr(ledger, "VERSION", "0.0.1")
    assert not machine.holds


@pytest.mark.parametrize("since_boot", [-8 * 86400.0, 60.0, float("nan"), "now", None])
def test_ledger_older_than_a_week_or_from_the_future_does_not_hold(machine: Machine, since_boot: Any) -> None:
    """The clock that counts is the one since the boot, which nobody can set."""
    machine.enter()
    head, _, rest = machine.file.read_text().partition("\n")
    known = json.loads(head)
    known["since_boot"] = known["since_boot"] + since_boot if isinstance(since_boot, float) else since_boot
    machine.file.write_text(f"{json.dumps(known)}\n{rest}")
    assert not machine.holds


def test_ledger_files_that_changed_just_now_are_not_entered(machine: Machine) -> None:
    machine.enter(began=time.time() + ledger.SETTLED / 2)
    assert not machine.file.exists()


def test_ledger_files_from_the_future_are_not_entered(machine: Machine) -> None:
    machine.enter(began=time.time() - 3600)
    assert not machine.file.exists()


def test_ledger_package_that_is_not_there_is_not_entered(machine: Machine) -> None:
    ledger.enter(machine.toolchain, machine.config, FOUND, [], ["net/http"], time.time() + 60)
    assert not machine.file.exists()


def test_ledger_of_another_goroot_does_not_hold(machine: Machine, tmp_path: Path) -> None:
    machine.enter()
    shutil.copytree(machine.goroot, tmp_path / "other")
    machine.toolchain.goroot = str(tmp_path / "other")
    assert not machine.holds


def test_ledger_dropped_is_gone(machine: Machine) -> None:
    machine.enter()
    ledger.drop()
    ledger.drop()
    assert not machine.holds
