"""One file of a stack: its refs as columns, its reflog entries by seeking.

A table never changes once it has its name, so what was read of it stays true: the refs are decoded once, all of them
in a single pass over the section (they are needed as a whole: listings, the names that a new one excludes). Reflog
entries stay in the file; they are found through the log index.

Opening reads header and footer. Sections are read with pread, never mapped: a file that someone cuts short is an
error of one request and doesn't kill the process.

Source: git's technical/reftable "Reading the footer", "Ref index", "Log index".
"""

import os
import stat
from collections.abc import Iterator
from typing import TypeVar

from govc.errors import CorruptRefs
from govc.protocol.oid import HashAlgorithm
from govc.refs.reftable.block import (
    DECODED_BYTES_BASE,
    DECODED_RATIO_MAX,
    Block,
    decode_position,
    iter_records,
    iter_ref_records,
    parse_block,
    seek_records,
)
from govc.refs.reftable.columns import TableRefs
from govc.refs.reftable.format import (
    INDEX_BLOCK,
    LOG_BLOCK,
    REF_BLOCK,
    Footer,
    Header,
    LogEntry,
    LogRecord,
    RefRecord,
    decode_log_value,
    encode_log_key,
    footer_size,
    header_size,
    parse_footer,
    parse_header,
    parse_log_key,
)

REF_SECTION_BYTES_MAX = 1 << 31
"""As packed-refs: no more is read of one table."""

UNINDEXED_BLOCKS_MAX = 64
"""A section of more blocks than this must have an index, else a look-up reads it all (git indexes from 4 on)."""

_INDEX_LEVELS_MAX = 16

T = TypeVar("T")


