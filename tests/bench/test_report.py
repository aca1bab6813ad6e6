"""What the bench writes and sends; nothing is timed here."""

import pytest

from bench import measure, report, wire
from bench.__main__ import ROWS, parse_rows
from bench.lines import BEHIND, DIRECT, GIT, AtLeast, AtMost, Goal, Line, Times, format_samples


def make_line(goal: Goal | None = None, *, more_is_better: bool = False, **samples: float) -> Line:
    line = Line(1, "work", "a repository", "ms", goal, more_is_better)
    for name, contender in (("direct", DIRECT), ("behind", BEHIND), ("git", GIT)):
        if name in samples:
            line.add(contender, samples[name])
    return line


def test_a_cell_is_the_median_with_the_least_and_the_most() -> None:
    line = Line(1, "a row", "x", "s", samples={DIRECT: [3.0, 1.0, 2.0]})
    assert format_samples(line, DIRECT) == "2.00 (1.00 to 3.00)"


def test_a_single_round_has_no_spread() -> None:
    assert format_samples(make_line(direct=1234.5), DIRECT) == "1,234"


def test_a_failure_gives_its_reason_and_keeps_the_table_whole() -> None:
    line = Line(1, "a row", "x", "s", samples={DIRECT: [1.0]}, failures={DIRECT: "can't | won't"})
    assert format_samples(line, DIRECT) == "no: can't / won't"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (make_line(Times(10), direct=1.0, git=10.0), "met"),
        (make_line(Times(10), direct=1.0, git=9.9), "short"),
        (make_line(Times(10), direct=1.0, behind=2.0, git=10.0), "short"),
        (make_line(Times(10), more_is_better=True, direct=100.0, git=10.0), "met"),
        (make_line(Times(10), more_is_better=True, direct=99.0, git=10.0), "short"),
        (make_line(Times(10), direct=1.0), "failed"),
        (make_line(AtMost(2.0), direct=2.0), "met"),
        (make_line(AtMost(2.0), direct=2.1), "short"),
        (make_line(AtLeast(2.0), direct=2.1, behind=1.0), "short"),
        (make_line(AtMost(2.0)), "failed"),
        (make_line(None, direct=1.0), ""),
    ],
)
def test_a_verdict_holds_for_every_contender_of_ours(line: Line, verdict: str) -> None:
    assert line.verdict() == verdict


def test_what_failed_is_not_met_by_its_earlier_samples() -> None:
    line = make_line(Times(10), direct=1.0, behind=1.0, git=10.0)
    line.failures[BEHIND] = "gone"
    assert line.verdict() == "failed"


def test_the_summary_shows_the_figure_that_is_furthest_from_its_goal() -> None:
    near, far = make_line(Times(10), direct=1.0, git=9.0), make_line(Times(30), direct=1.0, git=9.0)
    assert report.worst_figure([near, far]) == "work, a repository, govc: 9.00x (goal >= 30x)"


def test_a_row_that_failed_says_so_in_the_summary() -> None:
    text = report.format_summary([], {99: "clones"}, {99: "failed: a reason"})
    assert "| 99 | clones | not measured; the row ended early |  | failed: a reason |" in text


def test_rows_are_named_by_numbers_and_ranges() -> None:
    assert parse_rows("1,4-6") == [1, 4, 5, 6]
    assert sorted(ROWS) == list(range(1, 18))


def test_ls_refs_is_a_version_2_request() -> None:
    request = wire.ls_refs("a.git", "refs/heads/")
    assert request.method == "POST"
    assert request.body.startswith(b"0014command=ls-refs\n")
    assert request.body.endswith(b"001bref-prefix refs/heads/\n0000")


def test_a_report_with_a_refused_ref_is_no_acknowledgement() -> None:
    assert wire.is_acknowledged(
        b"0029\x02Resolving deltas: 100% (4/4), done.\n002f\x01000eunpack ok\n0018ok refs/a\n0000"
    )
    assert not wire.is_acknowledged(b"000eunpack ok\n0018ng refs/a why\n0000")


def test_percentile_takes_the_nearest_rank() -> None:
    assert measure.percentile([float(n) for n in range(100)], 0.99) == 99.0


@pytest.mark.parametrize("end", [b"0000", b"0000\r\n0\r\n\r\n", b"000\r\n1\r\n0\r\n0\r\n\r\n"])
def test_the_end_of_an_answer_is_known_however_it_is_chunked(end: bytes) -> None:
    assert wire.is_end_of_answer(b"0006\x01x" + end)
    assert not wire.is_end_of_answer(b"0006\x01x" + end.replace(b"000", b"00"))
