# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages named on the command line: judged wherever they are and however their path is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dnf.machines import SUITES, assert_done, assert_nothing_left, assert_vetoed, go, hello, machine, recorded
from tests.testbed import extras

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
PROGRAM = {"forky": "dnf5 -y", "bookworm": "dnf -y"}
FOLDER = "/root/my pk%20/\u00e9"
# In the gate's place.
SWAP = """#!/bin/sh
if test "$2" = before; then
    for f in /root/fifo/golang-*.rpm; do
        rm $f
        mkfifo $f
        setsid sh -c 'tail --pid=$1 -f /dev/null; while :; do : >$0; done' $f $$ <>/dev/null >&0 2>&0 &
    done
fi
exec /usr/libexec/go-health-hook/gate-itself "$@"
"""
SOUND = "go version go1.25.5 linux/amd64\n"


def put(m: Machine, suite: str, label: str, folder: str) -> None:
    """Replace the packages of Go in a folder of the machine by those of a release."""
    m.run(["mkdir", "-p", folder])
    for old in m.path(folder).glob("golang*.rpm"):
        old.unlink()
    for path in go(suite, label):
        if not path.name.startswith("go-toolset"):
            (m.path(folder) / path.name).write_bytes(path.read_bytes())


@pytest.fixture(scope="module", params=SUITES)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, str]]:
    """A machine with a folder of bad packages; a veto leaves it as it was."""
    suite: str = request.param
    with machine(suite) as m:
        put(m, suite, "truncated", FOLDER)
        m.run(f"ln -s '{FOLDER}' /srv/link && cp '{FOLDER}'/golang-bin* '{FOLDER}/with space%41.rpm'")
        m.run(f"mkdir /root/one && cp '{FOLDER}'/golang-[0-9]* '{FOLDER}'/golang-src* /root/one")
        yield m, suite


SPELLINGS = {
    "dot": (FOLDER, "./golang-*.rpm"),
    "bare": (FOLDER, "golang-*.rpm"),
    "below": ("/root", "my\\ pk%20/\u00e9/golang-*.rpm"),
    "above": (f"{FOLDER}/..", "../my\\ pk%20/\u00e9/golang-*.rpm"),
    "through a link": ("/srv/link", "../\u00e9/golang-*.rpm"),
    "odd name": (FOLDER, "'with space%41.rpm' /root/one/golang-*.rpm"),
    "absolute": ("/", "/root/my\\ pk%20/\u00e9/golang-*.rpm"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_local_packages_bad_go_is_vetoed(place: tuple[Machine, str], spelling: str) -> None:
    m, suite = place
    folder, words = SPELLINGS[spelling]
    assert_vetoed(m.run(f"cd '{folder}' && {PROGRAM[suite]} upgrade {words}", check=False), "is cut short")
    assert m.run("go version").stdout == SOUND


def test_local_packages_given_as_urls_are_vetoed(place: tuple[Machine, str]) -> None:
    m, suite = place
    urls = " ".join(f"file://{p}" for p in m.run("ls -d /root/one/*").stdout.split())
    url = "file:///root/my%20pk%2520/%C3%A9/with%20space%2541.rpm"
    if suite == "bookworm":  # dnf 4.14 quotes the name a second time and does not find it
        m.run(f"mkdir -p /root/two && cp '{FOLDER}'/golang-bin* /root/two")
        url = f"file://{m.run('ls /root/two/*').stdout.strip()}"
    assert_vetoed(m.run(f"cd /srv && {PROGRAM[suite]} upgrade {urls} {url}", check=False), "is cut short")
    assert m.run("go version").stdout == SOUND


def test_local_packages_fifo_beside_them_does_not_hang(place: tuple[Machine, str]) -> None:
    """The file that dnf read is replaced by a FIFO before the gate looks; once that has ended, rpm reads nothing."""
    m, suite = place
    put(m, suite, "truncated", "/root/fifo")
    # Not where dnf5 asks first whether a block is over: it has yet to read the file then.
    m.write("/root/swap", SWAP, 0o755)
    m.run("cd /usr/libexec/go-health-hook && mv gate gate-itself && cp /root/swap gate")
    try:
        done = m.run(f"cd /root/fifo && timeout -k 1 60 {PROGRAM[suite]} upgrade ./golang-*.rpm", check=False)
    finally:
        m.kill_all()
        m.run("cd /usr/libexec/go-health-hook && mv gate-itself gate")
    assert "was not found. The update goes on" in done.stdout + done.stderr
    assert m.run("go version").stdout == SOUND, "rpm itself had nothing to install"


@pytest.mark.parametrize("suite", SUITES)
def test_local_packages_sound_go_passes(suite: str) -> None:
    with machine(suite) as m:
        put(m, suite, "1.27.3", FOLDER)
        (m.path(FOLDER) / "hello.rpm").write_bytes(extras.hello(2).read_bytes())
        assert_done(m.run(f"cd '{FOLDER}' && {PROGRAM[suite]} install ./*.rpm", check=False))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert hello(m) == "2"
        assert not recorded(m)["unjudged"], "it was run before it was let in"
        assert_nothing_left(m)


def test_local_packages_stored_transaction_is_vetoed() -> None:
    with machine("forky") as m:
        put(m, "forky", "truncated", "/root/pk")
        m.run("cd /root/pk && dnf5 -y upgrade ./golang-*.rpm --store ./stored && mkdir -p stored/packages")
        m.run("cd /root/pk && cp golang-*.rpm stored/packages")
        for folder, path in (("/root/pk", "./stored"), ("/root", "pk/stored"), ("/", "/root/pk/stored")):
            assert_vetoed(m.run(f"cd {folder} && dnf5 -y replay {path}", check=False), "is cut short")
        assert m.run("go version").stdout == SOUND
