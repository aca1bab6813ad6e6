"""A cache of values by name with a budget in bytes, in pure Python; the story is in `objectcache`."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, heapreplace
from typing import Any

ENTRY_BYTES = 400
"""An entry here is a list in a dictionary, and a tuple in the heap."""

_FREQUENCY_MAX = 3
_ASKED_MAX = 15
_NEVER_ASKED_AGAIN = 0.1
_WINDOW_PARTS = 8
_VALUE, _COST, _FREQUENCY, _ASKED, _WORTH = range(5)


class ObjectCache:
    """See objectcache.ObjectCache."""

    def __init__(self, budget_bytes: int, entry_bytes_max: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self.entry_bytes_max = entry_bytes_max or budget_bytes // 8
        self.hits = 0
        self.misses = 0
        self.used_bytes = 0
        self._window: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._window_used = 0
        self._main: dict[bytes, list[Any]] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._floor = 0.0
        self._lock = threading.Lock()

    def __getitem__(self, name: bytes) -> Any:
        found = self._main.get(name) or self._window.get(name)
        if found is None:
            self.misses += 1
            return self.missing(name)
        self.hits += 1
        if found[_FREQUENCY] < _FREQUENCY_MAX:
            found[_FREQUENCY] += 1
        return found[_VALUE]

    def missing(self, name: bytes) -> Any:
        """See objectcache.ObjectCache."""
        raise KeyError(name)

    def peek(self, name: bytes) -> Any:
        """See objectcache.ObjectCache."""
        found = self._main.get(name) or self._window.get(name)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        if found[_FREQUENCY] < _FREQUENCY_MAX:
            found[_FREQUENCY] += 1
        return found[_VALUE]

    def iter_many(self, names: Iterable[bytes]) -> Iterator[Any]:
        """See objectcache.ObjectCache; nothing is read ahead here."""
        return map(self.__getitem__, names)

    def read_ahead(self, names: list[bytes]) -> dict[bytes, tuple[Any, int]]:
        """See objectcache.ObjectCache."""
        return {}

    def put(self, name: bytes, value: object, cost: int, worth: float = 1) -> None:
        """See objectcache.ObjectCache."""
        if len(name) < 8:
            raise ValueError("a key is a name of 8 bytes or more")
        cost += ENTRY_BYTES
        if cost > self.entry_bytes_max:
            return
        with self._lock:
            if name in self._main or name in self._window:
                return
            self.used_bytes += cost
            self._join_window(name, [value, cost, 0, 1, worth])
            # Those before it go first, or stand in line behind it.
            while self._window_used * _WINDOW_PARTS > self.budget_bytes and next(iter(self._window)) is not name:
                self._leave_window()
            while self.used_bytes > self.budget_bytes:
                self._evict()

    def _join_window(self, name: bytes, entry: list[Any]) -> None:
        self._window[name] = entry
        self._window_used += entry[_COST]

    def _leave_window(self) -> None:
        name, entry = self._window.popitem(last=False)
        self._window_used -= entry[_COST]
        if _was_asked(entry):
            self._join_window(name, entry)
            return
        self._main[name] = entry
        heappush(self._heap, (self._floor + _value_of(entry), name))

    def _evict(self) -> None:
        if not self._heap:
            self.used_bytes -= self._window.popitem(last=False)[1][_COST]
            self._window_used = self.used_bytes
            return
        rank, name = self._heap[0]
        entry = self._main[name]
        while _was_asked(entry):
            heapreplace(self._heap, (rank + _value_of(entry), name))
            rank, name = self._heap[0]
            entry = self._main[name]
        heappop(self._heap)
        self._floor = rank
        del self._main[name]
        self.used_bytes -= entry[_COST]

    def resize(self, budget_bytes: int) -> None:
        """See objectcache.ObjectCache."""
        with self._lock:
            self.budget_bytes = budget_bytes
            while self.used_bytes > budget_bytes:
                self._evict()

    def clear(self) -> None:
        """See objectcache.ObjectCache."""
        with self._lock:
            self._window.clear()
            self._main.clear()
            self._heap.clear()
            self._floor = 0.0
            self.used_bytes = self._window_used = 0

    @property
    def entry_count(self) -> int:
        """How many values are kept."""
        return len(self._window) + len(self._main)


def _was_asked(entry: list[Any]) -> bool:
    """Tell whether an entry was asked for since it was looked at last, and add that up."""
    frequency = entry[_FREQUENCY]
    entry[_FREQUENCY] = 0
    entry[_ASKED] = min(_ASKED_MAX, entry[_ASKED] + frequency)
    return bool(frequency)


def _value_of(entry: list[Any]) -> float:
    asked = entry[_ASKED] if entry[_ASKED] > 1 else _NEVER_ASKED_AGAIN
    return float(asked * entry[_WORTH] / entry[_COST])
