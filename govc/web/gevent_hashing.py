"""A pool of threads of low priority for hashing passwords. Only imported where gevent already runs the sockets.

Hashing lets go of the GIL, but not of the core: on a busy machine, whoever guesses passwords would keep the hub's
thread waiting for its turn on the CPU, and with it everybody. Threads that are nice yield to it. They are a pool of
their own: niceness can't be taken back, and a sync must not be slowed by it.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from gevent.threadpool import ThreadPool

from govc.web.gevent_runtime import call_in_pool

NICE = 10
"""By how much: a thread gets about a tenth of what the hub's gets when both want all."""

_CAN_BE_NICE = sys.platform == "linux"
"""Elsewhere a priority is a whole process's."""


def make_hashing_pool(threads: int) -> Callable[..., Any]:
    """Return a `call_blocking` that runs in a pool of its own. Call it in the worker, after the fork."""
    pool = ThreadPool(threads)

    def call(function: Callable[..., Any], /, *arguments: Any) -> Any:
        return call_in_pool(pool, _run_nicely, (function, arguments))

    return call


def _run_nicely(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if _CAN_BE_NICE:
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < NICE:
            os.setpriority(os.PRIO_PROCESS, thread, NICE)
    return function(*arguments)
