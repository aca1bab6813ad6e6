"""A reason is shown for the figures that it explains, and for no others; it has no figures of its own."""

import re

import pytest

from bench.__main__ import ROWS
from bench.lines import BEHIND, DIRECT, GIT, Line, Times
from bench.reasons import REASONS, UNKNOWN, Reason, reasons_of


def make_line(row: int, what: str, *, direct: float, behind: float, unit: str = "CPU s") -> Line:
    return Line(row, what, "x", unit, Times(10), samples={DIRECT: [direct], BEHIND: [behind], GIT: [10.0]})


def test_a_goal_that_is_met_needs_no_reason() -> None:
    assert reasons_of([make_line(1, "info/refs", direct=1.0, behind=1.0)]) == []


def test_a_reason_belongs_to_whose_figure_is_short() -> None:
    behind = reasons_of([make_line(1, "info/refs", direct=1.0, behind=2.0)])
    direct = reasons_of([make_line(1, "info/refs", direct=2.0, behind=1.0)])
    assert len(behind) == len(direct) == 1
    assert "proxy" in behind[0] and "proxy" not in direct[0]


def test_a_reason_belongs_to_the_lines_that_it_names() -> None:
    near, far = (
        make_line(7, f"fetch, {count} behind", direct=2.0, behind=1.0) for count in ("1 commit", "100 commits")
    )
    assert len(reasons_of([near])) == len(reasons_of([far])) == 1
    assert reasons_of([near, far, near]) == [*reasons_of([near]), *reasons_of([far])]


def test_that_no_reason_is_known_is_said() -> None:
    assert reasons_of([make_line(7, "something new", direct=2.0, behind=2.0)]) == [f"something new: {UNKNOWN}"]


def test_what_costs_time_is_no_reason_for_memory() -> None:
    line = make_line(6, "50 clones at once, cold", direct=2.0, behind=2.0, unit="peak private MiB, all processes")
    assert reasons_of([line]) == [f"50 clones at once, cold: {UNKNOWN}"]


def test_what_is_told_behind_nginx_is_what_is_done_there() -> None:
    (alone, behind), (followed, waited) = (
        (
            reasons_of([make_line(row, what, direct=2.0, behind=1.0)]),
            reasons_of([make_line(row, what, direct=1.0, behind=2.0)]),
        )
        for row, what in ((5, "full clone, first after a push"), (6, "50 clones at once, cold"))
    )
    assert [reason for reason in alone if "hash" in reason] == alone == behind[:1]
    assert "two sockets" in behind[1]
    assert "follower" in followed[0] and "follower" not in waited[0]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: f"{reason.row}-{reason.text[:20]}")
def test_a_reason_has_no_figures(reason: Reason) -> None:
    assert reason.row in ROWS
    assert re.findall(r"(?<!libgit)\d", reason.text) == []
    assert not re.search(r"\b(half|third|twice|hundred|thousand|percent)\b", reason.text)


def test_a_reason_about_small_packs_is_not_shown_for_large_ones() -> None:
    small, large = (Line(10, "indexing", "x", "CPU s", Times(3), samples={DIRECT: [s], GIT: [s]}) for s in (0.2, 20.0))
    assert any("start of Python" in text for text in reasons_of([small]))
    assert not any("start of Python" in text for text in reasons_of([large]))
