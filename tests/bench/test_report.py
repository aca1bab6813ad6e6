"""What the bench writes and sends; nothing is timed here."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bench import measure, report, wire
from bench.__main__ import ROWS, parse_rows, run_row
from bench.lines import BEHIND, DIRECT, GIT, AtLeast, AtMost, Goal, Line, Times, format_samples
from bench.progress import Row
from bench.world import QUICK, Bench
from compat.gitclient import Git
from tests.waiting import SECONDS


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


def make_row(number: int, line: Line, *, version: str = "1", failed: str = "") -> Row:
    line.row = number
    return Row([line], version, "2026-01-01", 12.0, 0.5, failed)


def test_a_row_that_failed_keeps_its_figures_and_says_so_in_the_summary() -> None:
    line = make_line(Times(10), direct=1.0, git=11.0)
    text = report.format_summary({99: make_row(99, line, failed="failed: a reason")}, {98: "fetches", 99: "clones"})
    assert "| 98 | fetches | not measured |  |  |  |\n" in text
    worst = "work, a repository, govc: 11.0x (goal >= 10x)"
    cells = f"| 99 | clones | 1 of 1; the row ended early | {worst} | failed: a reason | 12 s, load 0.5 |"
    assert cells in text


def test_rows_of_another_run_are_named() -> None:
    rows = {number: make_row(number, make_line()) for number in (1, 2)}
    assert report.format_parts(rows) == ""
    rows[3] = make_row(3, make_line(), version="2")
    assert report.format_parts(rows) == "- **Not one run**: rows 1, 2 by 1 on 2026-01-01; rows 3 by 2 on 2026-01-01.\n"


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


def test_lanes_run_at_the_same_time_and_the_first_error_is_raised() -> None:
    together = threading.Barrier(3)

    def work(lane: int) -> int:
        together.wait(SECONDS)
        if lane:
            raise ValueError(lane)
        return lane

    with pytest.raises(ValueError, match="1"):
        wire.at_once(work, range(3))
    assert wire.at_once(str, range(3)) == ["0", "1", "2"]


def test_a_row_that_raises_is_a_row_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work(bench: Bench) -> None:
        bench.line("work", "a repository", "ms").add(DIRECT, 1.0)
        raise RuntimeError("broken\nat length")

    monkeypatch.setitem(ROWS, 1, ("a row", work))
    bench = Bench(QUICK, Git(tmp_path / "home", tmp_path), tmp_path, tmp_path, tmp_path, (), lambda text: None)
    row = run_row(bench, 1)
    assert row.failed == "failed: RuntimeError: broken"
    assert [line.samples for line in row.lines] == [{DIRECT: [1.0]}]


def test_a_row_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(ROWS, 1, ("a row", lambda bench: threading.Event().wait(60)))
    plan = replace(QUICK, row_seconds=1)
    bench = Bench(plan, Git(tmp_path / "home", tmp_path), tmp_path, tmp_path, tmp_path, (), lambda text: None)
    assert run_row(bench, 1).failed == "failed: TookTooLong: ended after 1 s"
