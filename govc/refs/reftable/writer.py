"""Writing a table: refs in order, then reflog entries in order; chunks of bytes come out.

    ref blocks, ref index | obj blocks, obj index | log blocks, log index | footer

The choices are git's, so that the same records give the same bytes (but for what zlib makes of log blocks): ref, obj
and index blocks are padded to the block size, except for the last one before the log section or the footer; a section
of more than three blocks gets an index, and an index of more than three blocks an index of its own; obj blocks are
written when the refs have an index. A restart is every 16th record, and each that shares nothing with the one before.

Source: git's technical/reftable; git-config "reftable.*".
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from govc.errors import GovcError
from govc.protocol.oid import HashAlgorithm
from govc.refs.reftable.format import (
    BLOCK_HEADER_SIZE,
    BLOCK_SIZE_MAX,
    INDEX_BLOCK,
    LOG_BLOCK,
    OBJ_BLOCK,
    REF_BLOCK,
    RESTARTS_MAX,
    Footer,
    Header,
    LogRecord,
    RefRecord,
    encode_footer,
    encode_header,
    encode_log_key,
    encode_log_value,
    encode_obj_value,
    encode_ref_value,
    encode_varint,
    version_for,
)

BLOCK_SIZE = 4096
RESTART_INTERVAL = 16
GEOMETRIC_FACTOR = 2
LOCK_TIMEOUT_MS = 100

_UNINDEXED_BLOCKS_MAX = 3
_DEFLATE_LEVEL = 9


class EntryTooLarge(GovcError):
    """A record that doesn't fit into a block of the size that was asked for."""

    def __init__(self, block_size: int) -> None:
        super().__init__(f"entry too large for reftable blocks of {block_size} bytes")

    @property
    def public_text(self) -> str:
        """Return the text: it names nothing of the server."""
        return str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReftableOptions:
    """The `reftable.*` settings; sizes in bytes, the time-out in milliseconds (negative: wait for ever)."""

    block_size: int = BLOCK_SIZE
    restart_interval: int = RESTART_INTERVAL
    index_objects: bool = True
    geometric_factor: int = GEOMETRIC_FACTOR
    lock_timeout_ms: int = LOCK_TIMEOUT_MS
    lock_queue_ms: int = 0


class _BlockBuilder:
    """The records of one block, until it is full."""

    __slots__ = ("_header_size", "_last_key", "_limit", "_restart_interval", "_restarts", "_size", "count", "pieces")

    def __init__(self, header_size: int, options: ReftableOptions) -> None:
        """`header_size`: what the file's header takes of its first block."""
        self._header_size = header_size
        self._limit = options.block_size
        self._restart_interval = options.restart_interval
        self._restarts: list[int] = []
        self._size = header_size + BLOCK_HEADER_SIZE
        self._last_key = b""
        self.count = 0
        self.pieces: list[bytes] = []

    @property
    def last_key(self) -> bytes:
        return self._last_key

    def add(self, key: bytes, kind: int, value: bytes) -> bool:
        """Add a record; False when it doesn't fit any more."""
        last = b"" if self.count % self._restart_interval == 0 else self._last_key
        shared = _shared_size(last, key)
        suffix = key[shared:]
        record = b"".join((encode_varint(shared), encode_varint(len(suffix) << 3 | kind), suffix, value))
        is_restart = shared == 0 and len(self._restarts) < RESTARTS_MAX
        if self._size + len(record) + 3 * (len(self._restarts) + is_restart) + 2 > self._limit:
            return False
        if is_restart:
            self._restarts.append(self._size)
        self.pieces.append(record)
        self._size += len(record)
        self._last_key = key
        self.count += 1
        return True

    def finish(self, kind: int) -> bytes:
        """Return the block without padding, and without the file's header in front of a first one."""
        body = b"".join(
            (
                *self.pieces,
                *(position.to_bytes(3, "big") for position in self._restarts),
                len(self._restarts).to_bytes(2, "big"),
            )
        )
        size = self._header_size + BLOCK_HEADER_SIZE + len(body)
        if kind == LOG_BLOCK:
            body = zlib.compress(body, _DEFLATE_LEVEL)
        return bytes((kind,)) + size.to_bytes(3, "big") + body


def _shared_size(one: bytes, other: bytes) -> int:
    """Return how many bytes the two begin with in common."""
    limit = min(len(one), len(other))
    difference = int.from_bytes(one[:limit], "big") ^ int.from_bytes(other[:limit], "big")
    return limit - (difference.bit_length() + 7) // 8


