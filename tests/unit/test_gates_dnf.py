# SPDX-License-Identifier: GPL-2.0-or-later
"""The dnf gates' own judgement: what runs unattended, what is an update, and the conversation with dnf5."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from go_health_hook.gates import _dnf_transaction, dnf5
from go_health_hook.gates._dnf_transaction import Item, Transaction, asks_for_all, is_automatic
from go_health_hook.linux import rpmfile

HOOK = Path(_dnf_transaction.__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "automatic"),
    [
        (["dnf5", "-", "automatic"], True),
        (["/usr/bin/dnf5", "-", "automatic"], True),
        (["/usr/bin/python3", "-", "/usr/bin/dnf-automatic-install"], True),
        (["dnf", "-", "upgrade"], False),
        (["/usr/bin/python3", "-", "/usr/bin/dnf", "upgrade", "automatic"], False),
        (["vi", "-", "automatic"], False),
    ],
)
def test_an_updater_with_a_terminal_is_automatic_by_its_name_alone(words: list[str], automatic: bool) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/cat", words)
    try:
        os.write(terminal, b"there\n")
        seen = b""
        while seen.count(b"there") < 2:  # once from the terminal, once from the program
            seen += os.read(terminal, 100)
        assert is_automatic(pid) is automatic
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.parametrize(
    ("words", "all_updates"),
    [
        (["dnf5", "-y", "upgrade", "--exclude=golang*"], True),
        (["/usr/bin/python3", "/usr/bin/dnf", "update"], True),
        (["dnf", "system-upgrade", "download", "--releasever=44"], True),
        (["/usr/bin/dnf5", "automatic", "--timer"], True),
        (["dnf5daemon-server"], True),
        (["dnf", "install", "vim"], False),
        (["dnf", "upgrade", "vim"], False),
        (["dnf5", "remove", "vim"], False),
    ],
)
def test_updater_with_nothing_to_do_ends_a_block_if_it_asks_for_all(
    monkeypatch: pytest.MonkeyPatch, words: list[str], all_updates: bool
) -> None:
    monkeypatch.setattr(_dnf_transaction, "_words", lambda pid: words)
    assert asks_for_all(1) is all_updates


def test_an_updater_that_is_gone_is_a_persons() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    assert not is_automatic(gone.pid)


def item(name: str, action: str) -> Item:
    return Item(name, "1-1", action, action in "IUDR", f"{name}-0:1-1.noarch", list)


@pytest.mark.parametrize(
    ("actions", "automatic", "update"),
    [
        ({"hello": "U"}, False, True),
        ({"hello": "D"}, False, False),
        ({"hello": "D"}, True, True),
        ({"bonjour": "I", "hello": "O"}, False, False),
        ({"bonjour": "I", "hello": "O"}, True, True),
        ({"hello": "E"}, True, False),
        ({"hello": "R"}, True, False),
    ],
)
def test_what_is_an_update(actions: dict[str, str], automatic: bool, update: bool) -> None:
    items = [item(name, action) for name, action in actions.items()]
    assert Transaction("dnf5", items, automatic, lambda installed: set()).is_update(False) is update


@pytest.mark.parametrize(
    ("actions", "automatic", "asked"),
    [
        # A kernel of its own is an update where an older one is installed; nobody asks where that does not matter.
        ({"kernel": "I"}, True, ["kernel"]),
        ({"kernel": "I"}, False, []),
        ({"kernel": "I", "hello": "U"}, True, []),
        ({"bonjour": "I", "hello": "O"}, True, []),
    ],
)
def test_transaction_new_names_matter_only_unattended(actions: dict[str, str], automatic: bool, asked: list) -> None:
    items = [item(name, action) for name, action in actions.items()]
    transaction = Transaction("dnf5", items, automatic, lambda installed: set())
    assert transaction.new_names == asked
    assert transaction.is_update(True) is (automatic or "U" in actions.values())


def test_what_replaces_its_own_older_self_replaces_nothing_else() -> None:
    items = [item("hello", "R"), item("hello", "O")]
    assert not Transaction("dnf5", items, True, lambda installed: set()).replaces


@pytest.mark.parametrize(
    ("actions", "removes"),
    [({"go-health-hook": "E"}, True), ({"go-health-hook": "U"}, False), ({"hello": "E"}, False)],
)
def test_transaction_that_removes_the_hook_is_known(actions: dict[str, str], removes: bool) -> None:
    items = [item(name, action) for name, action in actions.items()]
    assert Transaction("dnf5", items, False, lambda installed: set()).removes_us is removes


CHILD = """
import json, sys
from go_health_hook.errors import BadInput
from go_health_hook.gates import dnf5
from go_health_hook.run.worker import Gone
talk = dnf5.Conversation.on_standard_streams()
print("this is for people")
try:
    answer = eval(sys.argv[1])
except BadInput as error:
    answer = error.line()
except Gone:
    answer = "dnf5 has left"
