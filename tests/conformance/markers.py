"""Which rows of the drop-in table does which test carry? Read from the sources, without importing or running them.

A marker `@pytest.mark.rows("RP-75", ...)` belongs to the function or class that it decorates, or, in `pytestmark` or
`pytest.param(..., marks=...)`, to what stands around it. Files are named relative to the project's folder.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("tests", "compat")
ROWS_FILE = Path(__file__).with_name("rows.tsv")


class Row(NamedTuple):
    """One row of the table; `importance` is M (any client meets it), S (should) or R (rare)."""

    identifier: str
    importance: str
    title: str


class Carrier(NamedTuple):
    """One test (or class or module of tests) and a row that its marker names."""

    path: str
    name: str
    row: str

    @property
    def label(self) -> str:
        """How the conformance table writes it."""
        return f"{self.path}::{self.name}" if self.name else self.path


def read_rows() -> list[Row]:
    """Return the rows of the table, in its order."""
    lines = ROWS_FILE.read_text(encoding="utf-8").splitlines()
    return [Row(*line.split("\t")) for line in lines if line]


def find_carriers(project: Path = PROJECT) -> list[Carrier]:
    """Return every marker of every test file, in the order of files and lines."""
    out: list[Carrier] = []
    for folder in FOLDERS:
        for path in sorted((project / folder).rglob("test_*.py")):
            relative = path.relative_to(project).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"), relative)
            out.extend(Carrier(relative, name, row) for name, row in _iter_marks(tree, ""))
    return out


def _iter_marks(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        name = f"{name}::{node.name}" if name else node.name
    if isinstance(node, ast.Call) and _is_rows_mark(node.func):
        for row in _arguments(node):
            yield name, row
        return
    for child in ast.iter_child_nodes(node):
        yield from _iter_marks(child, name)


def _is_rows_mark(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "rows"
        and isinstance(function.value, ast.Attribute)
        and function.value.attr == "mark"
    )


def _arguments(call: ast.Call) -> tuple[str, ...]:
    """Return the marker's arguments: literals, or an expression over nothing but literals and range()."""
    expression = ast.Expression(ast.Tuple(call.args, ast.Load()))
    code = compile(ast.fix_missing_locations(expression), "marker", "eval")
    try:
        return tuple(eval(code, {"__builtins__": {"range": range}}))
    except NameError as error:
        raise ValueError(f"line {call.lineno}: rows() takes literals, so that its rows can be read: {error}") from error
