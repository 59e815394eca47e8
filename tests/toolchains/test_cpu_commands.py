# SPDX-License-Identifier: GPL-2.0-or-later
"""cpu, exec, trace and bench as installed, over real Go programs in real cgroups of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.toolchains import eight_cpus, waiting
from tests.toolchains.deadfs import dead_mount
from tests.toolchains.running import listed, started, taken
from tests.toolchains.trees import CACHE, TOP, real

from go_health_hook.cpu import _measuring, bench
from go_health_hook.run.worker import children

if TYPE_CHECKING:
    from tests.toolchains.groups import Groups
    from tests.toolchains.trees import Hook

DECIDE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from go_health_hook.cpu.exec import decide
decision = decide(sys.argv[2:], os.environ, affinity=8)
print(decision.value, decision.why)
"""


@pytest.mark.root
def test_a_limit_above_is_shown_by_cpu_and_ps(hook: Hook, groups: Groups) -> None:
    groups.make("some.slice")
    groups.make("some.slice/a.service")
    groups.limit("some.slice", 150)
    enter = groups.directory("some.slice/a.service") / "cgroup.procs"
    with started(eight_cpus.toolchain("1.27.3") / "bin/gofmt") as process:
        enter.write_text(str(process.pid))
        done = hook("cpu", "--json", "--pid", str(process.pid))
        facts = json.loads(done.stdout)
        text = hook("cpu", "--pid", str(process.pid)).stdout
        row = listed(hook, process.pid)
    slice_path = groups.path("some.slice")
    assert facts["limiting_level"] == row["limiting_level"] == slice_path
    assert [level["cpus"] for level in facts["levels"] if level["cpus"]][:2] == [1.5, 8.0]
    assert [level["unit"] for level in facts["levels"]][:2] == ["a.service", "some.slice"]
    assert row["unit"] == "a.service"
    assert facts["expected_gomaxprocs"] == row["expected_gomaxprocs"] == min(2, facts["affinity_cpus"])
    assert facts["allowance_cpus"] == min(1.5, facts["affinity_cpus"])
    assert facts["levels"][1]["throttling"]["periods"] >= 0
    assert all(len(line) <= 80 for line in text.splitlines())
    assert any(line.startswith("> some.slice") for line in text.splitlines())
    by_path = json.loads(hook("cpu", "--json", "--unit", slice_path).stdout)
    assert [level["path"] for level in by_path["levels"]] == [level["path"] for level in facts["levels"][1:]]
    assert by_path["allowance_cpus"] == facts["allowance_cpus"]


def test_cpu_heeds_the_environment(hook: Hook) -> None:
    """What a shell exports goes before any limit; a program's own counts where its process is asked about."""
    more = str(len(os.sched_getaffinity(0)) + 5)
    env = {"PATH": os.environ["PATH"], "GOMAXPROCS": more}
    own = [json.loads(hook("cpu", "--json", env={**env, "GOMAXPROCS": value}).stdout) for value in (more, "max")]
    text = hook("cpu", env=env).stdout
    with started(waiting.program("1.27"), env=env) as process:
        assert taken(process) == int(more)
        theirs = json.loads(hook("cpu", "--json", "--pid", str(process.pid)).stdout)
        assert json.loads(hook("cpu", "--json", "--unit", "/", env=env).stdout)["environment_gomaxprocs"] is None
    for facts in (own[0], theirs):
        assert (facts["environment_gomaxprocs"], facts["aligned"]) == (int(more), False)
        assert any("--force" in line for line in facts["advice"])
    assert own[1]["environment_gomaxprocs"] is None
    assert own[1]["aligned"] in (True, None)
    assert f"a program there takes {more}: GOMAXPROCS={more} in its environment" in text


@pytest.mark.root
def test_cpu_sees_the_quota_switched_off_by_godebug(hook: Hook, groups: Groups) -> None:
    groups.make("leaf")
    env = {"PATH": os.environ["PATH"], "GODEBUG": "containermaxprocs=0"}
    process = groups.start("leaf", hook.program, "cpu", "--json", env=env, stdout=subprocess.PIPE)
    facts = json.loads(process.communicate()[0])
    assert facts["environment_gomaxprocs"] == facts["affinity_cpus"]
    assert facts["environment_why"].startswith("containermaxprocs=0")


