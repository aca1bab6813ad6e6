"""A cache of values by name with a budget in bytes: what is asked for again costs a look-up, and nothing else.

An `ObjectCache` is read by `cache[name]`: a hit is one look at an open hash of our own (names are hashes already, so
none is computed; a random odd factor keeps strangers from choosing names that collide) and one count. Who asks with the
very object that the value was put with, as programs do that hold their names, is answered by its address: one look at a
second table beside it, and nothing of the name is read. A miss calls
`missing(name)`, which a kind of cache defines: it reads the object and may `put` it.

**Who is dropped** (S3-FIFO). New entries stand in a small queue of a tenth of the budget. One that was asked for
while it was there moves to the main queue; the others leave behind the mark of their name, and who comes back while
the mark is known starts in the main queue. The main queue is a clock: the oldest gets another round for each time
that it was asked for, three at most. So one pass over all objects (a log, a listing) doesn't drive out what is used
every day, and a hit moves nothing. bench/policies.py (run by bench.reads) compares this with LRU, a plain clock and
first-in-first-out: bench/READS.md.

**What an entry costs**: what its owner says, and ENTRY_BYTES for our slot, the name and the places in the hash. What
would take more than an eighth of the budget isn't kept. Values that are in use elsewhere live on there; they are no
longer counted.

Threads: each call holds the GIL from beginning to end (the twin: a lock where it writes).

Source: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023).
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from govc.kernels.choice import choose

__all__ = ["ENTRY_BYTES", "ObjectCache"]

if TYPE_CHECKING:
    ENTRY_BYTES: int

    class ObjectCache:
        """Values by name. A name is `bytes` of at least 8."""

        budget_bytes: int
        hits: int
        misses: int
        used_bytes: int

        entry_count: int

        entry_bytes_max: int

        def __init__(self, budget_bytes: int, entry_bytes_max: int = 0) -> None:
            """`entry_bytes_max`: what costs more isn't kept; 0 stands for an eighth of the budget."""

        def __getitem__(self, name: bytes) -> Any: ...
        def missing(self, name: bytes) -> Any:
            """Return what `cache[name]` returns for a name that isn't here; a kind of cache overrides it."""

        def peek(self, name: bytes) -> Any:
            """Return the value, None when it isn't here; asks nobody."""

        def iter_many(self, names: Iterable[bytes]) -> Iterator[Any]:
            """Yield what `cache[name]` returns for each name; what it raises is raised when its turn comes.

            Where one isn't here, it and those of the next thousand that aren't are shown to `read_ahead` first.
            """

        def read_ahead(self, names: list[bytes]) -> dict[bytes, tuple[Any, int]]:
            """Return values and their costs, of names that aren't here; each is put when its turn comes.

            Those that are left out are asked of `missing` then. A kind of cache overrides it where reading many
            together costs less. The twin never asks.
            """

        def put(self, name: bytes, value: object, cost: int) -> None:
            """Keep a value of `cost` bytes, unless the name is there or the value too large."""

        def resize(self, budget_bytes: int) -> None:
            """Change the budget, and drop what doesn't fit any more. How large an entry may be stays what it was."""

        def clear(self) -> None:
            """Forget everything."""

else:
    _module = choose("objectcache")
    ENTRY_BYTES = _module.ENTRY_BYTES
    ObjectCache = _module.ObjectCache
