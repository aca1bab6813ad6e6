"""A cache of values by name with a budget in bytes, in pure Python; the story is in `objectcache`."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

ENTRY_BYTES = 400
"""An entry here is a list in an ordered dictionary."""

_FREQUENCY_MAX = 3
_SMALL_SHARE = 10
_VALUE, _COST, _FREQUENCY = range(3)


class ObjectCache:
    """See objectcache.ObjectCache."""

    def __init__(self, budget_bytes: int, entry_bytes_max: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self.entry_bytes_max = entry_bytes_max or budget_bytes // 8
        self.hits = 0
        self.misses = 0
        self.used_bytes = 0
        self._small: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._main: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._small_used = 0
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._ghosts_max = max(256, budget_bytes // 4096)
        self._lock = threading.Lock()

    def __getitem__(self, name: bytes) -> Any:
        found = self._main.get(name) or self._small.get(name)
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
        found = self._main.get(name) or self._small.get(name)
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

    def put(self, name: bytes, value: object, cost: int) -> None:
        """See objectcache.ObjectCache."""
        if len(name) < 8:
            raise ValueError("a key is a name of 8 bytes or more")
        cost += ENTRY_BYTES
        if cost > self.entry_bytes_max:
            return
        with self._lock:
            if name in self._main or name in self._small:
                return
            self.used_bytes += cost
            mark = hash(name)
            if mark in self._ghosts:
                del self._ghosts[mark]
                self._main[name] = [value, cost, 0]
            else:
                self._small[name] = [value, cost, 0]
                self._small_used += cost
            while self.used_bytes > self.budget_bytes:
                self._evict()

    def _evict(self) -> None:
        if self._small and (self._small_used * _SMALL_SHARE > self.budget_bytes or not self._main):
            name, entry = self._small.popitem(last=False)
            self._small_used -= entry[_COST]
            if entry[_FREQUENCY]:
                entry[_FREQUENCY] = 0
                self._main[name] = entry
                return
            self.used_bytes -= entry[_COST]
            self._ghosts[hash(name)] = None
            if len(self._ghosts) > self._ghosts_max:
                self._ghosts.popitem(last=False)
            return
        while True:
            name, entry = self._main.popitem(last=False)
            if not entry[_FREQUENCY]:
                self.used_bytes -= entry[_COST]
                return
            entry[_FREQUENCY] -= 1
            self._main[name] = entry

    def resize(self, budget_bytes: int) -> None:
        """See objectcache.ObjectCache."""
        with self._lock:
            self.budget_bytes = budget_bytes
            while self.used_bytes > budget_bytes:
                self._evict()

    def clear(self) -> None:
        """See objectcache.ObjectCache."""
        with self._lock:
            self._small.clear()
            self._main.clear()
            self.used_bytes = self._small_used = 0

    @property
    def entry_count(self) -> int:
        """How many values are kept."""
        return len(self._small) + len(self._main)
