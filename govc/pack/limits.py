"""How much a received pack may ask of us. Every number has a name, and passing one raises LimitExceeded."""

from govc.errors import LimitExceeded

_MIB = 1 << 20
_GIB = 1 << 30


class IndexLimits:
    """Ceilings for indexing one pack, all but the ratio in bytes.

    object_bytes_max          one inflated entry, streamed if it is a large blob
    delta_result_bytes_max    one object held in memory: what a delta makes, or is applied to
    expansion_bytes_base, expansion_ratio_max
                              everything inflated and rebuilt together: at most base + ratio * pack size
    stream_bytes_min          blobs larger than this are hashed as they inflate and never held whole
    delta_cache_bytes         deltas kept from the first pass to the second
    base_cache_bytes          bases kept while their deltas are being resolved
    """

    __slots__ = (
        "base_cache_bytes",
        "delta_cache_bytes",
        "delta_result_bytes_max",
        "expansion_bytes_base",
        "expansion_ratio_max",
        "object_bytes_max",
        "stream_bytes_min",
    )

    def __init__(
        self,
        *,
        object_bytes_max: int = 16 * _GIB,
        delta_result_bytes_max: int = 512 * _MIB,
        expansion_bytes_base: int = 4 * _GIB,
        expansion_ratio_max: int = 2000,
        stream_bytes_min: int = _MIB,
        delta_cache_bytes: int = 8 * _MIB,
        base_cache_bytes: int = 16 * _MIB,
    ) -> None:
        self.object_bytes_max = object_bytes_max
        self.delta_result_bytes_max = delta_result_bytes_max
        self.expansion_bytes_base = expansion_bytes_base
        self.expansion_ratio_max = expansion_ratio_max
        self.stream_bytes_min = stream_bytes_min
        self.delta_cache_bytes = delta_cache_bytes
        self.base_cache_bytes = base_cache_bytes

    def replace(self, **changes: int) -> "IndexLimits":
        """Return other limits, which are these but for the ones named."""
        return IndexLimits(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def within(self, others: "IndexLimits") -> "IndexLimits":
        """Return these limits where they are tighter than those of `others`, about single objects."""
        return self.replace(
            object_bytes_max=min(self.object_bytes_max, others.object_bytes_max),
            delta_result_bytes_max=min(self.delta_result_bytes_max, others.delta_result_bytes_max),
        )


class Expansion:
    """The running total of inflated and rebuilt bytes of one pack against its ceiling; `left` is how far that is."""

    def __init__(self, limits: IndexLimits, pack_size: int) -> None:
        self._limit = self.left = limits.expansion_bytes_base + limits.expansion_ratio_max * pack_size

    def add(self, size: int) -> None:
        """Count `size` bytes before they are made."""
        self.left -= size
        if self.left < 0:
            raise LimitExceeded("pack expansion bytes", self._limit, self._limit - self.left)
