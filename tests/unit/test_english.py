# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain English in comments, docstrings, messages and documents: words of today, and sentences that end in time."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
WORDS_MAX = 26
# Each with what to write instead.
NEVER = {
    r"n[oa]ught": "zero, nothing, none",
    r"heed(s|ed|ing|less)?": "follow, obey, use",
    "anew": "again",
    "amiss": "wrong",
    r"mend(s|ed|ing)?": "repair, fix",
    "beside": "next to, in addition to",
    r"(not )?(to )?be had": "available, installed",
    "in vain": "without effect",
    "by and by": "later",
    r"(come|comes|came|bring|brings|brought) to light": "be found",
    r"(speak|speaks|spoke|speaking|spoken) of": "name, mention",
    "hither": "here",
    "lest": "so that … not",
    r"(is|are|be|was|were|it) told by": "known by",
    "takes? amiss": "object to",
}
WORDS = re.compile(r"(?<![\w./<{-])(" + "|".join(NEVER) + r")(?![\w/-]|\.\w)", re.IGNORECASE)
DOCUMENTS = ("*.md", "NEWS", "*.spec", "*.in", "*.conf", "*.service", "*.timer", "*.path", "*.catalog", "*.toml")
FOLDERS = ("hook", "tests", "packaging", "conf", "docs")
KINDS = (ast.Module, ast.FunctionDef, ast.ClassDef)
SCRIPTS = ("packaging/generate-docs", "packaging/dev/demo", "packaging/dev/install-tree", "packaging/dev/host-packages")


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs and list items of a text, each in one line. Indented tables and examples are none."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*•|]|\d+\.) )|\n(?=\s*\w[\w, ]*  +\S)|\n(?=\s*\w+\([\w, ]*\) )", text):
        line = " ".join(block.split())
        if line and not line.startswith("|"):
            yield line


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text. A colon or a semicolon ends one too."""
    for paragraph in paragraphs(text):
        yield from re.split(r"(?<=[\w)`\"'’”%…]\w[.!?;:])\s+|(?<=[.!?;:])\s+(?=[A-Z`\"'])", paragraph)


def words(sentence: str) -> int:
    """How many words a sentence has. Code, paths, options and figures are not counted."""
    plain = re.sub(r"`[^`]*`|\"[^\"]*\"|\([^)]*\)|\{[^}]*\}", " ", sentence)
    return len(re.findall(r"(?<![\w/.<=_-])[A-Za-z][a-z'’]*(?:-[a-z]+)*(?![\w/=_(])", plain))


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Blocks of comments, each with the line where it begins."""
    first, last = 0, -2
    lines: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        own = token.line.lstrip().startswith("#")
        if not own or token.start[0] != last + 1:
            if lines:
                yield first, "\n".join(lines)
            first, lines = token.start[0], []
        lines.append(token.string.lstrip("# "))
        last = token.start[0] if own else -2
    if lines:
        yield first, "\n".join(lines)


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings and messages: strings of several words."""
    parts = {id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        if len(re.findall(r"\b[a-z]+ ", text)) >= 3 and not text.lstrip().startswith(("#!", "import ", "<", "[")):
            yield node.lineno, text


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file: the line where each piece begins, and its text."""
    source = path.read_text("utf-8")
    if path.suffix == ".py" or source.startswith("#!/usr/bin/python3"):
        # What a test feeds to a program is data: of tests, comments and docstrings alone.
        tree = ast.parse(source)
        if "tests" in path.relative_to(TREE).parts:
            documented = [node for node in ast.walk(tree) if isinstance(node, KINDS)]
            yield from ((getattr(node, "lineno", 1), ast.get_docstring(node) or "") for node in documented)
        else:
            yield from texts(tree)
        yield from comments(source)
    elif path.suffix in (".md", ".in") or path.name in ("NEWS",):
        text = re.sub(r"^(?:```.*?^```$|    .*?$|\|.*?$|\.\\\\\".*?$|@.*?$)", "", source, flags=re.M | re.S)
        text = re.sub(r"^\.(?:Pa|Nm|Cm|Fl|Ql|Ev|Em|Ar|Ic|Xr)\b ?", "", text, flags=re.M)
        yield 1, re.sub(r"^\.[A-Z].*$", "", text, flags=re.M)
    else:
        for match in re.finditer(r"(?:^#(?!!) ?.*\n?)+", source, re.M):
            yield source.count("\n", 0, match.start()) + 1, re.sub(r"^# ?", "", match[0], flags=re.M)


