"""How many credentials are checked at once: checking costs CPU (hashes) or somebody else's patience (introspection).

Three things keep a crowd from hurting:

- `ExpiringCache`: what was found lately is not computed again. git sends its password with every request.
- `Flights`: who asks what is being computed already waits for that answer. A hundred CI jobs start with one password.
- `Gate`: a few at once and a bounded number behind them. Clients take turns, and when the queue is full its longest
  line gives way: who guesses passwords waits behind himself, not in front of others.

All waits are bounded. Locks are the standard library's, which gevent makes cooperative. May switch.
"""

import contextlib
import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Clock = Callable[[], float]


class Busy(Exception):
    """No place, or not in time; `str` says which limit it was."""


class ExpiringCache(Generic[K, V]):
    """A bounded memory whose entries end; the oldest leave first."""

    def __init__(self, entries_max: int, clock: Clock = time.monotonic) -> None:
        self._entries_max = entries_max
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return what was put under the key, None when that is over."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[1] <= self._clock():
            self._entries.pop(key, None)
            return None
        return found[0]

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep a value for so long."""
        if seconds <= 0:
            return
        self._entries.pop(key, None)
        self._entries[key] = (value, self._clock() + seconds)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class _Waiter:
    __slots__ = ("is_admitted", "is_refused", "turn")

    def __init__(self) -> None:
        self.turn = threading.Event()
        self.is_admitted = False
        self.is_refused = False


class Gate:
    """At most `running_max` inside and `waiting_max` before it; the clients that wait are let in by turns."""

    def __init__(self, *, running_max: int, waiting_max: int, wait_seconds: float) -> None:
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._running = 0
        self._waiting = 0
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    @contextlib.contextmanager
    def enter(self, client: str | None) -> Iterator[None]:
        """Wait for a place and hold it. Raises Busy."""
        self._wait_for_place(client_key(client))
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._admit_next()

    def _wait_for_place(self, client: str) -> None:
        with self._lock:
            if self._running < self._running_max:
                self._running += 1
                return
            if self._waiting >= self._waiting_max:
                self._make_room_for(client)
            waiter = _Waiter()
            self._queues.setdefault(client, deque()).append(waiter)
            self._waiting += 1
        try:
            waiter.turn.wait(self._wait_seconds)
        except BaseException:
            self._give_up(client, waiter)
            raise
        if not waiter.is_admitted and self._leave(client, waiter):
            raise Busy("too many wait" if waiter.is_refused else "waited too long")

    def _leave(self, client: str, waiter: _Waiter) -> bool:
        """Take somebody out of the queue; False when it was that one's turn just now."""
        with self._lock:
            if waiter.is_admitted:
                return False
            queue = self._queues.get(client)
            if queue is not None and waiter in queue:
                queue.remove(waiter)
                self._waiting -= 1
                if not queue:
                    del self._queues[client]
            return True

    def _give_up(self, client: str, waiter: _Waiter) -> None:
        """Clean up behind a waiter that was killed."""
        if not self._leave(client, waiter):
            with self._lock:
                self._running -= 1
                self._admit_next()

    def _make_room_for(self, client: str) -> None:
        """Send the last one of the longest queue away, unless that queue is the newcomer's own. Raises Busy."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]))
        if len(self._queues[longest]) <= len(self._queues.get(client, ())) + 1:
            raise Busy("too many wait")
        waiter = self._queues[longest].pop()
        self._waiting -= 1
        waiter.is_refused = True
        waiter.turn.set()

    def _admit_next(self) -> None:
        """Let the next client's first one in; that client's others wait behind the other clients."""
        if self._running >= self._running_max or not self._queues:
            return
        client, queue = self._queues.popitem(last=False)
        waiter = queue.popleft()
        self._waiting -= 1
        if queue:
            self._queues[client] = queue
        self._running += 1
        waiter.is_admitted = True
        waiter.turn.set()


def client_key(address: str | None) -> str:
    """Return what counts as one client: an address, and of IPv6 the /64, of which one person has all."""
    if address is None or ":" not in address:
        return address or ""
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


class _Flight(Generic[V]):
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.result: V | None = None
        self.error: Exception | None = None


class Flights(Generic[K, V]):
    """Computations under way, one per key."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._under_way: dict[K, _Flight[V]] = {}

    def run(self, key: K, compute: Callable[[], V]) -> V:
        """Return what `compute` gives, or what the one who asked first gets (an exception is shared too). Raises
        Busy.
        """
        with self._lock:
            flight = self._under_way.get(key)
            is_first = flight is None
            if flight is None:
                flight = self._under_way[key] = _Flight()
        if not is_first:
            return self._join(flight)
        try:
            flight.result = compute()
        except Exception as error:
            flight.error = error
            raise
        except BaseException:
            flight.error = Busy("the check was given up")
            raise
        finally:
            with self._lock:
                del self._under_way[key]
            flight.landed.set()
        return flight.result

    def _join(self, flight: _Flight[V]) -> V:
        if not flight.landed.wait(self._wait_seconds):
            raise Busy("waited too long")
        if flight.error is not None:
            raise flight.error
        return flight.result  # type: ignore[return-value]