# As containerd and GNOME name them.
POD = f"kubepods-besteffort-pod{'0123abcd-' * 4}.slice"
CONTAINER = f"cri-containerd-{'0123456789abcdef' * 4}.scope"


@pytest.mark.root
def test_long_names_and_odd_quotas_fit_the_width(hook: Hook, groups: Groups, tmp_path: Path) -> None:
    """A third of a CPU in a pod, a program that does not fit it, and what each command shows of that."""
    groups.make(POD)
    groups.make(f"{POD}/{CONTAINER}")
    groups.limit(POD, 33.333)
    inside = f"{POD}/{CONTAINER}"
    env = {"PATH": os.environ["PATH"], "GOMAXPROCS": "64"}
    with started(waiting.program("1.27, pie"), env=env) as process:
        assert taken(process) == 64
        (groups.directory(inside) / "cgroup.procs").write_text(str(process.pid))
        texts = [hook(*words).stdout for words in (["cpu", "--pid", str(process.pid)], ["ps"], ["ps", "--wrong"],
                                                   ["cpu", "--unit", groups.path(inside)])]  # fmt: skip
    texts.append(groups.run(inside, hook.program, "cpu")[0])
    burn = ("trace", "--interval", "20", "--", "/usr/bin/python3", "-I", "-c", BURN)
    texts.append(groups.run(inside, hook.program, *burn, status=5)[0])
    assert "0.333 CPUs" in texts[0] and "of 0.333 " in texts[-1]
    assert "64" in texts[1]
    for text in texts:
        assert text.strip()
        assert max(map(len, text.splitlines())) <= 80, text


