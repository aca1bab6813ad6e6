"""How often a line is measured: as long as there is patience for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import world
from bench.lines import DIRECT, GIT
from bench.world import QUICK, Bench, Plan


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, seconds: float) -> list[int]:
    """How many rounds each contender has of a line that takes so long."""
    clock = Clock()
    monkeypatch.setattr(world, "time", clock)
    bench = Bench(plan, Any, tmp_path, tmp_path, tmp_path, [], lambda text: None)  # type: ignore[arg-type]
    bench.begin(1)
    line = bench.line("work", "a repository", "s")

    def work(server: Any) -> list[float]:
        clock.now += seconds
        return [seconds]

    bench.rounds([line], work, servers=[SimpleNamespace(name=DIRECT), SimpleNamespace(name=GIT)])  # type: ignore[list-item]
    return [len(line.samples[name]) for name in (DIRECT, GIT)]


def test_what_is_short_is_measured_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(tmp_path, monkeypatch, Plan(), 1.0) == [3, 3]


def test_what_is_long_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(tmp_path, monkeypatch, Plan(), 20.0) == [1, 1]


def test_patience_gives_it_a_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(tmp_path, monkeypatch, Plan().with_patience(3), 20.0) == [3, 3]


def test_patience_of_one_changes_nothing() -> None:
    assert Plan().with_patience(1.0) == Plan()
    assert QUICK.with_patience(1.0) == QUICK
