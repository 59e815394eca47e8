# SPDX-License-Identifier: GPL-2.0-or-later
"""Man pages, their examples, the completion and the catalog, read by mandoc, bash and journalctl."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.testbed import cache

from go_health_hook import cli, gates
from go_health_hook.announce import journal, publish

PAGES = (
    "man1/go-build-wrapper.1",
    "man5/go-health-hook.conf.5",
    "man8/go-health-hook.8",
    "man8/go-health-hook-tools.8",
)
DEAD = 60.0  # seconds after which a terminal that says nothing counts as dead


def needs(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def page(installed: Path, name: str) -> str:
    return (installed / "usr/share/man" / name).read_text()


def run(installed: Path, command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    toolchains = sorted((cache.home() / "go").glob("1.27*/bin"))
    path = ":".join([str(installed / "usr/bin"), *map(str, toolchains), "/usr/bin:/bin"])
    if command.startswith("/usr/libexec/go-health-hook/"):
        command = f"{installed}{command}"
    env = {"PATH": path, "HOME": str(cwd), "GOCACHE": str(cache.home() / "go-build"), "GOTOOLCHAIN": "local"}
    words = ["bash", "-c", command]
    if os.geteuid() == 0:
        # An example may set an override: not on the machine that runs the tests.
        state = "mkdir -p /var/lib/go-health-hook && mount -t tmpfs tests /var/lib/go-health-hook"
        words = ["unshare", "--mount", "--propagation=private", "bash", "-c", f'{state} && exec "$@"', "bash", *words]
    return subprocess.run(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_wrong(installed: Path, name: str) -> None:
    said = subprocess.run(
        [needs("mandoc"), "-Tlint", installed / "usr/share/man" / name], stdout=subprocess.PIPE, text=True
    ).stdout
    # It looks for other pages among those installed on this machine.
    wrong = [line for line in said.splitlines() if "referenced manual not found" not in line]
    assert not wrong
    for other, section in re.findall(r"^\.Xr (go-\S+) (\d)", page(installed, name), re.M):
        assert f"man{section}/{other}.{section}" in PAGES


def test_man_shows_every_option_and_every_key(installed: Path) -> None:
    def shown(name: str) -> str:
        target = installed / "usr/share/man" / name
        command: list[str | Path] = [needs("man"), "--local-file", "-E", "UTF-8", target]
        env = {**os.environ, "MANWIDTH": "80", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True).stdout

    hook = shown(PAGES[2])
    for action in cli.main_parser()._actions:
        for flag in action.option_strings:
            assert flag in hook
    tools = shown(PAGES[3])
    for name in (*cli.commands("commands"), *gates.names()):
        assert name in hook or name == "check"
    for name in cli.commands("cpu"):
        assert name in tools
    assert "exec [--floor N] [--force] [--slice] [--explain] -- CMD ..." in " ".join(tools.split())
    assert "--floor N" in shown(PAGES[0])
    for field in ("MESSAGE_ID", *re.findall('"(GO_[A-Z_]+|EXIT_STATUS|ELAPSED)"', inspect.getsource(publish))):
        assert field in hook
    conf = shown(PAGES[1])
    for line in (installed / "usr/lib/go-health-hook/defaults.conf").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert line.strip() in conf


@pytest.mark.parametrize("name", PAGES)
def test_every_example_works(installed: Path, tmp_path: Path, name: str) -> None:
    text = page(installed, name)
    examples = [line[4:].replace("\\-", "-") for line in text.splitlines() if line.startswith(".Dl ")]
    assert examples
    (tmp_path / "go.mod").write_text("module example\n\ngo 1.21\n")
    (tmp_path / "a_test.go").write_text("package a\n")
    for example in examples:
        if example.startswith("go-build-wrapper") and not list((cache.home() / "go").glob("1.27*")):
            pytest.skip("no Go toolchain: make testbed fetches them")
        done = run(installed, example, tmp_path)
        # What status finds on this machine is not the example's doing: it may have an updater and not this hook.
        expected = (0, 1, 3) if " status" in example else (0,)
        if " override" in example and os.geteuid() != 0:
            expected = (2,)  # for root alone
        assert done.returncode in expected, f"{example}\n{done.stdout}"
        assert "Traceback" not in done.stdout
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.M | re.S):
        (tmp_path / "example.conf").write_text(block)
        done = run(installed, "go-health-hook --config example.conf --dry-run", tmp_path)
        assert done.returncode == 0, done.stdout


class Terminal:
    """An interactive shell in a terminal, with nobody's settings."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "PS1": "ready> ", "HOME": "/nonexistent"}
            os.execve(command[0], command, {**env, "INPUTRC": "/dev/null"})
        self.output = ""
        self.until("ready> ")

    def until(self, mark: str) -> None:
        """Read until the mark has come, and drop everything up to it."""
        while mark not in self.output:
            assert select.select([self.fd], [], [], DEAD)[0], f"no {mark!r} in {self.output!r}"
            self.output += os.read(self.fd, 4096).decode()
        self.output = self.output.partition(mark)[2]

    def ask(self, keys: str, mark: str) -> None:
        os.write(self.fd, keys.encode())
        self.until(mark)

    def close(self) -> None:
        self.ask("\x15exit\n", "exit")
        os.close(self.fd)
        os.waitpid(self.pid, 0)


