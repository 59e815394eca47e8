# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's version strings: every form a toolchain uses, Go's own order, and nothing else accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.go.versions import parse_version, parse_version_output

# text, name, numbers, kind, devel, vendor, experiments
FORMS = [
    ("go1.27.3", "go1.27.3", (1, 27, 3), "", False, "", ()),
    ("go1.21.13\n", "go1.21.13", (1, 21, 13), "", False, "", ()),
    ("go1.27rc2", "go1.27rc2", (1, 27, None), "rc", False, "", ()),
    ("go1.18beta1", "go1.18beta1", (1, 18, None), "beta", False, "", ()),
    ("1.25", "go1.25", (1, 25, None), "", False, "", ()),
    ("go1.20", "go1.20", (1, 20, None), "", False, "", ()),
    ("go1", "go1", (1, 0, 0), "", False, "", ()),
    ("go1.25.9 (Red Hat 1.25.9-1.el10)", "go1.25.9", (1, 25, 9), "", False, "Red Hat 1.25.9-1.el10", ()),
    ("go1.25.9 (Red Hat 1.25.9-1.el10) X:a,b", "go1.25.9", (1, 25, 9), "", False, "Red Hat 1.25.9-1.el10", ("a", "b")),
    ("go1.27.3 X:nodwarf5", "go1.27.3", (1, 27, 3), "", False, "", ("nodwarf5",)),
    ("go1.22.4-custom", "go1.22.4-custom", (1, 22, 4), "", False, "", ()),
    ("go1.24.1+auto", "go1.24.1+auto", (1, 24, 1), "", False, "", ()),
    ("go1.18.4b7", "go1.18.4b7", (1, 18, 4), "", False, "", ()),
    ("go1.18b7", "go1.18b7", (1, 18, None), "", False, "", ()),
    ("devel go1.28-abc123 Tue Oct 20 10:00:00 2026 +0000", "devel go1.28-abc123", (1, 28, None), "", True, "", ()),
    ("go1.28-devel_abc123 Tue Oct 20 10:00:00 2026", "go1.28-devel_abc123", (1, 28, None), "", True, "", ()),
    ("devel +9f4d5ff4 Thu Feb 1 10:00:00 2018 +0000", "devel +9f4d5ff4", (None, None, None), "", True, "", ()),
]


@pytest.mark.parametrize("text, name, numbers, kind, devel, vendor, experiments", FORMS, ids=[f[0] for f in FORMS])
def test_every_form(
    text: str,
    name: str,
    numbers: tuple[int | None, ...],
    kind: str,
    devel: bool,
    vendor: str,
    experiments: tuple[str, ...],
) -> None:
    v = parse_version(text)
    assert (v.name, (v.major, v.minor, v.patch)) == (name, numbers)
    assert (v.kind, v.devel, v.vendor, v.experiments) == (kind, devel, vendor, experiments)
    assert v.text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "go",
        "1.27.",
        "go01.2",
        "go1.027",
        "go1.27.3rc1",
        "go1.27gamma1",
        "go1.27rc01",
        "gopher",
        "version 1.27",
        "weekly.2012-03-27",
        "devel",
        "go1.٢٧",
        "go1.9999999999999",
        "go1.27.3\x1b[31m",
        "go1.27.3\ngo1.26",
        "go1.27.3 " + 1000 * "X",
    ],
)
def test_what_is_no_version_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a Go version: ") as caught:
        parse_version(text)
    assert str(caught.value).isprintable()


def test_order_is_gos_own() -> None:
    ordered = ["devel +abc x", "go1.20", "go1.20.1", "1.21", "go1.21rc1", "go1.21rc2", "go1.21rc10", "go1.21.0"]
    ordered += ["go1.21.9", "go1.21.13", "1.25", "go1.25beta1", "go1.25rc1", "go1.25.0", "go1.27.3", "devel go1.28-abc"]
    ordered += ["go1.28alpha1", "go1.28rc1", "go1.28.0"]
    versions = [parse_version(t) for t in ordered]
    for i, a in enumerate(versions):
        for j, b in enumerate(versions):
            assert ((a < b), (a <= b), (a > b), (a >= b), (a == b)) == (i < j, i <= j, i > j, i >= j, i == j)
    assert parse_version("go1.20") == parse_version("go1.20.0")
    assert hash(parse_version("go1.20")) == hash(parse_version("go1.20.0"))
    assert parse_version("1.21") != parse_version("go1.21.0")


@pytest.mark.parametrize(
    "text, knows",
    [
        ("go1.24.11", False),
        ("go1.25rc1", True),
        ("go1.25.0", True),
        ("devel go1.25-abc", True),
        ("devel go1.24-abc", False),
        ("devel +9f4d5ff4 Thu", False),
        ("go1.25.9 (Red Hat 1.25.9-1.el10)", True),
        ("go2.0.1", True),
    ],
)
def test_which_runtimes_know_cgroups(text: str, knows: bool) -> None:
    assert parse_version(text).knows_cgroups is knows


def test_at_least() -> None:
    assert parse_version("go1.26.0").at_least(1, 26)
    assert parse_version("go1.26rc1").at_least(1, 26)
    assert not parse_version("go1.26rc1").at_least(1, 26, 1)
    assert not parse_version("go1.25.5").at_least(1, 26)
    assert parse_version("go1.27.0").at_least(1, 26, 5)
    assert not parse_version("go1.26.4").at_least(1, 26, 5)
    assert parse_version("devel go1.28-x").at_least(1, 27, 9)
    assert parse_version("go1.27.3").language == "1.27"
    assert parse_version("devel +abc x").language == ""


def test_the_line_of_go_version() -> None:
    version, platform = parse_version_output("go version go1.25.9 (Red Hat 1.25.9-1.el10) linux/amd64\n")
    assert (version.name, version.vendor, platform) == ("go1.25.9", "Red Hat 1.25.9-1.el10", "linux/amd64")
    version, platform = parse_version_output("go version go1.27.3 X:nodwarf5 linux/arm64")
    assert (version.experiments, platform) == (("nodwarf5",), "linux/arm64")
    version, _ = parse_version_output("go version devel go1.28-abc Tue Oct 20 10:00:00 2026 +0000 linux/amd64")
    assert version.devel
    for bad in ["", "go1.27.3", "go version go1.27.3", "go version linux/amd64", "go version go1.27.3 linux/", "hello"]:
        with pytest.raises(ValueError, match=r"^not a (line of go|Go) version"):
            parse_version_output(bad)


LIKE_A_VERSION = r"\A(devel )?(go)?[0-9]{1,3}(\.[0-9]{1,3}){0,3}[a-z]{0,4}[0-9]{0,2}.{0,9}\Z"


@given(st.text(max_size=60) | st.from_regex(LIKE_A_VERSION))
def test_any_text_is_a_version_or_a_value_error(text: str) -> None:
    try:
        version = parse_version(text)
    except ValueError as e:
        assert str(e).startswith("not a Go version: ")
        return
    assert version == parse_version(version.text)
    assert version.name.isprintable()


@given(st.integers(0, 9), st.integers(21, 99), st.integers(0, 99))
def test_numbers_round_trip(major: int, minor: int, patch: int) -> None:
    v = parse_version(f"go{major}.{minor}.{patch}")
    assert (v.major, v.minor, v.patch, str(v)) == (major, minor, patch, f"go{major}.{minor}.{patch}")
    assert parse_version(f"go{major}.{minor}") < parse_version(f"go{major}.{minor}rc1") < v
