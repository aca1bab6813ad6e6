"""How a process with gevent waits: off the hub. Only imported where gevent already runs the sockets.

What is called in a thread of a pool has the context of its caller (which request it works for, for logs and phases),
and what it raises is raised in the caller alone: gevent would print the traceback of everything that leaves a thread,
the expected refusals too, past our log and its redaction.

Nothing that is called there may wait for a lock that gevent has replaced (`threading.Lock`): there is no hub to wake
who waits, so he may wait for ever (tests/web/test_pool_threads.py). `_thread.RLock` is the kernel's threads'.
"""

import os
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import gevent
from gevent import monkey
from gevent.socket import wait_write
from gevent.threadpool import ThreadPool

from govc.repo.runtime import Runtime

PAUSE_SECONDS = 0.0001
"""A pause that lets the hub look at its sockets: sleep(0) only runs what is already due, and under a long
computation others then waited half a second instead of milliseconds."""


def call_in_pool(pool: ThreadPool, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call it in a thread of the pool; return its result or raise what it raised. May switch."""
    result, error = pool.apply(copy_context().run, (_catch, function, arguments))
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # its traceback holds this frame


def _catch(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return function(*arguments), None
    except BaseException as error:
        return None, error


def _call_in_thread(function: Callable[..., Any], /, *arguments: Any) -> Any:
    return call_in_pool(gevent.get_hub().threadpool, function, arguments)


_cpu_pools: dict[int, ThreadPool] = {}
"""One for each process that asked: threads don't survive a fork."""


def _call_on_cpu(function: Callable[..., Any], /, *arguments: Any) -> Any:
    pool = _cpu_pools.get(os.getpid())
    if pool is None:
        pool = _cpu_pools[os.getpid()] = ThreadPool(os.cpu_count() or 1)
    return call_in_pool(pool, function, arguments)


def _pause() -> None:
    gevent.sleep(PAUSE_SECONDS)


_thread_sleep = monkey.get_original("time", "sleep")
"""In a thread of the pool there is no hub to switch to: waiting for a lock file there is plain waiting."""

_thread_of = monkey.get_original("_thread", "get_ident")
_hub, _hub_thread = gevent.get_hub(), _thread_of()
"""Of the thread that serves, in the master and its forks; a thread of a pool that asks for its own hub is made one,
which never runs."""


def _later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function after a while, in a greenlet of the hub's; it may be asked for from any thread.

    threading.Timer would not do, patched or not: its thread is a greenlet of whoever starts it, and in a thread of a
    pool there is nobody to run one.
    """
    if _thread_of() == _hub_thread:
        gevent.spawn_later(seconds, function)
    else:
        _hub.loop.run_callback_threadsafe(gevent.spawn_later, seconds, function)


def call_soon(seconds: float, function: Callable[[], None]) -> None:
    """Call a function that doesn't block after a while, on the hub's own thread, from where it has to be asked for."""
    gevent.spawn_later(seconds, function)


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
