# SPDX-License-Identifier: GPL-2.0-or-later
"""What strangers write, read by our parsers: they return, or raise what they say, and nothing else.

FUZZ_EXAMPLES is the number of examples for each (make fuzz gives 10 minutes' worth). What it finds is printed as a
call that repeats it; such a call then becomes a test of its own in tests/unit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from go_health_hook import config, override
from go_health_hook.announce import motd, record
from go_health_hook.config import severities
from go_health_hook.errors import BadInput
from go_health_hook.gates import _refused, dnf5
from go_health_hook.go import buildinfo, elf, goenv, incoming, probe, sources, unpack, versions
from go_health_hook.linux import deployments, mountinfo, rpmdb_apart
from go_health_hook.linux.cgroup_files import (
    parse_cpu_max,
    parse_cpus,
    parse_entries,
    parse_entry,
    parse_period_v1,
    parse_quota_v1,
)
from go_health_hook.linux.kernel_files import Malformed
from go_health_hook.run import series
from go_health_hook.text import clean, first_line
from go_health_hook.verdict import Finding

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
settings.register_profile(
    "fuzz", max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("fuzz")

UNIT = Path(__file__).parents[1] / "unit"
TREE = Path(__file__).parents[2]
WORDS = st.sampled_from(
    [
        *(
            "cgroup",
            "cgroup2",
            "rw",
            "-",
            "/",
            "/sys/fs/cgroup",
            "0:26",
            "0::/",
            "max",
            "100000",
            "\\040",
            "\\000",
            "\\",
        ),
        *("go1.27.3", "devel", "GOTOOLCHAIN", "local", "[checks]", "goroot", "=", "5000", "-1", "9" * 20, "\0"),
        *("\x1b[31m", "\udcff", "\ufdfd", "SCHED", "ms:", "gomaxprocs=", "exit-code", "reply", "op", "OK"),
    ]
)
TEXT = st.lists(WORDS | st.text(max_size=8), max_size=30).map(" ".join) | st.text(max_size=300)
LINES = st.lists(TEXT, max_size=12).map("\n".join)
BYTES = st.binary(max_size=600) | LINES.map(lambda text: text.encode("utf-8", "surrogateescape"))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=25,
)


def damaged(data: bytes, seed: int) -> bytes:
    """A file with a few bytes changed, a piece cut out or doubled, or its end missing."""
    chance = random.Random(seed)
    out = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(max(1, len(out)))
        kind = chance.randrange(5)
        if kind == 0:
            out[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            out[at : at + 8] = chance.choice([bytes(8), b"\xff" * 8, (1 << 62).to_bytes(8, "little")])
        elif kind == 2:
            del out[at : at + chance.randrange(1, 64)]
        elif kind == 3:
            out[at:at] = out[at : at + chance.randrange(1, 64)]
        else:
            del out[at:]
    return bytes(out)


def mutations(value: Any, seed: int) -> Any:
    """JSON of ours with one value exchanged for another kind, or one key gone."""
    chance = random.Random(seed)
    value = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []:
            places.append((node, key))
            walk(node[key])

    walk(value)
    for node, key in chance.sample(places, min(len(places), chance.randint(1, 3))):
        with contextlib.suppress(KeyError, IndexError, TypeError):
            if chance.random() < 0.2:
                del node[key]
            else:
                node[key] = chance.choice([None, -1, 1e300, "", "\x1b[2J", [], {}, [[]], {"a": 1}, True, "x" * 5000])
    return value


@given(BYTES)
def test_kernel_files(data: bytes) -> None:
    mountinfo.parse_mounts(data)
    parse_entries(data)
    for parse in (parse_cpu_max, parse_quota_v1, parse_period_v1, parse_entry):
        with contextlib.suppress(Malformed):
            parse(data)
    with contextlib.suppress(Malformed):
        parse_cpus(data.decode("latin-1"))


CASES = sorted((UNIT / "cgroups").glob("*.txt"))


@given(st.sampled_from(CASES), st.integers(0, 1 << 32))
def test_damaged_kernel_files(path: Path, seed: int) -> None:
    data = damaged(path.read_bytes(), seed)
    mounts, _ = mountinfo.parse_mounts(data)
    assert all("\0" not in mount.point for mount in mounts)
    parse_entries(data)


@given(st.integers(0, 1 << 32), st.sampled_from(["/bin/true", "/bin/sh", "/usr/bin/env"]))
def test_damaged_programs(seed: int, program: str) -> None:
    data = damaged(Path(program).read_bytes()[: 1 << 17], seed)
    said = elf.problem("x", lambda size, offset: data[offset : offset + size], len(data))
    assert said == clean(said, 1000)
    read_build_information(data)


GO = TREE / "tests/unit/data"


@given(st.integers(0, 1 << 32), BYTES)
def test_damaged_go_programs(seed: int, data: bytes) -> None:
    known = [path for path in GO.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    if known:
        read_build_information(damaged(random.Random(seed).choice(known).read_bytes(), seed))
    magic = b"\x7fELF\x02\x01\x01" + bytes(9) + data + b"\xff Go buildinf:" + data
    read_build_information(magic)


def read_build_information(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(buildinfo.NotGo, OSError):
            info = buildinfo.read_fd(file.fileno())
            assert info.version.isprintable()


@given(LINES)
def test_answers_of_go(text: str) -> None:
    for parse in (versions.parse_version, versions.parse_version_output):
        with contextlib.suppress(ValueError):
            assert "\n" not in str(parse(text))
    found = goenv.parse(text)
    goenv.unusual(found)
    goenv.elsewhere(found, None)
    sources.parse_listing(text)


@given(BYTES)
def test_output_of_programs(data: bytes) -> None:
    value = probe._said(data)
    assert value is None or 0 < value < 1 << 32
    mark = "0123456789abcdef"
    series._parted(data.replace(b" ", f"\n{mark} ".encode()), mark)
    assert first_line(data).isprintable()


@given(LINES | st.integers(0, 1 << 32))
def test_configuration(given_text: str | int) -> None:
    vendor = (TREE / "conf" / config.VENDOR.lstrip("/")).read_bytes()
    data = damaged(vendor, given_text) if isinstance(given_text, int) else given_text.encode("utf-8", "surrogateescape")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.conf"
        path.write_bytes(data)
        with contextlib.suppress(BadInput):
            config.load(severities(), str(path), folder)


STATE = {
    **record.empty(),
    "gates": {
        "dnf5": {
            **dict.fromkeys(("gate", "event", "verdict", "reason", "remedy", "subject", "go_version", "root"), "x"),
            **dict.fromkeys(("time", "elapsed_s", "budget_s"), 1.0),
            "exit_status": 1,
            "expected_gomaxprocs": 2,
            "actual_gomaxprocs": None,
            "checks": ["goroot"],
            "results": [{"check": "goroot", "status": "fail", "severity": "required", "elapsed_s": 0.1}],
        }
    },
    "blocks": {
        "dnf5": {
            "gate": "dnf5",
            "reason": "x",
            "remedy": "",
            "subject": "running",
            "since": 1.0,
            "count": 1,
            "last": 2.0,
        }
    },
    "unjudged": {"boot": {"gate": "boot", "reason": "x", "go_version": "", "since": 1.0, "count": 2}},
}


@given(JSON | st.integers(0, 1 << 32))
def test_state(content: Any) -> None:
    if isinstance(content, int) and not isinstance(content, bool):
        content = mutations(STATE, content)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / record.NAME).write_text(json.dumps(content))
        try:
            state = record.read(folder)
        except record.StateError:
            return
        message = motd.text(state, 2e9)
        assert all(line.isprintable() for line in message.splitlines())


OVERRIDE = {"schema": 1, "reason": "x", "by": "root", "set": 1.0, "seconds": 60.0, "boot": "x", "clock": 1.0}


@given(JSON | st.integers(0, 1 << 32))
def test_override_and_refusals(content: Any) -> None:
    if isinstance(content, int) and not isinstance(content, bool):
        content = mutations(OVERRIDE, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.json"
        path.write_text(json.dumps(content))
        with contextlib.suppress(BadInput):
            override.in_force(str(path))
        kept, _refused.KEPT = _refused.KEPT, str(path)
        try:
            _refused.find("x")
            _refused.held()
        finally:
            _refused.KEPT = kept
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        Finding.from_dict(content).to_dict()


@given(JSON | BYTES)
def test_replies_of_dnf5(reply: Any) -> None:
    data = reply if isinstance(reply, bytes) else json.dumps({"op": "reply", "status": "OK", "return": reply}).encode()
    ours, theirs = os.pipe()
    heard = Path(os.devnull).open("wb")  # noqa: SIM115
    talk = dnf5.Conversation.__new__(dnf5.Conversation)
    talk._in, talk._out, talk._rest, talk._settings = ours, heard.fileno(), b"", {}
    try:
        os.write(theirs, data[:60000] + b"\n")
        os.close(theirs)
        with contextlib.suppress(BadInput, dnf5.Gone):
            assert isinstance(talk.ask({"op": "get"}), dict)
    finally:
        heard.close()
        os.close(ours)


@given(JSON | LINES)
def test_image_systems(content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    for parse in (deployments.parse_ostree, deployments.parse_rpm_ostree_text, deployments.parse_bootc_text):
        with contextlib.suppress(deployments.Unreadable):
            parse(text)


HEADER = {
    **dict.fromkeys(("name", "nevra", "version", "release", "arch", "sourcerpm"), "golang-1-1"),
    "epoch": None,
    "filedigestalgo": 8,
    "filenames": ["/usr/lib/golang/bin/go"],
    "filedigests": ["00"],
    **{key: [0] for key in ("filesizes", "filemodes", "filemtimes", "fileflags", "filestates")},
}


@given(JSON | st.integers(0, 1 << 32))
def test_answers_about_another_roots_packages(content: Any) -> None:
    if isinstance(content, int) and not isinstance(content, bool):
        content = mutations({"reason": "", "headers": [HEADER], "go": 0}, content)
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        given_owners = rpmdb_apart._parse(json.dumps(content).encode())
        assert all(isinstance(owner.nevra, str) for owner in given_owners.packages)


PACKAGES = sorted((Path(os.environ.get("GO_HEALTH_HOOK_CACHE", "/nonexistent")) / "testbed").glob("acme-go-1*/*.rpm"))


@pytest.mark.skipif(not PACKAGES, reason="no package is in the cache: make testbed builds some")
@settings(max_examples=max(20, EXAMPLES // 50))
@given(st.integers(0, 1 << 32))
def test_damaged_packages(seed: int) -> None:
    with open(PACKAGES[seed % len(PACKAGES)], "rb") as file:
        head = file.read(1 << 20)
        rest = file.read()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "x.rpm"
        path.write_bytes(damaged(head, seed) + (rest if seed % 2 else b""))
        places, incoming.PLACES = incoming.PLACES, (f"{folder}/place",) * 3
        token = unpack.new_token()
        try:
            # In a child, as the hook does it: librpm itself may crash, which must not end the updater.
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    with contextlib.suppress(unpack.CannotLook):
                        incoming.lay_out([str(path)], [], "", True, token)
                    status = 0
                finally:
                    os._exit(status)
            ended = os.waitpid(pid, 0)[1]
            assert os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == 0
            # Nothing is written but below the private directory.
            assert {p.name for p in Path(folder).iterdir()} <= {"x.rpm", "place"}
        finally:
            incoming.PLACES = places
