"""How a process with gevent waits: off the hub. Only imported where gevent already runs the sockets."""

import os
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent.socket import wait_write
from gevent.threadpool import ThreadPool

from govc.repo.runtime import Runtime

PAUSE_SECONDS = 0.0001
"""A pause that lets the hub look at its sockets: sleep(0) only runs what is already due, and under a long
computation others then waited half a second instead of milliseconds."""


def _call_in_thread(function: object, /, *arguments: object) -> object:
    return gevent.get_hub().threadpool.apply(function, arguments)


_cpu_pools: dict[int, ThreadPool] = {}
"""One for each process that asked: threads don't survive a fork."""


def _call_on_cpu(function: object, /, *arguments: object) -> object:
    pool = _cpu_pools.get(os.getpid())
    if pool is None:
        pool = _cpu_pools[os.getpid()] = ThreadPool(os.cpu_count() or 1)
    return pool.apply(function, arguments)


def _pause() -> None:
    gevent.sleep(PAUSE_SECONDS)


_thread_sleep = monkey.get_original("time", "sleep")
"""In a thread of the pool there is no hub to switch to: waiting for a lock file there is plain waiting."""

_Timer = monkey.get_original("threading", "Timer")


def _later(seconds: float, function: Callable[[], None]) -> None:
    """Call a blocking function after a while, in a thread of its own: it may be asked for from any thread."""
    timer = _Timer(seconds, function)
    timer.daemon = True
    timer.start()


GEVENT = Runtime(
    call_blocking=_call_in_thread,
    call_cpu=_call_on_cpu,
    pause=_pause,
    sleep=gevent.sleep,
    lock_sleep=_thread_sleep,
    later=_later,
)


def wait_writable(connection: Any) -> None:
    """Wait until a connection takes bytes again."""
    wait_write(connection.fileno())


def is_active() -> bool:
    """Whether gevent has taken over this process's sockets."""
    return bool(monkey.is_module_patched("socket"))
