# SPDX-License-Identifier: GPL-2.0-or-later
"""greenboot's two configuration readers, and greenboot-rs's note of the next boot."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from go_health_hook import gates
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _refused, _trace, boot
from go_health_hook.linux import greenboot

UNIT = Path(__file__).parents[2] / "conf/usr/lib/systemd/system/go-health-hook-greenboot.service"
GATE = "/usr/libexec/go-health-hook/gate"
OURS, A = "50_go_health_hook.sh", "a.sh"


# Spelling, whether greenboot-rs leaves our check out, whether bash's greenboot does.
@pytest.mark.parametrize(
    ("text", "ini", "bash"),
    [
        (f'DISABLED_HEALTHCHECKS=("{OURS}")', True, True),
        (f'DISABLED_HEALTHCHECKS=("{A}" "{OURS}")', True, True),
        (f"DISABLED_HEALTHCHECKS=({OURS})", True, True),
        (f"DISABLED_HEALTHCHECKS={OURS}", True, True),
        (f"DISABLED_HEALTHCHECKS=('{OURS}')", False, True),
        (f'DISABLED_HEALTHCHECKS=("{OURS}") # for now', False, True),
        (f'DISABLED_HEALTHCHECKS=(\n  "{A}"\n  # more\n  "{OURS}"\n)', False, True),
        (f'DISABLED_HEALTHCHECKS=("{A}")\nDISABLED_HEALTHCHECKS+=("{OURS}")', False, True),
        (f'#DISABLED_HEALTHCHECKS=("{OURS}")', False, False),
        (f'DISABLED_HEALTHCHECKS=("{OURS}")\nDISABLED_HEALTHCHECKS=("{A}")', False, False),
        (f'DISABLED_HEALTHCHECKS=("{A}" # "{OURS}"\n)', False, False),
        ("DISABLED_HEALTHCHECKS=(", False, False),
        ("", False, False),
    ],
)
def test_disabled_healthchecks_as_each_greenboot_reads_them(text: str, ini: bool, bash: bool) -> None:
    assert (OURS in greenboot.disabled_by_ini(text)) == ini
    assert (OURS in greenboot.disabled_by_bash(text)) == bash


def test_is_disabled_asks_the_reader_that_is_installed(tmp_path: Path) -> None:
    conf, program = tmp_path / "etc/greenboot/greenboot.conf", tmp_path / "usr/libexec/greenboot/greenboot"
    for path in (conf, program):
        path.parent.mkdir(parents=True)
    conf.write_text(f"DISABLED_HEALTHCHECKS=('{OURS}')\n")
    program.write_bytes(b"\x7fELF\2")
    assert not greenboot.is_disabled(str(tmp_path))
    program.write_text("#!/usr/bin/bash\n")
    assert greenboot.is_disabled(str(tmp_path))


def test_is_installed_needs_unit_and_check(tmp_path: Path) -> None:
    unit, check = tmp_path / "usr/lib/systemd/system" / greenboot.UNIT, tmp_path / "usr/lib" / greenboot.CHECK
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants" / greenboot.UNIT
    for path in (unit, check, wants):
        path.parent.mkdir(parents=True)
        assert not greenboot.is_installed(str(tmp_path))
        path.write_text("[Unit]\n")
    assert greenboot.is_installed(str(tmp_path))
    unit.write_text("")  # masked as well: systemd.unit(5)
    assert not greenboot.is_installed(str(tmp_path))
    unit.write_text("[Unit]\n")
    mask = tmp_path / "etc/systemd/system" / greenboot.UNIT
    mask.symlink_to("/dev/null")
    assert not greenboot.is_installed(str(tmp_path))


def grubenv(path: Path, **values: str) -> None:
    """Write a GRUB environment block: 1024 bytes, lines KEY=VALUE, padded with #."""
    text = "# GRUB Environment Block\n" + "".join(f"{key}={value}\n" for key, value in values.items())
    path.write_text(text.ljust(1024, "#"))


def test_next_deployment_is_read_out_of_the_environment_block(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    assert greenboot.next_deployment(str(path)) == ""
    grubenv(path, boot_success="1", greenboot_next_deployment_id="sha256:0123", fallback="1")
    assert greenboot.next_deployment(str(path)) == "sha256:0123"
    grubenv(path, boot_success="1")
    assert greenboot.next_deployment(str(path)) == ""


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_refused, "KEPT", str(tmp_path / "refused.json"))
    monkeypatch.setattr(_refused, "NOTE", str(tmp_path / "staged.json"))
    return tmp_path


@pytest.mark.parametrize("noted", ["b" * 64, "sha256:" + "c" * 64, "a" * 64, ""])
@pytest.mark.parametrize("refused", ["b" * 64, "sha256:" + "c" * 64])
def test_greenboot_note_goes_only_where_it_names_what_was_refused(
    records: Path, monkeypatch: pytest.MonkeyPatch, noted: str, refused: str
) -> None:
    gone = []
    monkeypatch.setattr(greenboot, "next_deployment", lambda: noted)
    monkeypatch.setattr(greenboot, "forget_next_deployment", lambda deadline: gone.append(noted))
    digest = refused if ":" in refused else ""
    _refused.Note("debian-x.0", "block", frozenset({"file"}), digest).write()
    monkeypatch.setattr(_refused, "held", lambda: [] if digest else [{"checksum": refused, "digest": ""}])
    assert boot.forget_refused_boot(None) == 0
    assert gone == ([noted] if noted == refused else [])


def test_greenboot_note_that_cannot_be_removed_is_a_fault(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = records / "boot/grub2/grubenv"
    path.parent.mkdir(parents=True)
    grubenv(path, greenboot_next_deployment_id="b" * 64)
    before = path.read_text()
    monkeypatch.setattr(greenboot.process, "has_host", lambda name: False)
    with pytest.raises(greenboot.Unreadable, match="still set"):
        greenboot.forget_next_deployment(Deadline(5), str(path))
    assert path.read_text() == before


# A run without a verdict that the kernel or systemd kills says nothing about the boot.
@pytest.mark.parametrize(("words", "traced"), [([], 1), (["greenboot"], 1), (["deep"], 0), (["greenboot-note"], 0)])
def test_boot_traces_runs_with_a_verdict(
    words: list[str], traced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trace, "FOLDER", str(tmp_path / "running"))
    left: list[int] = []

    def answer(call: gates.Call) -> int:
        left.append(len(list(tmp_path.glob("running/boot.*"))))
        return 0

    monkeypatch.setattr(boot, "answer", answer)
    assert gates.answer("boot", gates.Call(arguments=words)) == 0
    assert left == [traced]


def test_unit_asks_for_the_note_before_it_starts_the_gate(tmp_path: Path) -> None:
    grubenv, gate, asked = tmp_path / "grubenv", tmp_path / "gate", tmp_path / "asked"
    gate.write_text(f"#!/bin/sh\necho $* >>{asked}\n")
    gate.chmod(0o755)
    commands = [line for line in UNIT.read_text().splitlines() if line.startswith(("ExecStart=", "ExecStop="))]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.partition("=-")[2])
        script = words[2].replace("/boot/grub2/grubenv", str(grubenv)).replace(GATE, str(gate))
        for text, calls in ((None, ""), ("fallback=1\n", ""), (f"{greenboot.NEXT}=0\n#####", "boot greenboot-note\n")):
            grubenv.unlink(missing_ok=True)
            asked.unlink(missing_ok=True)
            if text is not None:
                grubenv.write_text(text)
            assert subprocess.run([*words[:2], script], check=False).returncode == 0
            assert (asked.read_text() if asked.exists() else "") == calls
