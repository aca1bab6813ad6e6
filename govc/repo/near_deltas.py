"""Deltas made while an answer is written, for objects whose stored delta stands on something that nobody has.

Such an object would be expanded. But its path has other versions: earlier ones that the client has, or a later one that
was expanded just before (packs hold the newest first). A delta on one of them costs less to compress than the object,
and is a fraction of its size. Bounded: so many objects of one answer, so many versions looked at, objects of so many
bytes.

Never a cycle: the base is at the client and not sent, or it was asked for here before, and stands on such a one itself.
"""

import zlib

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


class NearDeltas:
    """For one answer, in one thread at a time."""

    def __init__(self, view: View, table: PackTable, reader: PackReader, painting: Painting) -> None:
        self._view = view
        self._table = table
        self._reader = reader
        self._has = painting.has_name
        self._asked: set[bytes] = set()
        self._later: dict[bytes, bytes] = {}

    def __call__(self, number: int) -> ForwardDelta | None:
        """Return a delta for an object that would be expanded, None when that is the better way."""
        oid = self._table.oid_of(number)
        base = self._find_base(oid) if len(self._asked) < OBJECTS_MAX else None
        self._asked.add(oid)
        if base is None:
            return None
        base_number = self._table.find(base)
        if base_number < 0:
            return None
        try:
            if max(self._reader.type_and_size(n)[1] for n in (number, base_number)) > OBJECT_BYTES_MAX:
                return None
            content, base_content = self._reader.read(number)[1], self._reader.read(base_number)[1]
        except GovcError:
            return None  # expanding says what is wrong
        delta = make_delta(base_content, content, len(content) // 2)
        return None if delta is None else ForwardDelta(base, len(delta), zlib.compress(delta, COMPRESSION_LEVEL))

    def _find_base(self, oid: bytes) -> bytes | None:
        later = self._later.get(oid)
        version: bytes | None = oid
        for _ in range(VERSIONS_MAX):
            version = self._view.before(version) if version is not None else None
            if version is None or version == oid:
                break
            self._later.setdefault(version, oid)
            if version in self._asked or self._has(version):
                return version
        return later
