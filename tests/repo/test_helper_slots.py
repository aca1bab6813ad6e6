"""Slots of helpers tell how many are busy and how much waits."""

import threading

from govc.repo.helper import HelperSlots
from tests.waiting import SECONDS


def test_what_is_told_adds_up_to_what_happens():
    told = []
    busy = waiting = 0

    def watch(more_busy, more_waiting):
        nonlocal busy, waiting
        busy, waiting = busy + more_busy, waiting + more_waiting
        told.append((busy, waiting))
        began.set()

    began = threading.Event()
    slots = HelperSlots(1, watch)
    assert slots.acquire(1)
    assert told == [(1, 0)]
    assert slots.acquire(0.001) is False
    assert told == [(1, 0), (1, 1), (1, 0)]
    began.clear()
    waiter = threading.Thread(target=slots.acquire, args=(SECONDS,))
    waiter.start()
    assert began.wait(SECONDS)
    assert told[-1] == (1, 1)
    slots.release()
    waiter.join()
    slots.release()
    assert told[-1] == (0, 0)
