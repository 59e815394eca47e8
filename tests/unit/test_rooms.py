# SPDX-License-Identifier: GPL-2.0-or-later
"""The house rules a program can check: imports run one way, one runner starts programs, heavy imports stay inside."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = Path(__file__).parents[2] / "hook" / "go_health_hook"

# From the top floor down; a module may use its own floor's package and what stands below it.
FLOORS = [
    ["cli", "__main__"],
    ["commands"],
    ["cpu", "gates"],
    ["examine"],
    ["checks"],
    ["wiring"],
    ["announce"],
    ["report"],
    ["go"],
    ["linux"],
    ["run"],
    ["start", "policy", "verdict", "subject", "config", "override", "deadline", "errors", "files", "records", "text"],
]
HEAVY = {
    "dbus_next",
    "rich",
    "psutil",
    "prometheus_client",
    "typing",
    "dataclasses",
    "rpm",
    "ctypes",
    "systemd",
}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((i for i, names in enumerate(FLOORS) if name in names), -1)


def imported_rooms(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("go_health_hook"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("go_health_hook.")}
    return found


def test_every_module_stands_on_a_floor() -> None:
    homeless = [str(p) for p in modules() if room(p) != "__init__" and floor(room(p)) < 0]
    assert not homeless


def test_imports_run_one_way() -> None:
    wrong = []
    for path in modules():
        here = room(path)
        tree = ast.parse(path.read_text())
        wrong += [
            f"{path.relative_to(PACKAGE)} imports by way of dots, which hide the room"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
        ]
        for other in imported_rooms(tree):
            if other != here and floor(other) >= 0 and floor(other) < floor(here):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}, which stands above it")
    assert not wrong


STARTERS = [
    *("subprocess", "pty", "multiprocessing"),
    *("os.system", "os.popen", "os.fork", "os.posix_spawn", "os.spawn", "os.exec"),
]
# `exec` becomes another program, a worker is a fork of this one.
ALLOWED = {"cpu/exec.py": ["os.exec"], "run/worker.py": ["os.fork"]}


def named(node: ast.AST) -> list[str]:
    """The modules and functions of os that a node imports or calls, as "subprocess" or "os.fork"."""
    if isinstance(node, ast.Import):
        return [a.name.split(".")[0] for a in node.names]
    if isinstance(node, ast.ImportFrom):
        module = (node.module or "").split(".")[0]
        return [module, *(f"{module}.{a.name}" for a in node.names)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}"]
    return []


def test_one_runner_starts_programs() -> None:
    wrong = []
    for path in modules():
        where = str(path.relative_to(PACKAGE))
        if where == "run/process.py":
            continue
        starters = [s for s in STARTERS if s not in ALLOWED.get(where, ())]
        names = [name for node in ast.walk(ast.parse(path.read_text())) for name in named(node)]
        wrong += [f"{where}: {n}" for n in names if n.startswith(tuple(starters))]
    assert not wrong


def test_heavy_imports_stay_inside_functions() -> None:
    wrong = []
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            wrong += [f"{path.name}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert not wrong


def test_every_file_says_its_licence_and_its_topic() -> None:
    for path in modules():
        text = path.read_text()
        if text:
            assert text.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n"), path
            assert ast.get_docstring(ast.parse(text)), path


LINES_MAX, FUNCTION_MAX = 450, 60
# Still too long: each is to be split, and its name taken out here.
TOO_LONG: set[str] = set()


def test_files_and_functions_stay_short() -> None:
    long = {str(p.relative_to(PACKAGE)) for p in modules() if len(p.read_text().splitlines()) > LINES_MAX}
    assert long <= TOO_LONG, f"split in two: {long - TOO_LONG}"
    functions = [
        f"{path.relative_to(PACKAGE)}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_MAX
    ]
    assert not functions


def test_what_tests_share_is_in_no_test() -> None:
    """A builder that others use is in a file of its own, so that running one test file does not load another."""
    wrong = [
        f"{path.relative_to(TESTS)} imports {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests")
        for name in [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        if name.startswith("test_")
    ]
    assert not wrong