class Table:
    """A table that was opened. Immutable; the refs are decoded when first asked for."""

    __slots__ = ("_refs", "footer", "has_logs", "header", "name", "path", "size")

    def __init__(self, path: str, name: str, size: int, header: Header, footer: Footer, first_kind: bytes) -> None:
        """Take what was read of the file; see `open_table`.

        `size` in bytes, the footer not counted; `first_kind`: the byte behind the header.
        """
        self.path = path
        self.name = name
        self.size = size
        self.header = header
        self.footer = footer
        self.has_logs = bool(footer.log) or (first_kind == b"g" and size > header.size)
        self._refs: TableRefs | None = None

    @property
    def refs(self) -> TableRefs:
        """All refs of the table. Raises CorruptRefs, OSError."""
        if self._refs is None:
            self._refs = TableRefs.of(self.iter_refs(), self.header.algo.oid_size)
        return self._refs

    def _corrupt(self, error: CorruptRefs) -> CorruptRefs:
        return CorruptRefs(f"reftable {self.name}: {error}")

    # Refs

    def iter_refs(self) -> Iterator[RefRecord]:
        """Yield the refs in order, tombstones included. Raises CorruptRefs, OSError."""
        try:
            yield from self._decode_refs()
        except CorruptRefs as error:
            raise self._corrupt(error) from error

    def _decode_refs(self) -> Iterator[RefRecord]:
        header, end = self.header, self._ref_section_end()
        if end > REF_SECTION_BYTES_MAX:
            raise CorruptRefs(f"more than {REF_SECTION_BYTES_MAX} bytes of refs")
        section = self._read(0, end)
        budget = DECODED_BYTES_BASE + DECODED_RATIO_MAX * len(section)
        last = b""
        offset = 0
        while offset < end:
            start = header.size if offset == 0 else 0
            if section[offset + start : offset + start + 1] != b"r":
                return  # lower levels of the index, or a table without refs
            size = int.from_bytes(section[offset + start + 1 : offset + start + 4], "big")
            # One byte more than the block: what follows it tells whether there is padding.
            block = parse_block(section[offset : offset + max(size, header.size) + 1], offset, header)
            for record in iter_ref_records(block, header):
                name = record.name
                if name <= last:
                    raise CorruptRefs(f"refs are not in order at {name[:255]!r}")
                last = name
                budget -= len(name)
                if budget < 0:
                    raise CorruptRefs("names unfold to too many bytes")
                yield record
            offset = block.next_offset

    def _ref_section_end(self) -> int:
        footer = self.footer
        starts = [position for position in (footer.ref_index, footer.obj, footer.log) if position]
        return min(starts, default=self.size)

    # Reflogs

    def iter_logs(self, name: bytes | None = None) -> Iterator[LogRecord]:
        """Yield the reflog entries, tombstones included, those of one ref (newest first) or all of them.

        Raises CorruptRefs, OSError.
        """
        if not self.has_logs:
            return
        wanted = b"" if name is None else encode_log_key(name, (1 << 64) - 1)
        last = b""
        try:
            for key, entry in self._seek_logs(wanted):
                refname, update_index = parse_log_key(key)
                if name is not None and refname != name:
                    return
                if key <= last:
                    raise CorruptRefs(f"reflog entries are not in order at {refname[:255]!r}")
                last = key
                yield LogRecord(refname, update_index, entry)
        except CorruptRefs as error:
            raise self._corrupt(error) from error

    def _decode_log(self, data: bytes, position: int, end: int, kind: int) -> tuple[LogEntry | None, int]:
        return decode_log_value(data, position, end, kind, self.header.algo)

    def _seek_logs(self, key: bytes) -> Iterator[tuple[bytes, LogEntry | None]]:
        """Yield the entries from `key` on, to the end of the section."""
        footer = self.footer
        offset = self._find_block(footer.log_index, key) if key and footer.log_index else footer.log
        if offset is None:
            return
        is_first = True
        for number, block in enumerate(self._iter_blocks(offset, LOG_BLOCK)):
            if key and not footer.log_index and number > UNINDEXED_BLOCKS_MAX:
                raise CorruptRefs("many log blocks without an index")
            yield from (
                seek_records(block, key, self._decode_log)
                if is_first or not footer.log_index
                else iter_records(block, self._decode_log)
            )
            is_first = False

    def _find_block(self, index_offset: int, key: bytes) -> int | None:
        """Descend an index; return where the block is that may hold `key`, None when all keys are smaller.

        The root may be a few blocks; each points to blocks in front of it.
        """
        offset = index_offset
        for _ in range(_INDEX_LEVELS_MAX):
            found = None
            for number, block in enumerate(self._iter_blocks(offset, INDEX_BLOCK)):
                if number > UNINDEXED_BLOCKS_MAX:
                    raise CorruptRefs("the root of an index has too many blocks")
                found = _first(seek_records(block, key, decode_position))
                if found is not None:
                    break
            if found is None:
                return None
            if found >= offset:
                raise CorruptRefs(f"index points from {offset} to {found}")
            offset = found
            if self._read_block(offset).kind != INDEX_BLOCK:
                return offset
        raise CorruptRefs("index has too many levels")

    def find_ref(self, name: bytes) -> RefRecord | None:
        """Return one ref's record without reading the others, None when the table has none.

        Raises CorruptRefs, OSError.
        """
        try:
            return self._find_ref(name)
        except CorruptRefs as error:
            raise self._corrupt(error) from error

    def _find_ref(self, name: bytes) -> RefRecord | None:
        offset: int | None = 0
        if self.footer.ref_index:
            offset = self._find_block(self.footer.ref_index, name)
        if offset is None:
            return None
        for block in self._iter_blocks(offset, REF_BLOCK):
            for record in iter_ref_records(block, self.header):
                if record.name >= name:
                    return record if record.name == name else None
        return None

    # Blocks

    def _iter_blocks(self, offset: int, kind: int) -> Iterator[Block]:
        """Yield the blocks of one kind that follow one another from `offset` on."""
        while offset < self.size:
            start = offset + (self.header.size if offset == 0 else 0)
            if self._read(start, start + 1) != bytes((kind,)):
                return
            block = self._read_block(offset)
            yield block
            offset = block.next_offset

    def _read_block(self, offset: int) -> Block:
        start = self.header.size if offset == 0 else 0
        head = self._read(offset + start, offset + start + 4)
        size = int.from_bytes(head[1:], "big")
        if head[:1] == b"g":
            size += (size >> 8) + 64  # deflating may add that much
        return parse_block(self._read(offset, offset + size + 1), offset, self.header)

    def _read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), cut where the footer begins."""
        end = min(end, self.size)
        if end <= start:
            return b""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, end - start, start)
            while len(data) < end - start and (
                more := os.pread(descriptor, end - start - len(data), start + len(data))
            ):
                data += more
        finally:
            os.close(descriptor)
        if len(data) < end - start:
            raise CorruptRefs("file cut off")
        return data


def open_table(folder: str, name: str, algo: HashAlgorithm) -> Table:
    """Open the table `name`. Raises CorruptRefs, and FileNotFoundError when there is none, or another OSError."""
    path = f"{folder}/{name}"
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise CorruptRefs("not a regular file")
            start = os.pread(descriptor, header_size(2) + 1, 0)
            header = parse_header(start)
            tail = footer_size(header.version)
            if status.st_size < header.size + tail:
                raise CorruptRefs("file cut off")
            footer = parse_footer(
                os.pread(descriptor, tail, status.st_size - tail), start[: header.size], status.st_size
            )
            if header.algo is not algo:
                raise CorruptRefs(f"refs by {header.algo.name} in a repository of {algo.name}")
        except CorruptRefs as error:
            raise CorruptRefs(f"reftable {name}: {error}") from error
    finally:
        os.close(descriptor)
    first_kind = start[header.size : header.size + 1]
    return Table(path, name, status.st_size - tail, header, footer, first_kind)


def _first(records: Iterator[tuple[bytes, T]]) -> T | None:
    """Return the first value, None when there is none."""
    return next((value for _, value in records), None)