def test_cpu_in_a_user_namespace_shows_the_limits(hook: Hook) -> None:
    """Without other users there, the toolchain cannot be run as nobody."""
    inside: list[str | Path] = ["unshare", "-Ur", hook.program, "--goroot", real("1.27.3")]
    done = subprocess.run([*inside, "cpu"], capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespace can be made here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "CGROUP" in done.stdout
    facts = json.loads(subprocess.run([*inside, "--json", "cpu"], capture_output=True, text=True).stdout)
    assert facts["levels"]
    assert facts["toolchain"]["version"] == "go1.27.3"
    assert facts["toolchain"]["not_asked"] is None or "cannot be asked here" in done.stdout


def test_cpu_does_not_wait_for_a_pipe_in_place_of_the_configuration(hook: Hook, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config")
    held = os.open(tmp_path / "config", os.O_RDWR)
    try:
        done = hook("--config", tmp_path / "config", "--json", "cpu")
    finally:
        os.close(held)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be read: Not a regular file" in done.stderr


@pytest.mark.root
def test_cpu_answers_where_the_toolchain_is_on_a_dead_disk(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    with dead_mount(tmp_path / "dead") as asked:
        facts = json.loads(hook("--goroot", tmp_path / "dead/go", "--budget", "1", "--json", "cpu").stdout)
        assert asked.is_set()
    assert facts["levels"]
    assert facts["toolchain"]["why"] == "the toolchain's files, or the configuration, do not answer"


def test_cpu_asks_the_toolchain(hook: Hook) -> None:
    facts = json.loads(hook("--goroot", real("1.27.3"), "--json", "cpu").stdout)
    assert facts["toolchain_gomaxprocs"] == facts["expected_gomaxprocs"]
    assert (facts["toolchain"]["version"], facts["toolchain"]["source"]) == ("go1.27.3", "schedtrace")
    assert facts["pid"]


def test_bad_arguments_get_one_line_and_status_2(hook: Hook) -> None:
    for words in (["cpu", "--pid", "x"], ["cpu", "--pid", "99999999"], ["cpu", "--unit", "no-such.service"], ["exec"],
                  ["exec", "--floor", "0", "true"], ["exec", "--floor", "x", "--", "true"], ["exec", "--nope", "--"],
                  ["ps", "--nope"], ["cpu", "--unit", "/a/../../b"]):  # fmt: skip
        done = hook(*words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert len(done.stderr.splitlines()) == 1, words


def run_exec(groups: Groups, hook: Hook, name: str, *words: str, **options: Any) -> tuple[str, str]:
    """What `exec` run in a cgroup prints: CMD's output, and what was said on stderr."""
    process = groups.start(name, str(hook.program), "exec", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           **options)  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


@pytest.mark.root
def test_exec_sets_it_only_where_the_runtime_is_wrong(groups: Groups, hook: Hook, tmp_path: Path) -> None:
    """On any number of CPUs: with --floor 1 and one CPU of quota, a program of an eight-CPU runtime takes 8, 2 or 1."""
    groups.make("above")
    groups.make("above/leaf")
    new, old = str(eight_cpus.program("1.27.3")), str(waiting.program("1.24"))
    groups.limit("above", 100)
    assert run_exec(groups, hook, "above/leaf", "--floor", "1", "--", new)[1] == "1\n"
    assert (
        run_exec(groups, hook, "above/leaf", "--floor", "1", "--", old, stdin=subprocess.DEVNULL)[1] == "GOMAXPROCS 1\n"
    )
    show = ("--", "sh", "-c", "echo ${GOMAXPROCS-unset}")
    env = {"PATH": f"{real('1.27.3')}/bin:/usr/bin:/bin"}
    assert run_exec(groups, hook, "above/leaf", *show, env=env)[0] == (
        "unset\n" if len(os.sched_getaffinity(0)) <= 2 else "2\n"
    )
    assert run_exec(groups, hook, "above/leaf", "--floor", "1", *show, env=env)[0] == "1\n"
    env["GOMAXPROCS"] = "7"
    assert run_exec(groups, hook, "above/leaf", *show, env=env)[0] == "7\n"
    out, err = run_exec(groups, hook, "above/leaf", "--floor", "1", "--force", "--explain", *show, env=env)
    assert out == "1\n"
    assert err.startswith("go-health-hook: GOMAXPROCS=1: 7 was set")
    env["GOMAXPROCS"] = "nonsense"
    assert run_exec(groups, hook, "above/leaf", "--floor", "1", *show, env=env)[0] == "1\n"


class Deciding:
    """What exec decides for a command under one CPU of quota on its own cgroup, on a machine of eight."""

    def __init__(self, groups: Groups, folder: Path) -> None:
        groups.make("leaf")
        groups.limit("leaf", 100)
        self.groups = groups
        self.folder = folder
        for line in ("1.27", "1.24", ""):
            (folder / f"mod{line}").mkdir()
            (folder / f"mod{line}/go.mod").write_text(f"module m\ngo {line}\n" if line else "module m\n")
        (folder / "nomod").mkdir()

    def __call__(self, where: str, *words: str, go: str = "1.27.3", **env: str) -> tuple[int | None, str]:
        env = {"PATH": f"{real(go)}/bin:/usr/bin:/bin", "GOTOOLCHAIN": "local", "HOME": str(self.folder), **env}
        done = self.groups.start("leaf", sys.executable, "-c", DECIDE, str(TOP / "hook"), *words, env=env,
                                 cwd=self.folder / where, stdout=subprocess.PIPE)  # fmt: skip
        value, _, why = done.communicate()[0].partition(" ")
        assert done.returncode == 0
        return None if value == "None" else int(value), why.strip()


@pytest.fixture
def deciding(groups: Groups, tmp_path: Path) -> Deciding:
    return Deciding(groups, tmp_path)


@pytest.mark.root
def test_exec_leaves_it_where_the_runtime_is_right(deciding: Deciding) -> None:
    """Go 1.27 with a new go line reads the quota; an old one in go.mod keeps programs from it, Go 1.24 never does."""
    for where, value in (("mod1.27", None), ("mod1.24", 2), ("mod", 2), ("nomod", None)):
        for verb in ("run", "test"):
            assert deciding(where, "go", verb, ".")[0] == value, where
        for words in (["version"], ["build", "."]):
            assert deciding(where, "go", *words)[0] is None
        assert deciding(where, "go", "run", "example.com/x@v1")[0] == 2
        assert deciding(where, "go", "run", ".", "user@host")[0] == value
        for words in (["version"], ["build", "."], ["run", "."], ["test", "."]):
            assert deciding(where, "go", *words, go="1.24.11")[0] == 2
    assert deciding("nomod", "go", "run", ".")[1].endswith("takes 2 by itself, and follows changes")


@pytest.mark.root
@pytest.mark.parametrize(
    "wrapper",
    [["timeout", "10"], ["env", "A=1"], ["nice"], ["sh", "-c", 'exec "$0"'], ["setsid", "-w"], ["script.sh"], ["make"]],
)
def test_exec_sets_it_for_a_command_that_may_start_any_go(deciding: Deciding, wrapper: list[str]) -> None:
    """Go 1.24 would take eight of the two that fit, whatever go is on the search path."""
    script = deciding.folder / "mod1.27/script.sh"
    script.write_text('#!/bin/sh\nexec "$@"\n')
    script.chmod(0o755)
    command = [str(script) if word == "script.sh" else word for word in wrapper]
    value, why = deciding("mod1.27", *command, str(waiting.program("1.24")))
    assert (value, why.partition("; ")[2]) == (
        2,
        f"{Path(command[0]).name} is no Go program, and what it starts is not known",
    )
    assert deciding("mod1.27", *command, GOMAXPROCS="1")[0] is None


@pytest.mark.root
def test_exec_sets_it_for_a_program_of_unknown_version(deciding: Deciding) -> None:
    value, why = deciding("mod1.27", str(waiting.without_version()))
    assert (value, why.partition("; ")[2]) == (2, "the Go version of waiting is not known")


@pytest.mark.root
def test_exec_judges_the_module_that_go_will(deciding: Deciding) -> None:
    """Elsewhere by -C, by another file in place of go.mod, by what the user's env file says."""
    old = str(deciding.folder / "mod1.24")
    for words in (["run", "-C", old, "."], ["run", f"-C={old}", "."], ["-C", old, "run", "."], ["test", "--C", old]):
        value, why = deciding("mod1.27", "go", *words)
        assert (value, "with go line 1.24" in why) == (2, True), words
    for words, env in (
        (["run", "-modfile=../mod1.24/go.mod", "."], {}),
        (["run", "."], {"GOFLAGS": f"-modfile={old}/go.mod"}),
    ):
        assert deciding("mod1.27", "go", *words, **env)[0] == 2
    assert deciding("mod1.27", "go", "run", ".", "-modfile=../mod1.24/go.mod")[0] is None
    (deciding.folder / ".config/go").mkdir(parents=True)
    (deciding.folder / ".config/go/env").write_text(f"GOWORK={old}/go.work\n")
    (deciding.folder / "mod1.24/go.work").write_text("go 1.24\nuse .\n")
    assert deciding("mod1.27", "go", "run", ".")[0] == 2
    assert deciding("mod1.27", "go", "run", ".", GOENV="off")[0] is None


@pytest.mark.root
def test_exec_judges_the_toolchain_that_will_run(deciding: Deciding) -> None:
    """The pinned one, whatever is on the search path; and one that a go line asks for, where that is allowed."""
    assert deciding("mod1.27", "go", "version", GOTOOLCHAIN="go1.24.11")[0] == 2
    value, why = deciding("nomod", "go", "run", ".", GOTOOLCHAIN="go1.24.11+auto")
    assert (value, "go1.24.11 run would take 8 (Go 1.24 reads no CPU quota" in why) == (2, True)
    assert deciding("mod1.27", "go", "version", go="1.24.11", GOTOOLCHAIN="go1.27.3")[0] is None
    assert deciding("mod1.27", "go", "version", go="1.24.11", GOTOOLCHAIN="auto")[0] == 2
    (deciding.folder / "env").write_text("GOTOOLCHAIN=go1.24.11\n")
    assert deciding("mod1.27", "go", "version", GOTOOLCHAIN="", GOENV=str(deciding.folder / "env"))[0] == 2


@pytest.mark.root
def test_exec_heeds_the_go_command_s_own_godebug(deciding: Deciding) -> None:
    assert deciding("mod1.27", "go", "build", ".", GODEBUG="containermaxprocs=0")[0] == 2
    assert deciding("mod1.24", "go", "run", ".", GODEBUG="containermaxprocs=1")[0] is None
    assert "follows" not in deciding("mod1.27", "go", "run", ".", GODEBUG="updatemaxprocs=0")[1]


def test_exec_leaves_nothing_of_itself(hook: Hook) -> None:
    """Status, signals, environment, descriptors and arguments are CMD's own."""
    assert hook("exec", "--", "sh", "-c", "exit 41").returncode == 41
    assert hook("exec", "--", "sh", "-c", "kill -TERM $$").returncode == -15
    assert hook("exec", "--", "no-such-command").returncode == 127
    assert hook("exec", "--", "/etc/passwd").returncode == 126
    assert hook("exec", "printf", "%s|", "--explain", "--", "a b", "").stdout == "--explain|--|a b||"
    done = subprocess.run(
        [hook.program, "exec", "--", "/usr/bin/env", "-0"], env={"A": "\udcff=b"}, capture_output=True
    )
    assert done.stdout == b"A=\xff=b\0"
    with_us = hook("exec", "--", "sh", "-c", "grep SigIgn /proc/$$/status; ls /proc/$$/fd").stdout
    without = subprocess.run(
        ["sh", "-c", "grep SigIgn /proc/$$/status; ls /proc/$$/fd"], capture_output=True, text=True
    )
    assert with_us == without.stdout


# The second form of each is read by the parser, not by what answers before it is loaded.
@pytest.mark.parametrize("before", [["exec"], ["exec", "--floor=2"], ["trace"], ["trace", "--seconds", "9"]])
@pytest.mark.parametrize("between", [[], ["--"]])
def test_a_command_keeps_its_own_dashes(hook: Hook, before: list[str], between: list[str]) -> None:
    done = hook(*before, *between, "sh", "-c", 'printf "%s|" "$@"', "x", "--json", "--", "echo", "--", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--json|--|echo|--|-v|")


def test_go_build_wrapper_is_exec_go(hook: Hook) -> None:
    wrapper = hook.program.with_name("go-build-wrapper")
    env = {"PATH": f"{real('1.27.3')}/bin:/usr/bin:/bin"}
    done = subprocess.run([wrapper, "--explain", "version"], env=env, capture_output=True, text=True)
    assert done.stdout.startswith("go version go1.27.3 ")
    assert done.stderr.startswith("go-health-hook: GOMAXPROCS")
    assert subprocess.run([wrapper, "no-such-verb"], env=env, capture_output=True).returncode == 2


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    below = children(pid)
    return below + [other for child in below for other in descendants(child)]


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


BURN = """
import os, sys, threading
print("out")
print("SCHED is what it says itself", file=sys.stderr)
while sum(os.times()[:2]) < 0.5:
    pass
sys.exit(5)
"""


@pytest.mark.root
def test_trace_sees_the_limit_bite(groups: Groups, hook: Hook, tmp_path: Path) -> None:
    groups.make("slow")
    groups.make("slow/leaf")
    groups.limit("slow", 25)
    svg = tmp_path / "chart.svg"
    words = ["trace", "--json", "--interval", "20", "--svg", str(svg), "--", "/usr/bin/python3", "-I", "-c", BURN]
    process = groups.start(
        "slow/leaf", str(hook.program), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == 5
    assert err == "out\nSCHED is what it says itself\n" or set(err.splitlines()) == {
        "out",
        "SCHED is what it says itself",
    }
    facts = json.loads(out)
    assert facts["limiting_level"] == groups.path("slow")
    assert facts["throttling"]["throttled"] > 3
    assert facts["throttling"]["throttled_us"] > 100_000
    assert 0.4 < facts["cpu_seconds"] < 2
    assert facts["cpus_mean"] < 1
    assert facts["cpus_seen"]
    assert facts["programs"] == []
    assert svg.read_text().startswith("<svg")


def test_trace_follows_a_go_program(hook: Hook) -> None:
    env = {"PATH": os.environ["PATH"], "GOMAXPROCS": "7"}
    with started(hook.program, "trace", "--json", "--interval", "5", "--", str(waiting.program("1.27")), env=env) as it:
        assert it.stdin
        assert it.stdout
        assert taken(it) == 7
        it.stdin.write("\n")
        it.stdin.flush()
        assert taken(it) == 7  # a second answer, so that it has run for a while
        it.stdin.close()
        facts = json.load(it.stdout)
        assert it.stderr
        assert it.stderr.read() == ""
        it.stdin = None
    program = next(p for p in facts["programs"] if p["name"] == "waiting")
    assert [c["value"] for c in program["gomaxprocs"]] == [7]
    assert program["samples"] >= 1
    assert facts["exit_status"] == 0


def test_trace_starts_what_exec_starts(hook: Hook, tmp_path: Path) -> None:
    """A script without its first line runs, what is not there is 127, and a chart of before stays where nothing ran."""
    script, svg = tmp_path / "script", tmp_path / "chart.svg"
    script.write_text("echo ran $1; exit 3\n")
    script.chmod(0o755)
    svg.write_text("before")
    assert hook("trace", "--svg", svg, "--", "no-such-command").returncode == 127
    assert svg.read_text() == "before"
    for command in ("trace", "exec"):
        assert hook(command, "--", tmp_path / "missing").returncode == 127
        assert hook(command, "--", "/etc/passwd").returncode == 126
        done = hook(command, "--", script, "it")
        assert (done.returncode, done.stdout.splitlines()[0]) == (3, "ran it"), command
    assert hook("trace", "--svg", svg, "--", "true").returncode == 0
    assert svg.read_text().startswith("<svg")


@pytest.mark.parametrize("flags", ["", "'-toolexec=/usr/bin/env GODEBUG=http2client=0'"])
@pytest.mark.parametrize("verb", ["build", "vet", "test -v"])
def test_trace_leaves_nothing_in_the_build_cache(hook: Hook, tmp_path: Path, verb: str, flags: str) -> None:
    """The go command keeps what its tools and tests say, and shows it again whenever it uses their results."""
    env = {"PATH": f"{real('1.27.3')}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "GOCACHE": str(CACHE / "go-build"),
           "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}  # fmt: skip
    config = tmp_path / ".config/go/env"
    config.parent.mkdir(parents=True)
    config.write_text(f"GOFLAGS={flags}\n")
    test = "func TestX(t *testing.T) { time.Sleep(50 * time.Millisecond) }\n"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "go.mod").write_text("module x\n\ngo 1.27\n")
        (tmp_path / name / "x.go").write_text(f"package main\n\n// {tmp_path / name}\nfunc main() {{}}\n")
        (tmp_path / name / "x_test.go").write_text(f'package main\n\nimport ("testing"; "time")\n\n{test}')

    def go(name: str, *before: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*before, "go", *verb.split(), "."]
        return subprocess.run(command, cwd=tmp_path / name, env=env, capture_output=True, text=True)

    assert go("first").returncode == 0  # so that what is traced is the module alone, and not the standard library
    for _ in range(2):
        done = go("second", hook.program, "trace", "--json", "--interval", "5", "--")
        assert done.returncode == 0, done.stderr
        assert "SCHED" not in done.stderr or verb == "test -v"  # that has the test's trace on its own stdout
        assert "(cached)" not in done.stderr
        assert json.loads(done.stdout)["programs"]
    for _ in range(2):
        again = go("second")
        assert (again.returncode, again.stderr) == (0, "")
        assert "SCHED" not in again.stdout


def test_trace_ends_what_takes_too_long(hook: Hook) -> None:
    done = hook("trace", "--seconds", "0.3", "--", "sleep", "1000")
    assert done.returncode == 128 + 15
    assert "signal 15" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert hook("trace", "--", "no-such-command").returncode == 127


def test_trace_ends_what_its_command_started_too(hook: Hook) -> None:
    """The end of their stdout shows that they are gone: each of them holds it."""
    script = "sleep 1000 & (sleep 1000; true) & wait; true"
    done = hook("trace", "--seconds", "0.3", "--", "sh", "-c", script)
    assert done.returncode == 128 + 15


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_bench_signal_leaves_nothing(hook: Hook, number: signal.Signals) -> None:
    """Ended in the middle of a measurement: its status, one line, and no folder, cgroup or process of it."""
    program: list[str | Path] = [
        *("env", f"--default-signal={number.name[3:]}"),  # nohup(1) has one of them ignored
        *(hook.program, "--goroot", real("1.27.3")),
        *("bench", "--json", "--quick", "--quota", "50"),
    ]
    # Another's are no sign of this one.
    others = set(Path("/var/tmp").glob("go-health-hook-bench-*"))
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folders: list[Path] = []
    while not folders:
        assert process.poll() is None
        found = [path.parents[1] for path in Path("/var/tmp").glob("go-health-hook-bench-*/warm/??")]
        folders = [folder for folder in found if folder not in others]
    below = descendants(process.pid)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (128 + number, "")
    assert err == f"go-health-hook: ended by {number.name}\n"
    assert below
    assert not [pid for pid in below if Path(f"/proc/{pid}/exe").is_symlink() and running(pid)]
    assert not folders[0].exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/go-health-hook-bench-{process.pid}"))


def test_bench_removes_what_a_killed_one_left(hook: Hook) -> None:
    folder = Path(tempfile.mkdtemp(prefix="go-health-hook-bench-", dir="/var/tmp"))
    (folder / "warm").mkdir()
    _measuring._sweep()
    assert not folder.exists()


def test_bench_knows_the_limit_that_is_there_already() -> None:
    """On eight CPUs, under the caller's own quota of two and a half or none."""

    def fitting(allowed: float) -> dict[int | None, int | None]:
        cells = bench._cells([None, 400, 100], 8, allowed, True)
        return {cell.quota: cell.gomaxprocs for cell in cells if cell.label == "expected"}

    assert fitting(8.0) == {400: 4, 100: 2}
    assert fitting(2.5) == {None: 3, 400: 3, 100: 2}
    assert bench._quotas(None, 8, 8.0) == [None, 200, 100]
    assert bench._quotas(None, 8, 1.5) == [None, 100, 50]


@pytest.mark.root
def test_bench_measures_with_and_without_a_quota(hook: Hook, groups: Groups) -> None:
    """The program's own numbers, a quota that held it back, and GOMAXPROCS as asked for, in every row."""
    groups.close()  # only to know that groups can be made here
    groups.made.clear()
    done = hook("--goroot", real("1.27.3"), "bench", "--json", "--quick", "--quota", "50")
    assert done.returncode == 0, done.stderr + done.stdout
    facts = json.loads(done.stdout)
    rows = {(r["quota_percent"], r["how"], r["label"]): r for r in facts["rows"]}
    cpus = facts["affinity_cpus"]
    over = "CPUs" if cpus > 2 else "4 x fits"
    assert set(rows) == {(None, "built", "default"), (None, "go run", "default"), (50, "built", "default"),
                         (50, "built", "expected"), (50, "built", over), (50, "go run", "default")}  # fmt: skip
    assert all(r["p99_us"] >= r["p50_us"] > 0 and r["wall_s"] > 0 and r["cpu_s"] > 0 for r in rows.values())
    assert rows[50, "built", "expected"]["gomaxprocs"] == min(2, cpus)
    assert rows[50, "built", over]["gomaxprocs"] > 2
    assert all(r["throttled"] > 0 for key, r in rows.items() if key[0] == 50)
    assert facts["findings"]
