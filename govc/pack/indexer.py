"""Indexing a received pack: from hostile bytes in a file to names, offsets and CRCs, in bounded memory.

The pack lies complete in a file that is open for reading (and writing, when it is thin). The scanner reads
it once from end to end, the resolver then makes the deltas' objects to learn their names; nothing that the
pack states about itself is believed. The bases that a thin pack lacks are appended to it, as `git
index-pack --fix-thin` does. Memory: about sixty bytes per object, the caches of IndexLimits, and for a
delta its base, itself and its result.

Duplicate objects are accepted, as git does when not told to be strict: the index then holds both.

Source: git's builtin/index-pack.c; gitformat-pack.
"""

import os
import zlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from govc.errors import CorruptPack
from govc.objects.types import COMMIT, TAG, TREE, hash_object
from govc.pack.entry import encode_entry_header
from govc.pack.format import encode_pack_header
from govc.pack.index_writer import encode_index_v2, encode_reverse_index
from govc.pack.inflate import iter_inflated
from govc.pack.limits import IndexLimits
from govc.pack.resolver import DeltaResolver
from govc.pack.scanner import WINDOW_BYTES, PackScanner
from govc.pack.tables import EntryTable, reorder_records, sort_by_oid
from govc.protocol.oid import HashAlgorithm

PHASE_INDEXING = "Indexing objects"
PHASE_RESOLVING = "Resolving deltas"

Reader = Callable[[bytes], tuple[int, bytes] | None]
"""Takes an oid; returns type (1 to 4) and content, or None when there is no such object."""

Progress = Callable[[str, int, int], None]
"""Takes the phase, how many are done, of how many."""

Visit = Callable[[bytes, int, bytes], None]
"""Takes oid, type and content of a commit, tree or tag."""

_VISITED_TYPES = frozenset((COMMIT, TREE, TAG))

_INDEX_MODE = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedPack:
    """What is known of a pack once it is indexed. The columns follow the index: ascending by oid.

    count              entries, the appended bases included
    object_count_received   entries that the peer sent
    delta_count        how many of those were deltas
    pack_checksum      the trailer of the file as it now is; pack_size its size in bytes
    oids_sorted        raw oids; beside them offsets (array of Q), crcs (array of I), types (1 to 4, bytes)
    positions          array of I: idx positions in the order of the pack
    known_positions    array of I: idx positions of objects that `known` knew before
    """

    algo: HashAlgorithm
    count: int
    object_count_received: int
    delta_count: int
    pack_checksum: bytes
    pack_size: int
    oids_sorted: bytes = field(repr=False)
    offsets: "array[int]" = field(repr=False)
    crcs: "array[int]" = field(repr=False)
    types: bytes = field(repr=False)
    positions: "array[int]" = field(repr=False)
    known_positions: "array[int]" = field(repr=False)

    @property
    def thin_bases_appended(self) -> int:
        """How many bases the pack lacked."""
        return self.count - self.object_count_received

    def oid_at(self, position: int) -> bytes:
        """Return the oid at an idx position."""
        size = self.algo.oid_size
        return self.oids_sorted[position * size : position * size + size]

    def write_index(self, target: int | str) -> None:
        """Write the index (version 2) to a descriptor, or to a new file of mode 0444. Nothing is synced."""
        chunks = encode_index_v2(self.algo, self.oids_sorted, self.crcs, self.offsets, self.pack_checksum)
        _write_to(target, chunks)

    def write_reverse_index(self, target: int | str) -> None:
        """Write the reverse index, likewise."""
        _write_to(target, encode_reverse_index(self.algo, self.positions, self.pack_checksum))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_to(target: int | str, chunks: Iterable[bytes]) -> None:
    if isinstance(target, int):
        for chunk in chunks:
            _write_all(target, chunk)
        return
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _INDEX_MODE)
    try:
        _write_to(fd, chunks)
    finally:
        os.close(fd)