# What is typed before the tabulator, and what a shell makes of it. Each begins on a new line.
COMPLETED = (
    ("go-health-hook sta", "status "),
    ("go-health-hook status --ref", "--refresh "),
    ("go-health-hook --dry", "--dry-run "),
    ("go-health-hook --dry-run --js", "--json "),
    ("go-health-hook overr", "override "),
    ("go-health-hook --root /us", "/usr/"),
    ("go-health-hook override --for 2", "2h "),
    ("go-health-hook --budget 12", "120 "),
    ("go-health-hook gate rpm-", "rpm-ostree "),
    ("go-health-hook gate dnf", "dnf"),
    ("go-build-wrapper vers", "version "),
    ("go-build-wrapper --expl", "--explain "),
    ("go-build-wrapper --floor 8", "8 "),
)


def test_bash_completes_commands_options_and_values(installed: Path) -> None:
    source = installed / "usr/share/bash-completion/completions/go-build-wrapper"  # reads the other one
    bash = Terminal(["/bin/bash", "--norc", "--noprofile", "-i"])
    bash.ask(f"bind 'set bell-style none'; source {shlex.quote(str(source))}; echo so''urced\n", "sourced\r\n")
    bash.until("ready> ")
    for typed, expected in COMPLETED:
        bash.ask(f"\x15{typed}\t", expected)
    bash.ask("\x15go-health-hook override --for=3\t", "30m ")
    bash.close()


def test_zsh_completes_commands_options_and_values(installed: Path) -> None:
    folder = installed / "usr/share/zsh/site-functions"
    zsh = Terminal([needs("zsh"), "-f", "-i"])
    setting_up = f"unsetopt beep; fpath=({shlex.quote(str(folder))} $fpath); autoload -U compinit; compinit -D -u"
    zsh.ask(f"{setting_up}; bindkey '^I' complete-word; bindkey '^U' kill-whole-line; echo so''urced\n", "sourced\r\n")
    zsh.until("ready> ")
    for typed, expected in COMPLETED:
        zsh.ask(f"\x15{typed}\t", expected)
    zsh.close()


def test_fish_completes_commands_options_and_values(installed: Path) -> None:
    folder = installed / "usr/share/fish/vendor_completions.d"
    source = "; ".join(f"source {shlex.quote(str(path))}" for path in sorted(folder.iterdir()))
    for typed, expected in COMPLETED:
        command = [needs("fish"), "--no-config", "-c", f"{source}; complete -C {shlex.quote(typed)}"]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        )
        offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert [word for word in offered if word.startswith(expected.strip())], f"{typed}: {offered}"


def test_completion_every_value_is_known() -> None:
    spec = importlib.util.spec_from_file_location("completion", cache.TREE / "packaging/completion.py")
    assert spec and spec.loader
    completion = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(completion)
    parsers = [cli.command_parser(name, cli.command_module(name)) for name in cli.commands() if name != "gate"]
    for action in (a for parser in (cli.main_parser(), *parsers) for a in parser._actions):
        if action.option_strings and action.nargs != 0:
            assert action.choices or action.metavar in completion.VALUES, f"{action.option_strings}: {action.metavar}"


def test_shellcheck_finds_nothing_wrong(installed: Path) -> None:
    tree = Path(__file__).parents[2]
    files = [path for folder in ("conf", "packaging", ".ci") for path in (tree / folder).rglob("*") if path.is_file()]
    scripts = [path for path in files if re.match(rb"#!(/usr)?/bin/(env )?(ba)?sh\b", path.read_bytes())]
    assert len(scripts) > 8
    subprocess.run([needs("shellcheck"), "--exclude=SC1091", *scripts], check=True)
    completions = sorted((installed / "usr/share/bash-completion/completions").iterdir())
    subprocess.run([needs("shellcheck"), "-s", "bash", *completions], check=True)


def test_the_catalog_explains_every_kind_of_event(installed: Path) -> None:
    command = [needs("journalctl"), f"--root={installed}"]
    subprocess.run([*command, "--update-catalog"], check=True)
    for kind, number in journal.MESSAGE_IDS.items():
        said = subprocess.run(
            [*command, "--dump-catalog", number], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert "Defined-By: go-health-hook" in said, kind
        assert len(said.split("\n\n", 1)[1].split()) > 10, kind
    listed = subprocess.run([*command, "--list-catalog"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert len(re.findall("go-health-hook: ", listed)) == len(journal.MESSAGE_IDS)
