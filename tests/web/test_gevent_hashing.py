import os
import sys
import threading

import pytest

from govc.web.gevent_hashing import NICE, make_hashing_pool


def look(*arguments):
    thread = threading.get_native_id()
    return thread, os.getpriority(os.PRIO_PROCESS, thread), arguments


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux only")
def test_hashing_runs_in_other_threads_of_low_priority_and_nobody_elses_changes():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    call = make_hashing_pool(1)
    for _ in range(2):
        thread, nice, arguments = call(look, 1, "a")
        assert thread != threading.get_native_id()
        assert nice == max(before, NICE)
        assert arguments == (1, "a")
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_what_hashing_raises_comes_back():
    call = make_hashing_pool(1)
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 // 0)