json.dump(answer, sys.stderr)
"""


def conversation(expression: str, replies: list[bytes]) -> tuple[list[dict[str, Any]], str, Any]:
    """What the gate asked dnf5, what it said to people, and what came of it; replies are written as they stand."""
    command = [sys.executable, "-c", CHILD, expression]
    env = {**os.environ, "PYTHONPATH": str(HOOK)}
    requests = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as gate:
        assert gate.stdin and gate.stdout and gate.stderr
        for reply in replies:
            requests.append(json.loads(gate.stdout.readline()))
            gate.stdin.write(reply)
            gate.stdin.flush()
        gate.stdin.close()
        requests += [json.loads(line) for line in gate.stdout]
        people, _, answer = gate.stderr.read().decode().rpartition("\n")
    return requests, people, json.loads(answer)


def reply(**returned: Any) -> bytes:
    return json.dumps({"op": "reply", "status": "OK", "return": returned}).encode() + b"\n"


def test_what_is_printed_is_no_request() -> None:
    requests, people, answer = conversation(
        'talk.packages(["name"])', [reply(trans_packages=[{"name": "hello"}, {"name": "été"}])]
    )
    assert answer == [{"name": "hello"}, {"name": "été"}]
    assert people == "this is for people"
    assert [r["op"] for r in requests] == ["get"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"nonsense\n", "not JSON"),
        (b'{"op": "stop"}\n', "dnf5 replied with"),
        (b'{"op": "reply", "status": "ERROR", "message": "no\\u001b[31m"}\n', "dnf5 refused get: no\\x1b[31m"),
        (b'{"op": "rep', "dnf5 has left"),
        (b"", "dnf5 has left"),
        (reply(trans_packages=[{"nom": "hello"}]), "does not say what is in the transaction"),
        (b"[" * 100_000 + b"\n", "not JSON"),
    ],
)
def test_a_reply_that_makes_no_sense_is_said_in_one_line(said: bytes, why: str) -> None:
    assert why in conversation('talk.packages(["name"])', [said])[2]


def test_a_stop_waits_for_no_reply() -> None:
    requests, _, _ = conversation('talk.stop("no")', [])
    assert requests == [{"op": "stop", "args": {"message": "no"}}]


def test_places_of_repository_package_are_dnf5_folders() -> None:
    package = {"location": "Packages/h/hello-1-1.rpm", "repo_id": "updates"}
    values = ["/cache", "/system", "http://mirror/x,file:///srv/updates", "/here"]
    replies = [reply(keys_val=[{"value": value}]) for value in values]
    requests, _, places = conversation(f"list(dnf5.places_of(talk, {package}, 7))", replies)
    assert [r["args"]["key"] for r in requests] == ["cachedir", "system_cachedir", "updates.baseurl", "destdir"]
    assert places == [
        [["/cache", "updates-", "packages/hello-1-1.rpm"], ["/system", "updates-", "packages/hello-1-1.rpm"]],
        [["/srv/updates", "", "Packages/h/hello-1-1.rpm"]],
        [["/here", "", "hello-1-1.rpm"]],
    ]


def test_places_of_absolute_path_is_that_path_first() -> None:
    package = {"location": "/root/hello-1-1.rpm", "repo_id": "@commandline"}
    requests, _, places = conversation(f"next(dnf5.places_of(talk, {package}, 7))", [])
    assert (requests, places) == ([], [["", "", "root/hello-1-1.rpm"]])


@pytest.mark.parametrize("repository", ["@commandline", "@stored_transaction(@commandline)"])
def test_places_of_relative_path_is_below_dnf5_working_directory(repository: str) -> None:
    package = {"location": "../pk/hello.rpm", "repo_id": repository}
    requests, _, places = conversation(f"list(dnf5.places_of(talk, {package}, 7))", [])
    assert (requests, places) == ([], [[["/proc/7/cwd", "", "../pk/hello.rpm"], [".", "", "../pk/hello.rpm"]]])


def test_conversation_file_name_that_is_not_utf8_is_kept() -> None:
    raw = reply(trans_packages=[{"location": "X.rpm"}]).replace(b"X.rpm", b"\xff.rpm")
    assert conversation('ascii(talk.packages(["location"])[0]["location"])', [raw])[2] == "'\\udcff.rpm'"


@pytest.mark.parametrize(
    ("baseurl", "folders"),
    [
        ("file:///srv/x", ["/srv/x"]),
        ("file:///srv/a%20b", ["/srv/a b", "/srv/a%20b"]),
        ("file://localhost/srv/x", ["/srv/x"]),
        ("file:/srv/x https://mirror/y", ["/srv/x"]),
        ("", []),
    ],
)
def test_local_places_are_the_folders_of_file_urls(baseurl: str, folders: list[str]) -> None:
    assert dnf5.local_places(baseurl, "p/x.rpm") == [(folder, "", "p/x.rpm") for folder in folders]


def test_locate_fifo_is_no_package_and_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "golang.rpm")
    assert rpmfile.names_itself(str(tmp_path / "golang.rpm")) == ""
    with pytest.raises(OSError, match="not a regular file"):
        rpmfile.open_regular(str(tmp_path / "golang.rpm"))


def test_the_folders_of_a_repository_are_those_of_its_name(tmp_path: Path) -> None:
    for name in ("updates-1a2b", "updates-testing", "other-1a2b"):
        (tmp_path / name).mkdir()
    assert rpmfile._candidates(str(tmp_path), "updates-", "packages/x.rpm") == [
        f"{tmp_path}/updates-1a2b/packages/x.rpm",
        f"{tmp_path}/updates-testing/packages/x.rpm",
    ]
    assert rpmfile._candidates(str(tmp_path / "nowhere"), "updates-", "x") == []
    (tmp_path / "x.rpm").write_text("no package")
    assert rpmfile.locate({"x-0:1-1.noarch": [(str(tmp_path), "", "x.rpm")]}) == {}
