"""When a helper is started to fill an index: at once, more and more seldom where it comes to nothing, at once again."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from govc.errors import GovcError
from govc.repo import index_keeper
from govc.repo.helper import HelperSlots
from govc.repo.index_keeper import RETRY_SECONDS, RETRY_SECONDS_MAX, IndexKeeper
from govc.repo.introducing import IntroduceReport, IntroduceTask, fill_introductions
from govc.repo.introductions import TEMPORARY_PREFIX
from govc.repo.repository import Repository
from govc.repo.runtime import PLAIN
from tests.repo.test_introductions import fast_import, git, open_repository, path

__all__ = ["path"]


class Helpers:
    """Helpers that end at once, as `outcome` says. `started`: when they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcome: IntroduceReport | GovcError = GovcError("killed")
        self.started: list[float] = []
        self.now = 1000.0
        monkeypatch.setattr(index_keeper, "run_helper", self._run)
        monkeypatch.setattr(index_keeper.threading, "Thread", _Here)
        self.keeper = IndexKeeper(PLAIN, HelperSlots(1), clock=lambda: self.now)

    def _run(self, *_arguments: Any, **_options: Any) -> Iterator[None]:
        self.started.append(self.now)
        yield
        if isinstance(self.outcome, GovcError):
            raise self.outcome
        return self.outcome

    def starts(self, repository: Repository, seconds: float) -> list[float]:
        """When helpers are started from now on, if somebody wants the index every ten seconds."""
        begin, end = self.now, self.now + seconds
        self.started.clear()
        while self.now < end:
            self.keeper.want(repository.snapshot())
            self.now += 10
        return [started - begin for started in self.started]


class _Here:
    """A thread that is over when it has been started."""

    def __init__(self, *, target: Callable[..., None], args: tuple[object, ...], daemon: bool) -> None:
        self._work = lambda: target(*args)

    def start(self) -> None:
        self._work()


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> Helpers:
    return Helpers(monkeypatch)


@pytest.mark.parametrize(
    "outcome", [GovcError("killed"), IntroduceReport(skipped="history is not whole")], ids=["failed", "skipped"]
)
def test_helpers_that_come_to_nothing_are_started_more_and_more_seldom(
    path: Path, helpers: Helpers, outcome: IntroduceReport | GovcError
) -> None:
    repository = open_repository(path)
    helpers.outcome = outcome
    starts = helpers.starts(repository, 6 * RETRY_SECONDS_MAX)
    gaps = [after - before for before, after in pairwise(starts)]
    assert gaps[:6] == [RETRY_SECONDS * 2**step for step in range(1, 6)] + [RETRY_SECONDS_MAX]
    assert set(gaps[6:]) == {RETRY_SECONDS_MAX}


@pytest.mark.parametrize("change", ["push", "repack"])
def test_a_change_of_the_repository_is_tried_as_soon_as_any(path: Path, helpers: Helpers, change: str) -> None:
    repository = open_repository(path)
    helpers.starts(repository, RETRY_SECONDS_MAX)
    if change == "push":
        fast_import(path, 2, seed=5, start="refs/heads/main^0")
    else:
        git(path, "repack", "-adqf", "--depth=1")
    assert helpers.starts(repository, 4 * RETRY_SECONDS)[:2] == [0, 2 * RETRY_SECONDS]


def test_a_success_is_the_end_of_waiting(path: Path, helpers: Helpers) -> None:
    repository = open_repository(path)
    helpers.starts(repository, RETRY_SECONDS_MAX)
    helpers.outcome = IntroduceReport(commits_added=1)
    first = helpers.starts(repository, RETRY_SECONDS_MAX)[0]
    assert helpers.starts(repository, 3 * RETRY_SECONDS) == [0, RETRY_SECONDS, 2 * RETRY_SECONDS]
    assert first > 0


def test_what_a_killed_helper_left_goes_with_the_next_one(path: Path) -> None:
    task = IntroduceTask.of(open_repository(path).snapshot())
    fill_introductions(task)
    old, young = (path / "govc/introductions" / f"{TEMPORARY_PREFIX}{name}" for name in ("old", "young"))
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    left_at = time.time() - 60
    os.utime(old, (left_at,) * 2)
    os.utime(young, (left_at + 3600,) * 2)  # however long it takes
    fill_introductions(task)
    assert not old.exists()
    assert young.exists()
