"""The regression guard: what it counts, and what it says; nothing is timed here."""

import gc
from pathlib import Path

import pytest

from bench import check
from bench.check import CALLS_TOLERANCE, CPU_TOLERANCE, Figures, compare, count_calls, read_recorded, write_recorded


def call() -> None:
    return None


def test_calls_are_counted_whatever_else_the_machine_does() -> None:
    assert count_calls(lambda: [call() for _ in range(5)]) in (6, 7)  # a comprehension is a call of its own before 3.12
    assert count_calls(lambda: None) == 1


def test_what_a_collection_of_garbage_calls_is_not_counted() -> None:
    """Hypothesis, for one, is called at each: by which test it comes depends on all that the process did before."""

    def hear(_phase: str, _info: dict[str, int]) -> None:
        heard.append(1)

    heard: list[int] = []
    gc.callbacks.append(hear)
    try:
        assert count_calls(lambda: [[] for _ in range(20_000)]) in (1, 2)
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(hear)


def test_more_calls_than_the_tolerance_are_named() -> None:
    recorded = {"a push": Figures(1000, 1.0)}
    limit = int(1000 * CALLS_TOLERANCE) + 2
    assert compare({"a push": Figures(limit, 1.0)}, recorded) == []
    assert compare({"a push": Figures(limit + 1, 1.0)}, recorded) == [
        f"a push: {limit + 1} Python calls, recorded are 1000"
    ]


def test_more_cpu_than_the_tolerance_is_named() -> None:
    recorded = {"a push": Figures(1000, 1.0)}
    assert compare({"a push": Figures(1000, CPU_TOLERANCE)}, recorded) == []
    (said,) = compare({"a push": Figures(1000, CPU_TOLERANCE * 1.01)}, recorded)
    assert "times the fixed work's CPU" in said


def test_what_is_recorded_has_to_be_measured() -> None:
    assert compare({}, {"a push": Figures(1, 1.0)}) == ["a push: not measured any more"]


def test_what_is_new_is_no_regression() -> None:
    assert compare({"a push": Figures(1, 1.0)}, {}) == []


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    write_recorded(path, "a processor", {"a push": Figures(12, 0.25)})
    assert read_recorded(path) == ("a processor", {"a push": Figures(12, 0.25)})
    assert read_recorded(tmp_path / "absent") == ("", {})


@pytest.mark.parametrize(
    "processor, cpu, status",
    [("this", 1.4, 0), ("this", 1.6, 1), ("another", 1.6, 0), ("another", 2.1, 1)],
)
def test_on_another_processor_cpu_time_may_differ_more_and_calls_as_little(
    processor: str,
    cpu: float,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "check.json"
    write_recorded(path, "this", {"a push": Figures(100, 1.0)})
    measured = Figures(100, cpu)
    monkeypatch.setattr(check.report, "processor", lambda: processor)
    monkeypatch.setattr(check, "operations", lambda git, root: iter([check.Operation("a push", lambda: None, 1)]))
    monkeypatch.setattr(check, "measure", lambda operation: measured)
    assert check.main(["--file", str(path)]) == status
    assert ("recorded on another processor" in capsys.readouterr().out) == (processor != "this")
    measured = Figures(200, 1.0)
    assert check.main(["--file", str(path)]) == 1
    assert "a push: 200 Python calls, recorded are 100" in capsys.readouterr().out


def test_what_seems_slower_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([Figures(10, 9.0), Figures(10, 1.0), Figures(10, 0.5)])
    monkeypatch.setattr(check, "measure", lambda operation: next(found))
    operation = check.Operation("a push", lambda: None, 1)
    assert check.measure_until_fast(operation, Figures(10, 1.0)) == Figures(10, 1.0)
    assert check.measure_until_fast(operation, None) == Figures(10, 0.5)


def test_what_stays_slower_is_measured_no_more_than_some_times(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measure(operation: check.Operation) -> Figures:
        calls.append(operation)
        return Figures(100, 1.0)

    monkeypatch.setattr(check, "measure", measure)
    assert check.measure_until_fast(check.Operation("a push", lambda: None, 1), Figures(10, 1.0)) == Figures(100, 1.0)
    assert len(calls) == 1 + check.AGAIN