def files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (TREE / folder).rglob("*.py")]
    found += [path for folder in FOLDERS for kind in DOCUMENTS for path in (TREE / folder).rglob(kind)]
    found += [path for kind in ("*.md", "NEWS", "*.spec", "Makefile", "pyproject.toml") for path in TREE.glob(kind)]
    found += [TREE / name for name in SCRIPTS if (TREE / name).exists()]
    return sorted({path for path in found if path.is_file()})


def faults(pieces: Iterator[tuple[int, str]]) -> list[str]:
    wrong = []
    for line, text in pieces:
        for match in WORDS.finditer(text):
            instead = next(better for word, better in NEVER.items() if re.fullmatch(word, match[0], re.IGNORECASE))
            wrong.append(f"{line}: {match[0]!r} (write: {instead})")
        for sentence in sentences(text):
            if words(sentence) > WORDS_MAX:
                wrong.append(f"{line}: {words(sentence)} words: {sentence}")
    return wrong


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(TREE)))
def test_prose_is_plain(path: Path) -> None:
    found = faults(prose(path))
    assert not found, "\n".join(found)


# A sentence for users begins with its subject: a clause ("What cannot be judged is announced") is a riddle.
RIDDLE = re.compile(r"(?:- |\d+\. )?(?:What|Whatever|Whoever|Whichever) (?!to do).*[^?]")
FOR_USERS = ("*.md", "NEWS", "*.in", "*.catalog", "defaults.conf")


def for_users() -> list[Path]:
    folders = [TREE / name for name in ("packaging", "conf", "docs")]
    found = [path for kind in FOR_USERS for folder in folders for path in folder.rglob(kind)]
    return sorted([*found, *TREE.glob("*.md"), *TREE.glob("NEWS")])


@pytest.mark.parametrize("path", for_users(), ids=lambda p: str(p.relative_to(TREE)))
def test_sentences_for_users_begin_with_a_subject(path: Path) -> None:
    text = (
        re.sub(r"^#+ .*$", "\n", path.read_text("utf-8"), flags=re.M)
        if path.suffix == ".md"
        else path.read_text("utf-8")
    )
    text = re.sub(r"^(?:# ?|\.[A-Z].*$)", "", text, flags=re.M)
    assert [s for s in sentences(text) if RIDDLE.fullmatch(s)] == []


def test_messages_begin_with_a_subject() -> None:
    riddles = []
    for path in (TREE / "hook").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        documented = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, KINDS)}
        shown = path.parent.name in ("checks", "commands", "cpu") and path.name[0] != "_"
        messages = [text for _, text in texts(tree) if text not in documented]
        messages += [ast.get_docstring(tree) or ""] if shown else []
        riddles += [f"{path.name}: {s}" for text in messages for s in sentences(text) if RIDDLE.fullmatch(s)]
    assert riddles == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Nought is heeded.", 2),
        ("It stands beside the other.", 1),
        ("Besides, the amended tree is mended.", 1),
        ("Return the unit of a cgroup.", 0),
        (" ".join(["long"] * 27) + ".", 1),
        (" ".join(["long"] * 20) + ". " + " ".join(["short"] * 20) + ".", 0),
        ("- " + " ".join(["one"] * 20) + "\n- " + " ".join(["two"] * 20), 0),
    ],
)
def test_fault_in_prose_is_noticed(text: str, count: int) -> None:
    assert len(faults(iter([(1, text)]))) == count


def test_prose_of_a_module_is_its_docstrings_comments_and_messages(tmp_path: Path) -> None:
    source = '"""Nought."""\n# anew\nraise ValueError(f"nothing is {1} to be had here")\nx = 1  # amiss\n'
    path = TREE / "hook/go_health_hook/x.py"
    pieces = [*texts(ast.parse(source)), *comments(source)]
    assert [text for _, text in pieces] == ["nothing is {} to be had here", "anew", "amiss"], path
