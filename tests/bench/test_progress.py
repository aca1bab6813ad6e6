"""A run that was cut goes on; one that is whole, or of another version, begins anew."""

from pathlib import Path

import pytest

from bench.lines import DIRECT, AtLeast, AtMost, Goal, Line, Times
from bench.progress import Progress, Row

PLAN = {"plan": {"rounds": 3, "many_refs": (1, 2)}, "repositories": ["a"]}


def make_row(number: int = 1, *, version: str = "1", failed: str = "", goal: Goal | None = None) -> Row:
    line = Line(number, "work", "a repository", "ms", goal, samples={DIRECT: [1.5, 2.0]}, failures={"git": "why"})
    return Row([line], version, "2026-01-01", 12.5, 0.25, failed)


def begin(path: Path, version: str = "1", wanted: set[int] | None = None, *, resumes: bool = False) -> Progress:
    return Progress.begin(path, PLAN, version, wanted or {1, 2, 3}, resumes=resumes)


def test_a_cut_run_goes_on_with_what_it_had(tmp_path: Path) -> None:
    rows = {1: make_row(1, goal=Times(10)), 2: make_row(2, goal=AtMost(1.5)), 3: make_row(3, goal=AtLeast(2))}
    first = begin(tmp_path / "rows.json", wanted={1, 2, 3, 4})
    for number, row in rows.items():
        first.add(number, row)
    assert begin(tmp_path / "rows.json", wanted={1, 2, 3, 4}).rows == rows


def test_a_row_that_failed_is_measured_again(tmp_path: Path) -> None:
    first = begin(tmp_path / "rows.json")
    for number in (1, 2, 3):
        first.add(number, make_row(number, failed="failed: a reason" if number == 2 else ""))
    assert sorted(begin(tmp_path / "rows.json").rows) == [1, 3]
    assert sorted(begin(tmp_path / "rows.json", "2", resumes=True).rows) == [1, 3]


def test_a_whole_run_is_not_continued_but_when_told(tmp_path: Path) -> None:
    first = begin(tmp_path / "rows.json")
    for number in (1, 2, 3):
        first.add(number, make_row(number))
    assert begin(tmp_path / "rows.json").rows == {}
    assert sorted(begin(tmp_path / "rows.json", resumes=True).rows) == [1, 2, 3]


def test_another_version_or_another_plan_begins_anew(tmp_path: Path) -> None:
    begin(tmp_path / "rows.json").add(1, make_row())
    assert begin(tmp_path / "rows.json", "2").rows == {}
    assert sorted(begin(tmp_path / "rows.json", "2", resumes=True).rows) == [1]
    other = Progress.begin(tmp_path / "rows.json", {"plan": {}}, "1", {1, 2}, resumes=False)
    assert other.rows == {}
    with pytest.raises(SystemExit, match="another run"):  # a whole run's rows would be gone for those that are resumed
        Progress.begin(tmp_path / "rows.json", {"plan": {}}, "1", {1, 2}, resumes=True)