class _Recorder:
    """Takes every object once its name is known: fills the table, compares with what exists, visits."""

    def __init__(
        self,
        fd: int,
        table: EntryTable,
        *,
        known: Callable[[bytes], bool] | None,
        existing_reader: Reader | None,
        visit: Visit | None,
    ) -> None:
        self._fd = fd
        self._table = table
        self._known = known
        self._existing_reader = existing_reader
        self._visit = visit
        self._streamed: array[int] = array("I")
        self.known_entries: array[int] = array("I")

    def record(self, entry: int, type_number: int, oid: bytes, content: bytes | None) -> None:
        """Note one object; `content` is None when it was streamed."""
        table = self._table
        table.types[entry] = type_number
        table.oids[entry * len(oid) : entry * len(oid) + len(oid)] = oid
        if self._known is not None and self._known(oid):
            self.known_entries.append(entry)
            if content is None:
                self._streamed.append(entry)  # where it ends is known after the scan only
            elif self._existing_reader is not None:
                existing = self._existing_reader(oid)
                if existing is not None and existing != (type_number, content):
                    raise self._collision(oid)
        if self._visit is not None and content is not None and type_number in _VISITED_TYPES:
            self._visit(oid, type_number, content)

    def check_streamed(self) -> None:
        """Compare the large blobs that exist already, piece by piece, once the scan is over."""
        if self._existing_reader is None:
            return
        size = self._table.algo.oid_size
        for entry in self._streamed:
            oid = bytes(self._table.oids[entry * size : entry * size + size])
            existing = self._existing_reader(oid)
            if existing is not None and not self._equals(entry, *existing):
                raise self._collision(oid)

    def _equals(self, entry: int, type_number: int, content: bytes) -> bool:
        if type_number != self._table.types[entry]:
            return False
        view = memoryview(content)
        at = 0
        for piece in iter_inflated(self._fd, self._table, entry):
            if view[at : at + len(piece)] != piece:
                return False
            at += len(piece)
        return at == len(content)

    def _collision(self, oid: bytes) -> CorruptPack:
        return CorruptPack(f"{self._table.algo.name.upper()} COLLISION FOUND WITH {oid.hex()} !")


def _append_base(fd: int, table: EntryTable, at: int, type_number: int, oid: bytes, content: bytes) -> int:
    """Write a whole object at `at`, where the entries end, and add its row; return the entry."""
    raw = encode_entry_header(type_number, len(content)) + zlib.compress(content)
    view = memoryview(raw)
    end = at + len(raw)
    while view:
        view = view[os.pwrite(fd, view, end - len(view)) :]
    return table.append(end, zlib.crc32(raw), type_number, oid)


def _complete_thin_pack(fd: int, table: EntryTable, resolver: DeltaResolver, base_reader: Reader) -> bytes | None:
    """Append the bases that the pack lacks, resolve what stands on them; return the new checksum, if any."""
    received = table.count
    for oid in resolver.iter_missing_bases():
        found = base_reader(oid)
        if found is None:
            continue
        type_number, content = found
        if hash_object(table.algo, type_number, content) != oid:
            raise CorruptPack(f"base {oid.hex()} is corrupt")
        base = _append_base(fd, table, table.offsets[table.count], type_number, oid, content)
        resolver.resolve_from(base, content)
    return _rewrite_frame(fd, table) if table.count > received else None


def _rewrite_frame(fd: int, table: EntryTable) -> bytes:
    """Write the header's count and the trailer anew; return the checksum."""
    end = table.offsets[table.count]
    os.pwrite(fd, encode_pack_header(table.count), 0)
    hasher = table.algo.new()
    for at in range(0, end, WINDOW_BYTES):
        hasher.update(os.pread(fd, min(WINDOW_BYTES, end - at), at))
    checksum = hasher.digest()
    os.pwrite(fd, checksum, end)
    os.ftruncate(fd, end + len(checksum))
    return checksum


