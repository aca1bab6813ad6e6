"""Two threads note at once what they have published: whichever is held up where, both records are marked."""

import sys
import threading
from types import SimpleNamespace

import pytest

from govc.repo.journal import Journal
from tests.repo.logged import Logged
from tests.waiting import SECONDS

INSTRUCTIONS_MAX = 10_000


@pytest.fixture
def journal(tmp_path):
    world = Logged(tmp_path)
    yield world.repository.journal(world.options)
    world.repository.close()


def record(sequence):
    return SimpleNamespace(record=SimpleNamespace(sequence=sequence))


class TwoThreads:
    """One is held up behind so many instructions of `published`, until the other has taken down its own record; that
    one is held up there until the first is through.
    """

    def __init__(self, journal):
        self.journal = journal
        self.has_noted, self.is_through = threading.Event(), threading.Event()
        self.other = threading.Thread(target=self._run, args=(self._hold_other, 2), daemon=True)
        self.left = 0

    def run(self, instructions):
        """Return whether the first thread had so many."""
        self.left = instructions
        first = threading.Thread(target=self._run, args=(self._hold_first, 1), daemon=True)
        first.start()
        first.join(SECONDS)
        self.is_through.set()
        if self.left <= 0:
            self.other.join(SECONDS)
        assert not first.is_alive() and not self.other.is_alive()
        return self.left <= 0

    def _run(self, hold, sequence):
        sys.settrace(lambda frame, event, _: hold(frame) if frame.f_code is Journal.published.__code__ else None)
        self.journal.published(record(sequence))

    def _hold_first(self, frame):
        frame.f_trace_opcodes = True

        def trace(_frame, event, _argument):
            if event == "opcode":
                self.left -= 1
                if not self.left:
                    self.other.start()
                    assert self.has_noted.wait(SECONDS)
            return trace

        return trace

    def _hold_other(self, _frame):
        def trace(_frame, event, _argument):
            if event == "line" and 2 in self.journal._unmarked and not self.has_noted.is_set():
                self.has_noted.set()
                assert self.is_through.wait(SECONDS)
            return trace

        return trace


def test_no_record_stays_unmarked_whichever_thread_is_held_up(journal, monkeypatch):
    marked = []
    monkeypatch.setattr(journal.log, "mark_published", marked.extend)
    for instructions in range(1, INSTRUCTIONS_MAX):
        marked.clear()
        if not TwoThreads(journal).run(instructions):
            break
        assert set(marked) == {1, 2}, f"held up before instruction {instructions}"
        assert journal._unmarked == []
    assert 10 < instructions < INSTRUCTIONS_MAX - 1
