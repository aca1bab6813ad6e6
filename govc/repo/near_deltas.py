"""Deltas made while an answer is written, for objects whose stored delta stands on something that nobody has.

Such an object would be expanded. But its path has other versions: earlier ones that the client has, or a later one that
was expanded just before (packs hold the newest first). A delta on one of them costs less to compress than the object,
and is a fraction of its size. Bounded: so many objects of one answer, so many versions looked at, objects of so many
bytes.

Making one costs ten times what sending it does, and neighbours in time ask for the same: what was made is kept, within
a few megabytes for each worker (`MadeDeltas`).

Never a cycle: the base is at the client and not sent, or it was asked for here before, and stands on such a one itself.
"""

import zlib
from itertools import islice
from typing import Literal

from govc.errors import GovcError
from govc.graph.view import View
from govc.kernels.deltify import make_delta
from govc.kernels.packcopy import ForwardDelta
from govc.kernels.packread import PackReader, PackTable
from govc.kernels.sweep import Painting

OBJECTS_MAX = 400
VERSIONS_MAX = 12
OBJECT_BYTES_MAX = 1 << 20
COMPRESSION_LEVEL = 6
MADE_BYTES_MAX = 8 << 20
ENTRY_BYTES = 400
"""What one costs beside its stream: three names, a tuple, a place in the dictionary."""
EVICTED_AT_ONCE = 64


class MadeDeltas:
    """Deltas that were made for some answer, by repository, object and base; None for one that isn't worth it.

    Any thread may call: each step is one operation of a dictionary. What came first goes first.
    """

    def __init__(self, bytes_max: int = MADE_BYTES_MAX) -> None:
        self._made: dict[tuple[str, bytes, bytes], ForwardDelta | None] = {}
        self._bytes_max = bytes_max
        self._bytes = 0

    def get(self, key: tuple[str, bytes, bytes]) -> "ForwardDelta | Literal[False] | None":
        """Return what was made, False when nobody has tried."""
        return self._made.get(key, False)

    def put(self, key: tuple[str, bytes, bytes], delta: ForwardDelta | None) -> None:
        """Keep one."""
        if self._made.setdefault(key, delta) is delta:
            self._bytes += _cost(delta)
        while self._bytes > self._bytes_max and (oldest := list(islice(self._made, EVICTED_AT_ONCE))):
            for known in oldest:
                self._bytes -= _cost(self._made.pop(known, None))


def _cost(delta: ForwardDelta | None) -> int:
    return ENTRY_BYTES + (len(delta.stream) if delta is not None else 0)


class NearDeltas:
    """For one answer, in one thread at a time. `made`, `repository`: what was made before, and where."""

    def __init__(
        self,
        view: View,
        table: PackTable,
        reader: PackReader,
        painting: Painting,
        made: MadeDeltas | None = None,
        repository: str = "",
    ) -> None:
        self._made = made if made is not None else MadeDeltas()
        self._repository = repository
        self._view = view
        self._table = table
        self._reader = reader
        self._has = painting.has
        self._asked: set[int] = set()
        self._later: dict[int, int] = {}

    def __call__(self, number: int) -> ForwardDelta | None:
        """Return a delta for an object that would be expanded, None when that is the better way."""
        oid = self._table.oid_of(number)
        vid = self._view.sweep.vid_of(oid)
        if vid < 0:
            return None
        base_vid = self._find_base(vid) if len(self._asked) < OBJECTS_MAX else -1
        self._asked.add(vid)
        if base_vid < 0:
            return None
        base = self._view.sweep.object_oid(base_vid)
        base_number = self._table.find(base)
        if base_number < 0:
            return None  # it may have been packed when one was made, and be sent as a loose object now
        key = self._repository, oid, base
        known = self._made.get(key)
        if known is not False:
            return known
        try:
            if max(self._size_of(vid, number), self._size_of(base_vid, base_number)) > OBJECT_BYTES_MAX:
                return None
            content, base_content = self._reader.read(number)[1], self._reader.read(base_number)[1]
        except GovcError:
            return None  # expanding says what is wrong
        delta = make_delta(base_content, content, len(content) // 2)
        found = None if delta is None else ForwardDelta(base, len(delta), zlib.compress(delta, COMPRESSION_LEVEL))
        self._made.put(key, found)
        return found

    def _size_of(self, vid: int, number: int) -> int:
        """Return the size in bytes; a look into the pack is the longer way. Raises GovcError."""
        size = self._view.size_of(vid)
        return size if size >= 0 else self._reader.type_and_size(number)[1]

    def _find_base(self, vid: int) -> int:
        later = self._later.get(vid, -1)
        version, before, asked, has = vid, self._view.vid_before, self._asked, self._has
        for _ in range(VERSIONS_MAX):
            version = before(version)
            if version < 0 or version == vid:
                break
            self._later.setdefault(version, vid)
            if version in asked or has(version):
                return version
        return later
