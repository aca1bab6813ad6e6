"""The list of rows that are broken on purpose fits the draws, the sources, the markers and what is written of it."""

from __future__ import annotations

from .markers import find_carriers, read_rows
from .mutations import MUTATIONS, OUTCOME_FILE, count_text, draw_rows
from .table import group_by_row


def test_every_row_of_the_draw_is_broken() -> None:
    assert [one.row for one in MUTATIONS] == draw_rows(read_rows())


def test_the_texts_are_those_of_the_sources() -> None:
    stale = [(one.row, one.file) for one in MUTATIONS if count_text(one) != 1 or one.old == one.new]
    assert stale == [], "the sources have changed: let the mutation follow them"


def test_the_tests_carry_the_rows() -> None:
    shown = group_by_row(find_carriers())
    strangers = [
        (one.row, one.test)
        for one in MUTATIONS
        if not any(label == one.test or label.startswith(f"{one.test}::") for label in shown.get(one.row, ()))
    ]
    assert strangers == []


def test_each_was_noticed() -> None:
    page = OUTCOME_FILE.read_text(encoding="utf-8")
    lines = [f"| {one.row} | {one.what} | `{one.test}` | noticed |" for one in MUTATIONS]
    assert [line for line in lines if line not in page] == [], "`make row-mutations` tries them and writes the page"
