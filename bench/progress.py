"""What a run has yielded so far, one row after the other, kept in a file: a run that was cut goes on where it stopped.

The file is JSON: `identity` says what was asked for (how much of it, of which repositories), `rows` what each row gave,
with the version that gave it. A run of the same version takes rows that ended well from it; one of another version only
if it is told to, and the report says which rows are whose. A run that is whole starts anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.lines import AtLeast, AtMost, Goal, Line, Times

FILE = "rows.json"
GOALS: dict[str, type[Times | AtMost | AtLeast]] = {kind.__name__: kind for kind in (Times, AtMost, AtLeast)}


@dataclass
class Row:
    """What one row gave. `load`: the machine's average over a minute, before it; `failed`: why it ended early."""

    lines: list[Line]
    version: str
    day: str
    seconds: float
    load: float
    failed: str = ""


@dataclass
class Progress:
    """The rows so far, in a file that is written after each."""

    path: Path
    identity: Mapping[str, Any]
    rows: dict[int, Row] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, path: Path, identity: Mapping[str, Any], version: str, wanted: set[int], *, resumes: bool
    ) -> Progress:
        """Take what holds for this run; without `resumes` rows of a whole run, or of another version, don't."""
        progress = cls(path, json.loads(json.dumps(identity)))
        if not path.exists():
            return progress
        found = json.loads(path.read_text())
        if found["identity"] != progress.identity:
            if resumes:
                raise SystemExit(f"{path} is of another run: with other repositories, or another patience")
            return progress
        rows = {int(number): read_row(row) for number, row in found["rows"].items()}
        well = {number: row for number, row in rows.items() if not row.failed}
        if resumes:
            progress.rows = well
        elif not wanted <= set(well):
            progress.rows = {number: row for number, row in well.items() if row.version == version}
        return progress

    def add(self, number: int, row: Row) -> None:
        """One more row, on disk before the next one begins."""
        self.rows[number] = row
        rows = {number: write_row(row) for number, row in sorted(self.rows.items())}
        making = self.path.with_suffix(".making")
        making.write_text(json.dumps({"identity": self.identity, "rows": rows}, indent=1))
        os.replace(making, self.path)


def today() -> str:
    """The day of a row."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def write_row(row: Row) -> dict[str, Any]:
    """As JSON has it; a goal is its kind and its number."""
    written = asdict(row)
    for line, plain in zip(row.lines, written["lines"], strict=True):
        plain["goal"] = None if line.goal is None else [type(line.goal).__name__, *asdict(line.goal).values()]
    return written


def read_row(written: Mapping[str, Any]) -> Row:
    """The inverse of write_row."""
    lines = [Line(**{**plain, "goal": _read_goal(plain["goal"])}) for plain in written["lines"]]
    return Row(**{**written, "lines": lines})


def _read_goal(written: list[Any] | None) -> Goal | None:
    return None if written is None else GOALS[written[0]](written[1])