def _resolve_deltas(
    fd: int,
    scanner: PackScanner,
    recorder: _Recorder,
    limits: IndexLimits,
    *,
    base_reader: Reader | None,
    tick: Callable[[int], None],
) -> bytes | None:
    """Name every delta; return the new checksum when the pack was thin. What it took is free afterwards."""
    table = scanner.table
    delta_count = table.types.count(0)
    resolver = DeltaResolver(
        fd,
        table,
        limits,
        scanner.expansion,
        delta_cache=scanner.delta_cache,
        record=recorder.record,
        tick=tick,
    )
    checksum = None
    resolver.resolve_whole()
    if resolver.resolved_count < delta_count and base_reader is not None:
        checksum = _complete_thin_pack(fd, table, resolver, base_reader)
    left = delta_count - resolver.resolved_count
    if left:
        raise CorruptPack(f"pack has {left} unresolved delta{'s' if left > 1 else ''}")
    return checksum


def _sorted_result(
    scanner: PackScanner, recorder: _Recorder, *, received: int, delta_count: int, pack_checksum: bytes
) -> IndexedPack:
    """Bring the columns into the order of the index."""
    table = scanner.table
    table.drop_links()
    size = table.algo.oid_size
    order = sort_by_oid(table.oids, size)
    oids, offsets, crcs, types = table.oids, table.offsets, table.crcs, table.types
    positions = array("I", bytes(4 * table.count))
    for position, entry in enumerate(order):
        positions[entry] = position
    return IndexedPack(
        algo=table.algo,
        count=table.count,
        object_count_received=received,
        delta_count=delta_count,
        pack_checksum=pack_checksum,
        pack_size=offsets[table.count] + size,
        oids_sorted=reorder_records(oids, order, size),
        offsets=array("Q", map(offsets.__getitem__, order)),
        crcs=array("I", map(crcs.__getitem__, order)),
        types=bytes(map(types.__getitem__, order)),
        positions=positions,
        known_positions=array("I", sorted(positions[entry] for entry in recorder.known_entries)),
    )


def index_pack(
    fd: int,
    algo: HashAlgorithm,
    *,
    base_reader: Reader | None = None,
    limits: IndexLimits | None = None,
    progress: Progress | None = None,
    known: Callable[[bytes], bool] | None = None,
    existing_reader: Reader | None = None,
    visit: Visit | None = None,
) -> IndexedPack:
    """Index the complete pack in the file `fd`. Only a thin one is written to, and only with a `base_reader`.

    `known` tells whether an object exists already; with `existing_reader` the contents of such objects are
    compared. `visit` is handed every commit, tree and tag, a delta's after its base's, in no other promised
    order. `progress` is called every few milliseconds of work; it may switch to other greenlets, or raise
    to give up.

    Raises CorruptPack, and LimitExceeded. What the file holds after an error is of no use.
    """

    def tell(phase: str, done: int, total: int) -> None:
        if progress is not None:
            progress(phase, done, total)

    scanner = PackScanner(
        fd,
        algo,
        limits or IndexLimits(),
        whole_types=_VISITED_TYPES if visit is not None else frozenset(),
        tick=lambda done: tell(PHASE_INDEXING, done, received),
    )
    table = scanner.table
    received = table.count
    recorder = _Recorder(fd, table, known=known, existing_reader=existing_reader, visit=visit)
    scanner.scan(recorder.record)
    tell(PHASE_INDEXING, received, received)
    recorder.check_streamed()
    delta_count = table.types.count(0)
    checksum = scanner.pack_checksum
    if delta_count:
        checksum = (
            _resolve_deltas(
                fd,
                scanner,
                recorder,
                limits or IndexLimits(),
                base_reader=base_reader,
                tick=lambda done: tell(PHASE_RESOLVING, done, delta_count),
            )
            or checksum
        )
        tell(PHASE_RESOLVING, delta_count, delta_count)
    return _sorted_result(scanner, recorder, received=received, delta_count=delta_count, pack_checksum=checksum)
