"""Indexing a received pack: from hostile bytes in a file to names, offsets and CRCs, in bounded memory.

The pack lies complete in a file that is open for reading (and writing, when it is thin). The first pass reads
it once from end to end, the second makes the deltas' objects to learn their names; nothing that the
pack states about itself is believed. Both passes are a compiled kernel (`compiled`) where there is one, else pure
Python (`passes`). The bases that a thin pack lacks are appended to it (`thin`). Memory: about sixty bytes per object,
the caches of IndexLimits, and for a delta its base, itself and its result.

Collision attacks on SHA-1 are looked for by the kernel only: pure Python takes OpenSSL's hash, which has no such thing.
Either way an object that exists already is compared with what came, and never replaced.

Duplicate objects are accepted, as git does when not told to be strict: the index then holds both.

Source: git's builtin/index-pack.c; gitformat-pack.
"""

import os
import posix  # see govc.watch
from array import array
from collections.abc import Callable, Iterable

from govc.errors import CorruptPack
from govc.kernels.indexing import find_compiled
from govc.kernels.order import gather_bytes, gather_numbers, invert, reorder_records, sort_by_oid
from govc.pack.compiled import Beside, Call, CompiledPasses, KnownAmong, call_here, start_beside
from govc.pack.index_writer import encode_index_v1, encode_index_v2, encode_reverse_index, fits_v1
from govc.pack.limits import IndexLimits
from govc.pack.passes import VISITED_TYPES, Examiner, TwinPasses, Visit
from govc.pack.scanner import PackScanner
from govc.pack.tables import EntryTable
from govc.pack.thin import Reader, complete_thin_pack
from govc.protocol.oid import HashAlgorithm

__all__ = [
    "PHASE_CHECKING",
    "PHASE_INDEXING",
    "PHASE_RESOLVING",
    "IndexedPack",
    "Progress",
    "Reader",
    "Visit",
    "index_pack",
]

PHASE_INDEXING = "Indexing objects"
PHASE_RESOLVING = "Resolving deltas"
PHASE_CHECKING = "Checking objects"

Progress = Callable[[str, int, int], None]
"""Takes the phase, how many are done, of how many."""

_FEW_OBJECTS = 1000
"""The index of fewer is written in one piece."""

_INDEX_MODE = 0o444


class IndexedPack:
    """What is known of a pack once it is indexed, and stays so. The columns follow the index: ascending by oid.

    count              entries, the appended bases included
    object_count_received   entries that the peer sent
    delta_count        how many of those were deltas
    pack_checksum      the trailer of the file as it now is; pack_size its size in bytes
    oids_sorted        raw oids; beside them offsets (array of Q), crcs (array of I), types (1 to 4, bytes)
    positions          array of I: idx positions in the order of the pack
    known_positions    array of I: idx positions of objects that `known` knew before
    """

    __slots__ = (
        "algo",
        "count",
        "crcs",
        "delta_count",
        "known_positions",
        "object_count_received",
        "offsets",
        "oids_sorted",
        "pack_checksum",
        "pack_size",
        "positions",
        "types",
    )

    def __init__(
        self,
        *,
        algo: HashAlgorithm,
        count: int,
        object_count_received: int,
        delta_count: int,
        pack_checksum: bytes,
        pack_size: int,
        oids_sorted: bytes,
        offsets: "array[int]",
        crcs: "array[int]",
        types: bytes,
        positions: "array[int]",
        known_positions: "array[int]",
    ) -> None:
        self.algo = algo
        self.count = count
        self.object_count_received = object_count_received
        self.delta_count = delta_count
        self.pack_checksum = pack_checksum
        self.pack_size = pack_size
        self.oids_sorted = oids_sorted
        self.offsets = offsets
        self.crcs = crcs
        self.types = types
        self.positions = positions
        self.known_positions = known_positions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexedPack) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    @property
    def thin_bases_appended(self) -> int:
        """How many bases the pack lacked."""
        return self.count - self.object_count_received

    def oid_at(self, position: int) -> bytes:
        """Return the oid at an idx position."""
        size = self.algo.oid_size
        return self.oids_sorted[position * size : position * size + size]

    def write_index(self, target: int | str, version: int = 2) -> None:
        """Write the index to a descriptor, or to a new file of mode 0444. Nothing is synced.

        As git, of version 2 where a pack is too large for the first.
        """
        if version == 1 and fits_v1(self.offsets):
            _write_to(target, encode_index_v1(self.algo, self.oids_sorted, self.offsets, self.pack_checksum))
        else:
            chunks = encode_index_v2(self.algo, self.oids_sorted, self.crcs, self.offsets, self.pack_checksum)
            _write_to(target, (b"".join(chunks),) if self.count < _FEW_OBJECTS else chunks)

    def write_reverse_index(self, target: int | str) -> None:
        """Write the reverse index, likewise."""
        chunks = encode_reverse_index(self.algo, self.positions, self.pack_checksum)
        _write_to(target, (b"".join(chunks),) if self.count < _FEW_OBJECTS else chunks)


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
        posix.close(fd)


