"""A small run of every fuzzer, the same inputs each time; and that the engine notices what it is there to notice.

The long run is `make fuzz`; what it has found is in test_findings.py.
"""

import importlib.util
import os
from pathlib import Path

import pytest

from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target, make_input, run_apart, run_inputs
from tests.fuzz.excluded import EXCLUDED, Excluded
from tests.fuzz.registry import TARGETS

SEED = 7
INPUTS = 120


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_what_is_documented_comes_out(target: Target) -> None:
    result = run_apart(target, SEED, 0, INPUTS, limit_memory=False)
    assert not result.findings, "\n".join(finding.text for finding in result.findings)
    assert INPUTS == result.inputs
    # Inputs are almost right: some get through, and where a parser may refuse some are refused.
    assert result.refused < result.inputs
    assert result.refused or not target.allowed or target.name in REFUSES_SELDOM


REFUSES_SELDOM = {"fsck", "introduced"}


def test_every_target_has_a_name_of_its_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize("entry", EXCLUDED, ids=lambda entry: f"{entry.module}: {entry.text}")
def test_a_branch_that_does_not_count_is_still_there_and_documented(entry: Excluded) -> None:
    spec = importlib.util.find_spec(entry.module)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        assert entry.text in [line.strip() for line in file]
    with open(Path(__file__).parents[2] / "docs" / "fuzzing.md", encoding="utf-8") as file:
        assert any(f"`{entry.module}`" in line and entry.text in line and entry.reason in line for line in file)


def target_of(run: object, **options: object) -> Target:
    return Target(name="x", covers=(), make=lambda draw: draw.randrange(1000), run=run, **options)  # type: ignore[arg-type]


def test_an_input_is_made_again_from_its_number() -> None:
    target = TARGETS[0]
    assert make_input(target, 1, 5) == make_input(target, 1, 5) != make_input(target, 1, 6)


def test_an_error_that_is_not_documented_is_found_once_and_counted() -> None:
    def run(data: int) -> None:
        if data % 2:
            raise KeyError(data)
        raise ValueError(data)

    result = run_inputs(target_of(run, allowed=(ValueError,)), 1, 0, 100)
    assert 100 == result.inputs
    assert ["exception"] == [finding.kind for finding in result.findings]
    assert 100 == result.refused + sum(result.kinds.values())
    number = result.findings[0].number
    with pytest.raises(KeyError):
        run(make_input(target_of(run), 1, number))


def test_a_slow_input_is_found() -> None:
    def run(data: int) -> None:
        sum(range(3_000_000))

    result = run_inputs(target_of(run, seconds_max=0.0001), 1, 0, 1)
    assert ["slow"] == [finding.kind for finding in result.findings]


def test_an_input_that_takes_much_memory_is_found() -> None:
    def run(data: int) -> None:
        bytearray(b"x") * (300 << 20)

    result = run_apart(target_of(run, bytes_max=64 << 20), 1, 0, 1, limit_memory=False)  # this process may be large
    assert ["memory"] == [finding.kind for finding in result.findings]


def test_a_process_that_dies_is_told_with_the_input_that_killed_it_and_the_others_run() -> None:
    def run(data: int) -> None:
        if data < 100:
            os._exit(77)

    target = target_of(run)
    result = run_apart(target, 1, 0, 60)
    deadly = [number for number in range(60) if make_input(target, 1, number) < 100]
    assert deadly
    assert 60 == result.inputs
    assert {"death 77": len(deadly)} == result.kinds
    assert deadly[0] == result.findings[0].number


def test_spoiling_changes_bytes_and_a_rate_of_nothing_breaks_no_field() -> None:
    draw = Draw("x")
    assert any(draw.spoil(b"some bytes") != b"some bytes" for _ in range(10))
    draw.rate = 0.0
    assert (5, b"a", "right") == (draw.number(5), draw.raw(b"a"), draw.pick("right", "wrong"))