class _TableEncoder:
    """The file as it grows. `position` counts what was yielded, and the padding that comes before the next block."""

    def __init__(self, header: Header, options: ReftableOptions) -> None:
        self._header = header
        self._options = options
        self._padding = 0
        self._index: list[tuple[bytes, int]] = []
        self.position = 0
        self.section_start = 0

    def section(self, kind: int, records: Iterable[tuple[bytes, int, bytes]]) -> Iterator[bytes]:
        """Yield the blocks of a section. Records are (key, type, value), their keys ascending."""
        self._index = []
        if kind == LOG_BLOCK:
            self.position -= self._padding
            self._padding = 0
        self.section_start = self.position
        yield from self._blocks(kind, records)

    def _blocks(self, kind: int, records: Iterable[tuple[bytes, int, bytes]]) -> Iterator[bytes]:
        builder = self._new_builder()
        for key, value_kind, value in records:
            if builder.add(key, value_kind, value):
                continue
            if builder.count:
                yield from self._flush(builder, kind)
                builder = self._new_builder()
            if not builder.add(key, value_kind, value) and not (
                kind == OBJ_BLOCK and builder.add(key, *encode_obj_value([]))
            ):
                raise EntryTooLarge(self._options.block_size)
        if builder.count:
            yield from self._flush(builder, kind)

    def _new_builder(self) -> _BlockBuilder:
        return _BlockBuilder(self._header.size if self.position == 0 else 0, self._options)

    def _flush(self, builder: _BlockBuilder, kind: int) -> Iterator[bytes]:
        self._index.append((builder.last_key, self.position))
        block = builder.finish(kind)
        if self.position == 0:
            block = encode_header(self._header) + block
        if self._padding:
            yield bytes(self._padding)
        yield block
        self._padding = 0 if kind == LOG_BLOCK else self._options.block_size - len(block)
        self.position += len(block) + self._padding

    def index(self, kind: int, result: list[int]) -> Iterator[bytes]:
        """Yield the index of the section just written; its root's position is put into `result`, if there is one."""
        while len(self._index) > _UNINDEXED_BLOCKS_MAX:
            entries, self._index = self._index, []
            result[:] = [self.position]
            records = ((key, 0, encode_varint(position)) for key, position in entries)
            yield from self._blocks(kind, records)


def encode_table(
    refs: Iterable[RefRecord],
    logs: Iterable[LogRecord],
    *,
    min_update_index: int,
    max_update_index: int,
    algo: HashAlgorithm,
    options: ReftableOptions,
) -> Iterator[bytes]:
    """Yield a table's bytes; nothing at all for one without records.

    `refs` in order of names, `logs` in order of their keys, each once. Raises EntryTooLarge.
    """
    header = Header(version_for(algo), options.block_size, min_update_index, max_update_index, algo)
    encoder = _TableEncoder(header, options)
    ref_index: list[int] = []
    obj_index: list[int] = []
    log_index: list[int] = []
    obj = obj_id_size = log = 0
    objects: dict[bytes, list[int]] = {}
    yield from encoder.section(REF_BLOCK, _ref_records(refs, encoder, min_update_index, objects, options))
    yield from encoder.index(INDEX_BLOCK, ref_index)
    if ref_index and options.index_objects and objects:
        ordered = sorted(objects)
        obj_id_size = _shortest_unique_size(ordered)
        obj = encoder.position
        yield from encoder.section(
            OBJ_BLOCK, ((oid[:obj_id_size], *encode_obj_value(sorted(set(objects[oid])))) for oid in ordered)
        )
        yield from encoder.index(INDEX_BLOCK, obj_index)
    objects.clear()
    yield from encoder.section(LOG_BLOCK, _log_records(logs))
    if encoder.position > encoder.section_start:
        log = encoder.section_start
    yield from encoder.index(INDEX_BLOCK, log_index)
    if encoder.position:
        footer = Footer(_one(ref_index), obj, obj_id_size, _one(obj_index), log, _one(log_index))
        yield encode_footer(header, footer)


def _ref_records(
    refs: Iterable[RefRecord],
    encoder: _TableEncoder,
    min_update_index: int,
    objects: dict[bytes, list[int]],
    options: ReftableOptions,
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the records of refs; note the block of each object once the record has been taken."""
    for record in refs:
        yield (record.name, *encode_ref_value(record, min_update_index))
        if options.index_objects:
            for oid in (record.oid, record.peeled):
                if oid is not None:
                    objects.setdefault(oid, []).append(encoder.position)


def _log_records(logs: Iterable[LogRecord]) -> Iterator[tuple[bytes, int, bytes]]:
    for record in logs:
        yield (encode_log_key(record.name, record.update_index), *encode_log_value(record.entry))


def _shortest_unique_size(oids: list[bytes]) -> int:
    """Return how many bytes tell the (sorted) oids apart: at least 2, and at most what the footer can say."""
    shared = max((_shared_size(one, other) for one, other in pairwise(oids)), default=0)
    return min(max(shared + 1, 2), 31)


def _one(positions: list[int]) -> int:
    return positions[0] if positions else 0


def check_options(options: ReftableOptions) -> str | None:
    """Return git's sentence about a setting that it would die on, None when all are fine."""
    if not 0 < options.block_size <= BLOCK_SIZE_MAX:
        return "reftable block size cannot exceed 16MB"
    if not 0 < options.restart_interval <= RESTARTS_MAX:
        return f"reftable block size cannot exceed {RESTARTS_MAX}"
    if not 0 < options.geometric_factor <= 255:
        return "reftable geometric factor cannot exceed 255"
    if options.lock_timeout_ms < -1:
        return "reftable lock timeout does not support negative values other than -1"
    return None
