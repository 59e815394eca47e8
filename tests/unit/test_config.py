# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: layers, types, and errors that name file, line and the nearest key."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook import config
from go_health_hook.config import severities
from go_health_hook.errors import BadInput

VENDOR = Path(__file__).parents[2] / "conf" / config.VENDOR.lstrip("/")


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "test.conf"
    file.write_text(text)
    return config.load(severities(), str(file), str(tmp_path))


def error(tmp_path: Path, text: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, text)
    assert caught.value.exit_status == 2
    assert "\n" not in caught.value.line()
    return caught.value.line().replace(str(tmp_path), "")


def test_the_vendors_file_says_what_the_code_says() -> None:
    plain = config.Config(severities())
    vendor = config.Config(severities())
    vendor.read(str(VENDOR), severities())
    assert {**vendor._values, "budget": {}} == {**plain._values, "budget": {}}
    modules = [import_module(f"go_health_hook.gates.{name[:-3]}") for name in config.budget_keys().values()]
    gates_own = {config.budget_key(module.__name__): module.BUDGET for module in modules}
    assert vendor._values["budget"] == {**plain._values["budget"], **gates_own}
    text = VENDOR.read_text()
    missing = [k for keys in config.SCHEMA.values() for k in keys if f"\n{k} =" not in text]
    missing += [name for name in [*severities(), *gates_own] if f"\n{name} = " not in text]
    assert not missing


def test_config_severities_are_those_of_the_checks() -> None:
    assert config.severities() == severities()


def test_config_vendors_file_is_plain() -> None:
    text = VENDOR.read_text()
    assert config._plain(text) == config._parsed(text, "") != {}


LINES = (
    *(
        "[a]",
        "[b ]",
        "[]",
        "[ ]",
        "[a]x",
        "[a] = 3",
        "[a]]",
        "[a] ; c",
        " [c]",
        "[DEFAULT]",
        "[é]",
        "k = v",
        "k=v",
        "k =",
    ),
    *(
        "= v",
        " k = v",
        "\tx",
        "# c",
        " ; c",
        "",
        "k = v ; x",
        "k = a = b",
        "k : v",
        "k",
        "é = ü",
        "k\x0b = v\x0c",
        "l = v\r",
    ),
    *("k = a\x85b", "k\u2028= v", "[a\x1c]", "\u3000k = v", "k = v\u3000", "\ufeff[a]", "l = w", "[d]"),
)


@given(st.lists(st.sampled_from(LINES), max_size=6))
def test_config_plain_file_says_what_configparser_reads(lines: list[str]) -> None:
    text = "\n".join(["[x]", *lines])
    plain = config._plain(text)
    assert not plain or plain == config._parsed(text, "")


def test_later_files_win(tmp_path: Path) -> None:
    etc = tmp_path / "etc/go-health-hook.conf.d"
    etc.mkdir(parents=True)
    (tmp_path / "etc/go-health-hook.conf").write_text("[budget]\ndnf = 7\nboot = 30\n")
    (etc / "10-a.conf").write_text("[budget]\ndnf = 8\n")
    (etc / "20-b.conf").write_text("[budget]\ndnf = 9\n[toolchain]\nmodules = crypto/tls, net/http\nrequired = yes\n")
    (etc / "30-masked.conf").symlink_to("/dev/null")
    (etc / "40-not.conf.rpmnew").write_text("nonsense")
    settings = config.load(severities(), root=str(tmp_path))
    assert settings.budget("gates._dnf", 5.0) == 9
    assert settings.budget("gates.boot", 60.0) == 30
    assert settings.get("toolchain", "modules") == ["crypto/tls", "net/http"]
    assert settings.get("toolchain", "required") is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[budgte]\n", "/test.conf:1: unknown section [budgte]; the nearest known section is budget"),
        ("[budget]\n\ndfn = 3\n", "/test.conf:3: unknown key dfn in [budget]; the nearest known key is dnf"),
        ("[checks]\nstdlb = off\n", "/test.conf:2: unknown key stdlb in [checks]; the nearest known key is stdlib"),
        ("[budget]\nrefused = 3\n", "/test.conf:2: unknown key refused in [budget]; the nearest known key is"),
        ("[budget]\ndnf5 = 3\n", "/test.conf:2: unknown key dnf5 in [budget]; the nearest known key is dnf"),
        ("[budget]\ndnf = soon\n", "/test.conf:2: dnf = soon cannot be used; it takes a number of seconds"),
        ("[budget]\ndnf = -1\n", "/test.conf:2: dnf = -1 cannot be used; it takes seconds from above 0 to 86400"),
        ("[budget]\ndnf = nan\n", "/test.conf:2: dnf = nan cannot be used; it takes seconds from above 0 to 86400"),
        ("[checks]\ngoroot = maybe\n", "it takes one of required, regression, advisory, off"),
        ("[toolchain]\ngoroot = golang\n", "it takes auto or an absolute path"),
        ("[toolchain]\ngoroot = /a\0b\n", "it takes auto or an absolute path"),
        (
            "[gomaxprocs]\nplacements = ../x\n",
            "/test.conf:2: placements = ../x cannot be used; it takes names of units",
        ),
        ("[toolchain]\nmodules = --exec=sh\n", "it takes import paths of the standard library"),
        ("dnf = 3\n", "/test.conf:1: a setting stands before any [section]"),
        ("[budget]\ndnf = 3\ndnf = 4\n", "/test.conf:3: a key stands twice in its section"),
        ("[budget]\nnonsense\n", "/test.conf:2: is not of the form key = value"),
    ],
)
def test_an_error_names_place_and_remedy(tmp_path: Path, text: str, words: str) -> None:
    assert words in error(tmp_path, text)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        config.load(severities(), str(tmp_path / "nowhere"), str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        config.load(severities(), str(tmp_path / "binary"), str(tmp_path))


@given(st.text())
def test_no_text_is_worse_than_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.conf"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        settings = config.load(severities(), str(file), "/nonexistent")
    except BadInput as caught:
        assert caught.line().isprintable()
    else:
        assert settings.budget("gates._dnf", 5.0) > 0


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_config_that_is_no_file_is_an_error_line_and_no_wait(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "go-health-hook.conf"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(BadInput, match="cannot be read: "):
        config.load({}, str(path))


@pytest.mark.parametrize("line", ["goroot = /srv/go", "  goroot = /srv/go", "# none\r\n\tgoroot=/srv/go\r"])
def test_goroot_is_found_as_the_whole_configuration_has_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "hook.conf"
    file.write_bytes(f"[toolchain]\n{line}\n".encode())
    assert config.load({}, str(file)).get("toolchain", "goroot") == "/srv/go"
    assert config.goroot(dict, str(file)) == "/srv/go"
