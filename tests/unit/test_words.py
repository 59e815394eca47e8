# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command of ours that a message, a remedy or a document names exists, with the options named there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from go_health_hook import cli

TREE = Path(__file__).parents[2]
DOCUMENTS = (
    *("README.md", "NEWS", "conf/usr/lib/systemd/catalog/go-health-hook.catalog"),
    *sorted(str(path.relative_to(TREE)) for path in (TREE / "docs").glob("*.md")),
)
NAMED = re.compile(r"(?<![/\w.-])go-health-hook((?: -{1,2}[a-z-]+)*) ?([a-z]+)?((?: --[a-z-]+)*)")
# Words after our name that go on with a sentence.
PROSE = {"is", "could", "had", "has", "cannot", "itself", "maintainers", "as", "and", "metrics", "status", "takes"}
PROSE |= {"keeps", "kept", "refused", "would", "will", "checks", "judges", "gates", "to", "does", "lifted", "so"}


def strings(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, what is filled in left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def flags(name: str) -> set[str]:
    if name == "gate":
        return set()
    parser = cli.command_parser(name, cli.command_module(name)) if name else cli.main_parser()
    return {flag for action in parser._actions for flag in action.option_strings}


def wrong(text: str) -> list[str]:
    found = []
    for before, word, after in NAMED.findall(text):
        if word and word not in cli.commands() and (word not in PROSE or before or after):
            found.append(f"no command {word!r}: {text[:100]!r}")
            continue
        command = word if word in cli.commands() else ""
        for option, known in [(o, flags("")) for o in before.split()] + [(o, flags(command)) for o in after.split()]:
            if option not in known:
                found.append(f"{command or 'go-health-hook'} has no {option}: {text[:100]!r}")
    return found


def test_commands_in_messages_exist() -> None:
    found = []
    for path in sorted((TREE / "hook").rglob("*.py")):
        found += [f"{path.name}: {w}" for text in strings(ast.parse(path.read_text())) for w in wrong(text)]
    assert not found


def test_commands_in_documents_exist() -> None:
    found = [
        f"{name}: {w}" for name in DOCUMENTS for line in (TREE / name).read_text().splitlines() for w in wrong(line)
    ]
    assert not found


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert wrong("-> run go-health-hook repair")
    assert wrong("see go-health-hook status --all")
    assert wrong("go-health-hook --quickly")
    assert not wrong("go-health-hook override --for 2h --reason TEXT")


def test_readme_fits_two_hundred_lines() -> None:
    assert len((TREE / "README.md").read_text().splitlines()) <= 200


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for name in DOCUMENTS:
        text = (TREE / name).read_text()
        for target in re.findall(r"\]\(([^)#]+)", text):
            if "://" not in target and not ((TREE / name).parent / target).exists():
                broken.append(f"{name}: {target}")
    assert not broken
