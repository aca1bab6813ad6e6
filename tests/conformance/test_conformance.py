"""docs/conformance.md says what is true of the tests: see `table` for its rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from .markers import Row, find_carriers, read_rows
from .table import (
    MAY_DIFFER,
    STATUSES,
    TABLE_FILE,
    UNJUDGED,
    Line,
    group_by_row,
    named_tests,
    parse_table,
    write_table,
)

ROWS = {row.identifier: row for row in read_rows()}
CARRIERS = find_carriers()
LINES = parse_table(TABLE_FILE.read_text(encoding="utf-8"))


def test_the_table_has_each_row_once_and_in_order() -> None:
    assert [line.row for line in LINES] == list(ROWS.values())
    assert len(ROWS) == 604


def test_every_marker_names_a_known_row() -> None:
    unknown = [carrier for carrier in CARRIERS if carrier.row not in ROWS]
    assert unknown == []


def test_a_yes_of_importance_has_a_test() -> None:
    shown = group_by_row(CARRIERS)
    bare = [
        line.row.identifier
        for line in LINES
        if line.row.importance in "MS" and line.status == "yes" and not shown.get(line.row.identifier)
    ]
    assert bare == [], "these say yes and no test carries their ID"


def test_few_rows_differ_on_purpose() -> None:
    assert {line.row.identifier for line in LINES if line.status == "different on purpose"} <= MAY_DIFFER


def test_what_is_not_a_plain_yes_says_why() -> None:
    silent = [line.row.identifier for line in LINES if line.status != "yes" and len(line.remark) < 10]
    assert silent == [], "these need a remark: what is missing, what happens instead"


def test_named_tests_exist_and_carry_the_row() -> None:
    shown = group_by_row(CARRIERS)
    gone = [
        (line.row.identifier, label)
        for line in LINES
        for label in named_tests(line.tests)
        if label not in shown.get(line.row.identifier, ())
    ]
    assert gone == [], "renamed or removed; `make conformance` writes the column anew"


def test_markers_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "compat").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.rows('A-1')\n"
        "@pytest.mark.rows('A-2', *(f'A-{n}' for n in range(3, 5)))\n"
        "def test_one(): pass\n"
        "class TestTwo:\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.rows('A-5'))])\n"
        "    def test_it(self, x): pass\n"
    )
    assert [(carrier.label, carrier.row) for carrier in find_carriers(tmp_path)] == [
        ("tests/test_x.py", "A-1"),
        ("tests/test_x.py::test_one", "A-2"),
        ("tests/test_x.py::test_one", "A-3"),
        ("tests/test_x.py::test_one", "A-4"),
        ("tests/test_x.py::TestTwo::test_it", "A-5"),
    ]


def test_writing_keeps_what_was_written_by_hand() -> None:
    rows = [Row("HB-01", "M", "one | bar"), Row("HB-02", "S", "two"), Row("HB-03", "R", "three")]
    old = {"HB-01": Line(rows[0], STATUSES[1], "`gone`", "by hand")}
    text = write_table(rows, old, {"HB-01": ["a", "b", "c", "d"], "HB-02": ["e"]})
    assert parse_table(text) == [
        Line(rows[0], "partly", "`a`, `b`, `c` and 1 more", "by hand"),
        Line(rows[1], "yes", "`e`", ""),
        Line(rows[2], "no", "", UNJUDGED),
    ]
    again = write_table(rows, {line.row.identifier: line for line in parse_table(text)}, {"HB-03": ["f"]})
    assert parse_table(again)[2] == Line(rows[2], "yes", "`f`", "")
    with pytest.raises(ValueError, match="not a line"):
        parse_table("| HB-01 | M | x | perhaps | | |")
