"""Loops that share the hub, and answers that are made once."""

import threading
import time
from types import SimpleNamespace

import pytest

from govc.repo.runtime import PLAIN, Runtime
from govc.service.pacing import RUN_MAX, paced, paced_runs, remembered
from tests.beside import HELD_SECONDS, Beside


def snapshot_like():
    return SimpleNamespace(derived={})


def test_paced_yields_everything_in_order():
    assert list(range(1000)) == list(paced(range(1000), lambda: None))


def test_a_long_loop_pauses_and_a_short_one_does_not(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("govc.graph.interface.perf_counter", lambda: next(clock) * 0.0015)
    pauses = []
    assert list(paced(range(100), lambda: pauses.append(1))) == list(range(100))
    assert 20 <= len(pauses) <= 60


def test_runs_pause_between_them_and_few_items_stay_as_they_are(monkeypatch):
    monkeypatch.setattr("govc.graph.interface.TICK_SECONDS", -1.0)
    pauses, items = [], list(range(5 * RUN_MAX + 1))
    assert list(paced_runs(items, lambda: pauses.append(1))) == items
    assert len(pauses) == 6
    few = items[:RUN_MAX]
    assert paced_runs(few, lambda: pauses.append(1)) is few
    assert len(pauses) == 6


def test_an_answer_is_kept_when_it_may_be():
    snapshot, made = snapshot_like(), []

    def make():
        made.append(1)
        return b"answer", len(made) > 1

    assert [remembered(snapshot, "k", PLAIN, make) for _ in range(3)] == [b"answer"] * 3
    assert len(made) == 2


def test_who_comes_while_an_answer_is_made_waits_for_it():
    snapshot = snapshot_like()
    snapshot.derived["making", "k"] = True
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:  # the other one is done
            snapshot.derived["k"] = b"theirs"
            del snapshot.derived["making", "k"]

    assert remembered(snapshot, "k", Runtime(sleep=sleep), lambda: pytest.fail("made twice")) == b"theirs"
    assert len(naps) == 3


def test_a_failure_leaves_nobody_waiting():
    snapshot = snapshot_like()

    def fail():
        raise ValueError

    with pytest.raises(ValueError):
        remembered(snapshot, "k", PLAIN, fail)
    assert remembered(snapshot, "k", PLAIN, lambda: (b"answer", True)) == b"answer"


def test_two_threads_that_miss_an_answer_make_it_one_after_the_other():
    """Under a WSGI server with threads both may have looked before either says that it makes it."""

    class Derived(dict):
        def __setitem__(self, key, value):
            if key != "k":
                other.meet()
            super().__setitem__(key, value)

        def setdefault(self, key, value):
            other.meet()
            return super().setdefault(key, value)

    snapshot, made, inside = snapshot_like(), [], threading.Event()
    snapshot.derived = Derived()

    def make():
        made.append(1)
        if len(made) == 1:
            inside.wait(2 * HELD_SECONDS)
        return b"answer", True

    other = Beside(lambda: remembered(snapshot, "k", PLAIN, make))
    assert (
        remembered(snapshot, "k", Runtime(sleep=lambda _seconds: inside.set() or time.sleep(0.002)), make) == b"answer"
    )
    assert other.result() == b"answer"
    assert len(made) == 1
    assert list(snapshot.derived) == ["k"]
