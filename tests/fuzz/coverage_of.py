"""Which branches of the parsers do the fuzzers reach? Measured by coverage.py in branch mode.

A branch is a line with more than one way on, counted once for each way (coverage.py's own count). Targets name what
they cover as "module" or "module:name,name"; of the latter only the lines of those functions and classes count. What a
parser's module holds besides (encoders, properties of no input) is left out that way, by name and in the open. Single
branches that no input decides are listed in `excluded`.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import coverage

from tests.fuzz.engine import Result, Target, run_inputs
from tests.fuzz.excluded import texts_of


@dataclass(slots=True)
class ModuleBranches:
    """How many branches of a module count, how many were taken, and those that weren't, as "from->to" (lines)."""

    module: str
    names: str
    total: int = 0
    taken: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share that was taken; 1 when there are none."""
        return self.taken / self.total if self.total else 1.0


def begin() -> Any:
    """Start measuring; has to come before the parsers are imported."""
    measured = coverage.Coverage(branch=True, data_file=None, config_file=False, source_pkgs=["govc"])
    measured.start()
    return measured


def run_measured(targets: Iterable[Target], seed: int, count: int) -> list[Result]:
    """Run each target in this process."""
    return [run_inputs(target, seed, 0, max(1, round(count * max(1, min(target.weight, 4))))) for target in targets]


def judge(measured: Any, targets: Iterable[Target]) -> list[ModuleBranches]:
    """Return what was reached, per module, in the order of the targets."""
    wanted: dict[str, set[str]] = {}
    for target in targets:
        for entry in target.covers:
            module, colon, names = entry.partition(":")
            known = wanted.setdefault(module, set())
            known.update(names.split(",") if colon else ["*"])
    return [_judge_module(measured, module, names) for module, names in wanted.items()]


def _judge_module(measured: Any, module: str, names: set[str]) -> ModuleBranches:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    path = spec.origin
    every = "*" in names
    found = ModuleBranches(module, "" if every else ", ".join(sorted(names)))
    lines = None if every else _lines_of(path, names)
    analysis = measured._analyze(path)
    not_taken = analysis.missing_branch_arcs()
    source, excluded = _source_of(path).splitlines(), texts_of(module)
    for line, (total, _) in analysis.branch_stats().items():
        if lines is not None and line not in lines:
            continue
        missing = not_taken.get(line, [])
        if source[line - 1].strip() in excluded:
            total, missing = total - 1, missing[1:]
        found.total += total
        found.taken += total - len(missing)
        found.missing += [f"{line}->{to}" for to in missing]
    return found


def _source_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _lines_of(path: str, names: set[str]) -> set[int]:
    tree = ast.parse(_source_of(path))
    lines: set[int] = set()
    seen = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            seen.add(node.name)
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert seen == names, (path, names - seen)
    return lines
