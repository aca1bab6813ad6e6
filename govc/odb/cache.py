"""A cache of inflated objects with a budget in bytes: mostly the bases of delta chains.

Least recently used goes first. Nothing that isn't there is remembered (no object's absence can be cached).
"""

from collections import OrderedDict
from typing import NamedTuple

_OVERHEAD_BYTES = 200
_SHARE_MAX = 8


class CacheStatistics(NamedTuple):
    """Counts since the cache was made; `used_bytes` of `budget_bytes` right now."""

    hits: int
    misses: int
    entries: int
    used_bytes: int
    budget_bytes: int


class BaseCache:
    """Type and content of objects by (identity of the pack, offset).

    An object larger than an eighth of the budget isn't kept: it would drive out everything else.
    """

    __slots__ = ("_budget_bytes", "_entries", "_hits", "_misses", "_used_bytes")

    def __init__(self, budget_bytes: int = 16 << 20) -> None:
        self._entries: OrderedDict[tuple[int, int], tuple[int, bytes]] = OrderedDict()
        self._budget_bytes = budget_bytes
        self._used_bytes = 0
        self._hits = 0
        self._misses = 0

    def get(self, key: tuple[int, int]) -> tuple[int, bytes] | None:
        """Return (type, content), or None."""
        found = self._entries.get(key)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, key: tuple[int, int], value: tuple[int, bytes]) -> None:
        """Remember, and forget what was used longest ago until the budget holds."""
        cost = len(value[1]) + _OVERHEAD_BYTES
        if cost * _SHARE_MAX > self._budget_bytes or key in self._entries:
            return
        self._entries[key] = value
        self._used_bytes += cost
        while self._used_bytes > self._budget_bytes:
            _, (_, content) = self._entries.popitem(last=False)
            self._used_bytes -= len(content) + _OVERHEAD_BYTES

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._used_bytes = 0

    def statistics(self) -> CacheStatistics:
        """Return the counts."""
        return CacheStatistics(self._hits, self._misses, len(self._entries), self._used_bytes, self._budget_bytes)


class StoreStatistics(NamedTuple):
    """Sizes of one store; `descriptors` and `mapped_bytes` are what its packs hold (perhaps shared with
    others).
    """

    packs: int
    packed_objects: int
    loose_objects_seen: int
    descriptors: int
    mapped_bytes: int
    pack_bytes: int
    cache: CacheStatistics