def _sorted_result(
    table: EntryTable, known_entries: "array[int]", *, received: int, delta_count: int, pack_checksum: bytes
) -> IndexedPack:
    """Bring the columns into the order of the index."""
    table.drop_links()
    size = table.algo.oid_size
    order = sort_by_oid(table.oids, size)
    positions = invert(order)
    return IndexedPack(
        algo=table.algo,
        count=table.count,
        object_count_received=received,
        delta_count=delta_count,
        pack_checksum=pack_checksum,
        pack_size=table.offsets[table.count] + size,
        oids_sorted=reorder_records(table.oids, order, size),
        offsets=gather_numbers(table.offsets, order),
        crcs=gather_numbers(table.crcs, order),
        types=gather_bytes(table.types, order),
        positions=positions,
        known_positions=array("I", sorted(positions[entry] for entry in known_entries)),
    )


def index_pack(
    fd: int,
    algo: HashAlgorithm,
    *,
    base_reader: Reader | None = None,
    limits: IndexLimits | None = None,
    progress: Progress | None = None,
    known: Callable[[bytes], bool] | None = None,
    known_among: KnownAmong | None = None,
    existing_reader: Reader | None = None,
    visit: Visit | None = None,
    detects: bool = True,
    threads: int = 1,
    beside: Beside = start_beside,
    call: Call = call_here,
) -> IndexedPack:
    """Index the complete pack in the file `fd`. Only a thin one is written to, and only with a `base_reader`.

    `known` tells whether an object exists already (`known_among` the same for many); with `existing_reader` the
    contents of such objects are compared. `visit` is handed every commit, tree and tag, a delta's after its base's, in
    no other promised order. `progress` is called every few milliseconds of work; it may switch to other greenlets, or
    raise to give up. `detects`: refuse objects that are part of a collision attack on SHA-1 (the compiled kernel does).
    `threads`: how many share the work on a large pack, this one included; `beside` starts the others. `call` makes the
    kernel's calls, of some milliseconds each, in a thread of a pool perhaps.

    Raises CorruptPack, and LimitExceeded. What the file holds after an error is of no use.
    """

    def tell(phase: str, done: int, total: int) -> None:
        if progress is not None:
            progress(phase, done, total)

    limits = limits or IndexLimits()
    scanner = PackScanner(
        fd, algo, limits, whole_types=VISITED_TYPES if visit is not None else frozenset(), tick=lambda _: None
    )
    table = scanner.table
    received = table.count
    kernel = find_compiled(algo.name)
    passes: CompiledPasses | TwinPasses
    if kernel is not None:
        passes = CompiledPasses(kernel, fd, scanner, limits, detects=detects, threads=threads, beside=beside, call=call)
    else:
        examiner = Examiner(fd, table, known=known, existing_reader=existing_reader, visit=visit)
        passes = TwinPasses(fd, scanner, limits, examiner)
    passes.scan(lambda done: tell(PHASE_INDEXING, done, received))
    tell(PHASE_INDEXING, received, received)
    delta_count = table.types.count(0)
    checksum = scanner.pack_checksum
    if delta_count:
        passes.resolve_whole(lambda done: tell(PHASE_RESOLVING, min(done, delta_count - 1), delta_count))
        if passes.resolved_count < delta_count and base_reader is not None:
            base_bytes_max = limits.delta_result_bytes_max
            checksum = complete_thin_pack(fd, table, passes, base_reader, base_bytes_max=base_bytes_max) or checksum
        left = delta_count - passes.resolved_count
        if left:
            raise CorruptPack(f"pack has {left} unresolved delta{'s' if left > 1 else ''}")
        tell(PHASE_RESOLVING, delta_count, delta_count)
    if isinstance(passes, CompiledPasses):
        known_entries = passes.examine(
            received=received,
            known=known,
            known_among=known_among,
            existing_reader=existing_reader,
            visit=visit,
            tick=lambda done: tell(PHASE_CHECKING, done, table.count),
        )
    else:
        known_entries = examiner.known_entries
    del passes  # what it holds is free before the index is sorted
    return _sorted_result(table, known_entries, received=received, delta_count=delta_count, pack_checksum=checksum)
