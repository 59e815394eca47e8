# SPDX-License-Identifier: GPL-2.0-or-later
"""tune as installed: what it writes, that systemd's own tools accept it, and that nothing is left of it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.leftovers import DEAD

from go_health_hook.cpu import tune

if TYPE_CHECKING:
    from tests.toolchains.trees import Hook

NAMES = ["accounting", "build-slice", "open-files", "tasks"]


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def settings(hook: Hook | Apart, *words: str) -> dict[str, Any]:
    done = hook(*words, "tune", "--list", "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}


def needs_old(name: str) -> None:
    said = (
        subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
        if shutil.which("systemctl")
        else ""
    )
    number = said.split()[1].partition("~")[0] if said else "0"
    if name == "accounting" and number.isdecimal() and int(number) >= 258:
        pytest.skip(f"systemd {number} refuses it, which test_accounting_is_refused covers in the virtual machine")


class Apart:
    """The installed program where /etc/systemd is a test's own directory."""

    def __init__(self, hook: Hook, root: Path) -> None:
        self.program = hook.program
        self.root = root

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        script = 'mount --bind "$0/etc/systemd" /etc/systemd && exec "$@"'
        argv = ["unshare", "-m", "sh", "-c", script, str(self.root), str(self.program), *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=DEAD)


@pytest.mark.root
@pytest.mark.parametrize("name", NAMES)
def test_apply_and_revert_leave_things_as_they_were(hook: Hook, tmp_path: Path, name: str) -> None:
    needs_old(name)
    if not os.path.isdir("/etc/systemd"):
        pytest.skip("there is no /etc/systemd here")
    root = tmp_path / "root"
    apart = Apart(hook, root)
    (root / "etc/systemd").mkdir(parents=True)
    (root / "etc/systemd/user.conf.d").mkdir()
    (root / "etc/systemd/user.conf.d/mine.conf").write_text("[Manager]\n")
    before = everything(root)
    assert set(settings(apart)) == set(NAMES)
    done = apart("tune", "--apply", name)
    assert done.returncode == 0, done.stderr
    row = settings(apart)[name]
    assert row["applied"]
    for path in (f"{root}{file}" for file in row["files"]):
        written = Path(path).read_text()
        assert f"tune --revert {name}" in written
        assert all(f"{key}={value}\n" in written for key, value in row["sets"].items())
        assert "[Tune]" not in written
        assert os.stat(path).st_mode & 0o777 == 0o644
    assert apart("tune", "--revert", name).returncode == 0
    # The directories that every machine has stay; those made for the drop-ins go.
    units = {"etc/systemd/system", "etc/systemd/user"} if name == "build-slice" else set()
    assert set(everything(root)) == {*before, *units}
    again = apart("tune", "--revert", name)
    assert again.returncode == 0
    assert "nothing to take back" in again.stdout
    assert "removed" not in again.stdout


def test_a_user_applies_for_themselves_alone(hook: Hook, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf")}
    done = hook("tune", "--user", "--apply", "open-files", env=env)
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path / "conf") == [
        "systemd",
        "systemd/user.conf.d",
        "systemd/user.conf.d/50-go-health-hook-open-files.conf",
    ]
    assert "could not be told" in done.stdout
    assert hook("tune", "--user", "--revert", "open-files", env=env).returncode == 0


def test_what_systemd_does_not_know_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt setting, as a future systemd may see ours: systemd-analyze is asked, and nothing stays."""
    if not os.path.exists(tune.ANALYZE):
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path / "tune"
    folder.mkdir()
    tune_section = "[Tune]\nSummary = s\nWhy = w\nKind = slice\nUnit = build.slice\n"
    (folder / "odd.conf").write_text(f"{tune_section}[Slice]\nCPUWait=20\n")
    (folder / "even.conf").write_text(f"{tune_section}[Slice]\nCPUWeight=20\n")
    scope = tune.Scope(False, str(tmp_path / "root"), tune.Deadline(60))
    with pytest.raises(tune.HookError, match="CPUWait"):
        tune._apply(tune.Setting("odd", str(folder / "odd.conf")), scope)
    assert not list((tmp_path / "root").rglob("*.conf"))
    tune._apply(tune.Setting("even", str(folder / "even.conf")), scope)
    assert len(list((tmp_path / "root").rglob("*.conf"))) == 2


def test_nothing_is_written_below_another_root(hook: Hook, tmp_path: Path) -> None:
    """Its links could lead anywhere."""
    for option in ("--apply", "--revert"):
        done = hook("--root", tmp_path, "tune", option, "open-files")
        assert (done.returncode, done.stdout) == (2, "")
        assert "below another root nothing is written" in done.stderr
    assert set(settings(hook, "--root", str(tmp_path))) == set(NAMES)
    assert everything(tmp_path) == []


def test_the_list_fits_and_unknown_names_are_refused(hook: Hook) -> None:
    text = hook("tune").stdout
    assert all(name in text for name in NAMES)
    assert all(len(line) <= 80 for line in text.splitlines())
    done = hook("tune", "--apply", "../etc/passwd")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
