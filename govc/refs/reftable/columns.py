"""Many refs without a Python object for each: names, oids and peeled oids as three byte strings.

`RefColumns` is to a reftable what `PackedRefs` is to packed-refs, with the same look-ups: positions in byte order of
names, bisected over an array of where each name starts. A ref costs its name, a byte, four bytes of array and one or
two oids.

Direct refs below refs/ go into the columns. The few others (symrefs, tombstones, HEAD and its like, broken ones) are
kept beside them, by name.

A record without a peeled oid is, by the format, no tag; git peels such a ref again all the same, because not every
program peels what it writes, and so do we. Only below refs/heads/, where tags can't be, the record is believed.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from govc.protocol.refname import check_refname_format
from govc.refs.loose import LooseRef
from govc.refs.packed import NOT_A_TAG, PackedEntry, are_ordinary
from govc.refs.reftable.format import RefRecord
from govc.refs.table import DELETED

_CHUNK = 1000
_BRANCHES: Final = b"refs/heads/"


class RefColumns:
    """Direct refs by position, in byte order of their names. Immutable."""

    __slots__ = ("_names", "_oid_size", "_oids", "_peeled", "_starts", "warnings")

    def __init__(self, names: bytes, oids: bytes, peeled: bytes, oid_size: int) -> None:
        """Take names, each ended by LF, and the oids behind one another.

        `peeled` holds as many as `oids`, zeros for those that aren't known, or is empty when none is.
        """
        self._names = names
        self._oids = oids
        self._peeled = peeled if any(peeled) else b""
        self._oid_size = oid_size
        self._starts = array("I" if len(names) < 1 << 32 else "Q")
        append, index, start = self._starts.append, names.index, 0
        while start < len(names):
            append(start)
            start = index(b"\n", start) + 1
        self.warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many refs there are."""
        return len(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def name_at(self, position: int) -> bytes:
        """Return the refname at a position."""
        start = self._starts[position]
        return self._names[start : self._names.index(b"\n", start)]

    def oid_at(self, position: int) -> bytes:
        """Return the raw oid at a position."""
        size = self._oid_size
        return self._oids[position * size : position * size + size]

    def peeled_at(self, position: int) -> bytes | None:
        """Return the peeled oid, NOT_A_TAG when there is none, None when the table doesn't say."""
        return self._peeled_of(self.name_at(position), position)

    def _peeled_of(self, name: bytes, position: int) -> bytes | None:
        if self._peeled:
            size = self._oid_size
            oid = self._peeled[position * size : position * size + size]
            if any(oid):
                return oid
        return NOT_A_TAG if name.startswith(_BRANCHES) else None

    def place_of(self, name: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of a refname: one, or none, and low is where it would stand."""
        names = self._names
        index = names.index
        low = bisect_left(self._starts, name, key=lambda start: names[start : index(b"\n", start)])
        return low, low + (low < len(self._starts) and self.name_at(low) == name)

    def find(self, name: bytes) -> int:
        """Return the position of a refname, or -1."""
        low, high = self.place_of(name)
        return low if high > low else -1

    def get(self, name: bytes) -> bytes | None:
        """Return the oid of a refname, or None."""
        position = self.find(name)
        return self.oid_at(position) if position >= 0 else None

    def range_of_prefix(self, prefix: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of the names that start with `prefix` (all for b"")."""
        if not prefix:
            return 0, len(self._starts)
        after = prefix.rstrip(b"\xff")
        low = self.place_of(prefix)[0]
        if not after:
            return low, len(self._starts)
        high = self.place_of(after[:-1] + bytes((after[-1] + 1,)))[0]
        return low, max(low, high)

    def iter_entries(self, low: int = 0, high: int | None = None) -> Iterator[PackedEntry]:
        """Yield the entries at positions [low, high) in order. Faster than asking for each."""
        size, oids, peeled = self._oid_size, self._oids, self._peeled
        position = low
        for name in self.iter_names(low, high):
            at = position * size
            target: bytes | None = peeled[at : at + size] if peeled else b""
            if not target or not any(target):
                target = NOT_A_TAG if name.startswith(_BRANCHES) else None
            yield PackedEntry(name, oids[at : at + size], target)
            position += 1

    def iter_names(self, low: int = 0, high: int | None = None) -> Iterator[bytes]:
        """Yield the names at positions [low, high) in order."""
        starts, names = self._starts, self._names
        count = len(starts)
        high = count if high is None else high
        for begin in range(low, high, _CHUNK):
            end = min(begin + _CHUNK, high)
            stop = starts[end] if end < count else len(names)
            yield from names[starts[begin] : stop - 1].split(b"\n")

    def replaced(self, changes: Iterable[tuple[bytes, bytes | None, bytes | None]]) -> "RefColumns":
        """Return columns with `changes` (name, oid or None to remove, peeled) worked in; ordered by name.

        What lies between two changes is copied as it is.
        """
        size = self._oid_size
        names: list[bytes] = []
        oids: list[bytes] = []
        peeled: list[bytes] = []
        peeled_before = self._peeled or bytes(len(self._oids))

        def copy(low: int, high: int) -> None:
            if low < high:
                end = self._starts[high] if high < len(self._starts) else len(self._names)
                names.append(self._names[self._starts[low] : end])
                oids.append(self._oids[low * size : high * size])
                peeled.append(peeled_before[low * size : high * size])

        done = 0
        for name, oid, target in changes:
            position, after = self.place_of(name)
            copy(done, position)
            done = after
            if oid is not None:
                names.append(name + b"\n")
                oids.append(oid)
                peeled.append(target or bytes(size))
        copy(done, len(self._starts))
        merged = RefColumns(b"".join(names), b"".join(oids), b"".join(peeled), size)
        merged.warnings = self.warnings
        return merged


class TableRefs(NamedTuple):
    """The refs of one table: columns, and by name what doesn't go there.

    `odd`: symrefs, broken refs and root refs, and DELETED for tombstones. `warnings`: about names left out.
    """

    columns: RefColumns
    odd: dict[bytes, LooseRef]
    warnings: tuple[str, ...]

    @property
    def name_count(self) -> int:
        """How many names there are."""
        return self.columns.count + len(self.odd)

    @classmethod
    def of(cls, records: Iterable[RefRecord], oid_size: int) -> "TableRefs":
        """Sort records, which come in order of their names, into columns and the rest."""
        builder = _Builder(oid_size)
        odd: dict[bytes, LooseRef] = {}
        for name, _, oid, peeled, target in records:
            if oid is None or not any(oid) or not name.startswith(b"refs/"):
                odd[name] = _odd_ref(oid, target)
            else:
                builder.add(name, oid, peeled)
        columns = builder.finish()
        for name in [name for name in odd if not check_refname_format(name, allow_onelevel=True)]:
            del odd[name]
            builder.warnings.append(_warning(name))
        return cls(columns, odd, tuple(builder.warnings))


class _Builder:
    """Columns as they grow, some refs at a time: never are there objects for all of them."""

    def __init__(self, oid_size: int) -> None:
        self._names: list[bytes] = []
        self._oids: list[bytes] = []
        self._peeled: list[bytes | None] = []
        self._columns: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        self._oid_size = oid_size
        self.warnings: list[str] = []

    def add(self, name: bytes, oid: bytes, peeled: bytes | None) -> None:
        """Add a direct ref."""
        self._names.append(name)
        self._oids.append(oid)
        self._peeled.append(peeled)
        if len(self._names) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        names, oids, peeled = self._names, self._oids, self._peeled
        if not names:
            return
        size = self._oid_size
        joined = b"\n".join(names) + b"\n"
        if not are_ordinary(joined) or len(names) != joined.count(b"\n"):
            kept = [position for position, name in enumerate(names) if check_refname_format(name)]
            self.warnings += [_warning(name) for name in names if not check_refname_format(name)]
            joined = b"".join(names[position] + b"\n" for position in kept)
            oids, peeled = [oids[position] for position in kept], [peeled[position] for position in kept]
        self._columns[0].append(joined)
        self._columns[1].append(b"".join(oids))
        unknown = bytes(size)
        self._columns[2].append(b"".join(oid or unknown for oid in peeled))
        self._names, self._oids, self._peeled = [], [], []

    def finish(self) -> RefColumns:
        """Return the columns."""
        self._flush()
        names, oids, peeled = (b"".join(column) for column in self._columns)
        return RefColumns(names, oids, peeled, self._oid_size)


def _warning(name: bytes) -> str:
    return f"ignoring ref with broken name {name[:255].decode('utf-8', 'backslashreplace')}"


def _odd_ref(oid: bytes | None, target: bytes | None) -> LooseRef:
    if target is not None:
        if check_refname_format(target, allow_onelevel=True):
            return LooseRef(None, target)
        return LooseRef(None, None, "symbolic ref to an ill-formed name")
    if oid is None:
        return DELETED
    if not any(oid):
        return LooseRef(None, None, "null object id")
    return LooseRef(oid, None)
