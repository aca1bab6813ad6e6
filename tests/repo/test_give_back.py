"""When memory is given back."""

from dataclasses import replace

import pytest

from govc.repo import give_back as module
from govc.repo.give_back import DELAY_SECONDS, ENOUGH_OBJECTS, GiveBack
from govc.repo.runtime import PLAIN


@pytest.fixture
def given_back(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "trim", lambda: calls.append("heap"))
    monkeypatch.setattr(module, "drop_pages", lambda: calls.append("maps"))
    return calls


def test_answers_that_end_within_a_moment_give_back_once_and_the_next_one_again(given_back):
    waiting = []
    giving = GiveBack(replace(PLAIN, later=lambda seconds, function: waiting.append((seconds, function))))
    giving.soon(ENOUGH_OBJECTS)
    giving.soon(ENOUGH_OBJECTS)
    assert [DELAY_SECONDS] == [seconds for seconds, _ in waiting]
    assert given_back == []
    waiting.pop()[1]()
    assert ["maps", "heap"] == given_back
    giving.soon(ENOUGH_OBJECTS)
    assert len(waiting) == 1


def test_a_process_that_does_not_live_that_long_gives_back_at_once(given_back):
    GiveBack(PLAIN).soon(ENOUGH_OBJECTS)
    assert ["maps", "heap"] == given_back


def test_what_small_answers_leave_is_added_up(given_back):
    giving = GiveBack(PLAIN)
    for _ in range(9):
        giving.soon(ENOUGH_OBJECTS // 10)
    assert given_back == []
    giving.soon(ENOUGH_OBJECTS // 10)
    assert ["maps", "heap"] == given_back
    giving.soon(ENOUGH_OBJECTS // 10)
    assert ["maps", "heap"] == given_back
