"""What the bench writes and sends; nothing is timed here."""

from bench import measure, report, rows


def make_line() -> rows.Line:
    return rows.Line("a row", "s", {"one": [3.0, 1.0, 2.0], "two": [1234.5]}, {"three": "can't | won't"})


def test_a_cell_is_the_median_with_the_least_and_the_most() -> None:
    assert report.format_cell(make_line(), "one", 3) == "2.00 (1.00 to 3.00)"


def test_a_cell_of_fewer_rounds_says_how_many() -> None:
    assert report.format_cell(make_line(), "one", 5) == "2.00 (1.00 to 3.00; n=3)"


def test_a_single_round_has_no_spread() -> None:
    assert report.format_cell(make_line(), "two", 1) == "1,234"


def test_a_refusal_gives_its_reason_and_keeps_the_table_whole() -> None:
    assert report.format_cell(make_line(), "three", 5) == "no: can't / won't"


def test_ls_refs_is_a_version_2_request() -> None:
    request = rows.ls_refs("a.git", "refs/heads/")
    assert request.method == "POST"
    assert request.body.startswith(b"0014command=ls-refs\n")
    assert request.body.endswith(b"001bref-prefix refs/heads/\n0000")


def test_percentile_takes_the_nearest_rank() -> None:
    assert measure.percentile([float(n) for n in range(100)], 0.99) == 99.0
