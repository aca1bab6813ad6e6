"""The first pass over a received pack: where entries begin and end, their CRCs, the names of whole objects.

The file is read once, in windows. An entry is inflated to find its end, never beyond its stated size; a
large blob goes straight into its hash. What is a delta is only noted: on which entry (by offset) or on
which name it stands.

Most entries are small and lie whole in the window: `_scan_common` takes those, one after the other, in one frame of
the interpreter. It stops at whatever is out of the ordinary, and `_scan_entry` takes that entry from its beginning: it
knows every case, and every refusal.

Source: gitformat-pack "pack-*.pack files have the following format"; git's builtin/index-pack.c
parse_pack_objects for the words of refusals.
"""

import os
import zlib
from bisect import bisect_left
from collections.abc import Callable

from govc.errors import CorruptPack, LimitExceeded
from govc.objects.types import (
    HEADER_FORMATS,
    JOINED_BYTES_MAX,
    OFS_DELTA,
    REF_DELTA,
    encode_object_header,
    hash_object,
)
from govc.pack.entry import ENTRY_HEADER_BYTES_MAX, EntryHeader, parse_entry_header
from govc.pack.format import PACK_HEADER_SIZE, parse_pack_header
from govc.pack.limits import Expansion, IndexLimits
from govc.pack.tables import NONE, EntryTable
from govc.protocol.oid import HashAlgorithm

WINDOW_BYTES = 1 << 20

_ENTRY_BYTES_MIN = 9  # one byte of header, eight of an empty zlib stream
_PIECE_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18
_CACHE_OVERHEAD_BYTES = 150
_TICK_BYTES = 1 << 19
_TICK_ENTRY_COST_BYTES = 4096
_REFILL_BYTES = 4096  # the window is filled when it has less; no common header is as long
_DISTANCE_CONTINUED_MAX = 1 << 56

_COPIED_BYTES_MAX = 1 << 10
"""So short a piece of the window is rather copied than viewed: an object of Python's less to make."""

Look = Callable[[int, int, bytes, bytes | None], None]
"""Takes entry, type, oid and content (None when it was streamed) of an object that was just named in the table."""

Tick = Callable[[int], None]
"""Is told the number of entries done, every few milliseconds of work."""


class PackScanner:
    """One pass over the complete pack in a file; afterwards `table` is filled but for the deltas' names."""

    def __init__(
        self, fd: int, algo: HashAlgorithm, limits: IndexLimits, *, whole_types: frozenset[int], tick: Tick
    ) -> None:
        """`whole_types`: the types of which `look` wants the content however large."""
        self._fd = fd
        self._algo = algo
        self._limits = limits
        self._whole_types = whole_types
        self._tick = tick
        self._work = 0
        self.pack_size = os.fstat(fd).st_size
        self._content_end = self.pack_size - algo.oid_size
        self._hasher = algo.new()
        self._buf = b""
        self._view = memoryview(b"")
        self._pos = 0
        self._buf_end = 0  # the file offset of the end of the buffer
        self.expansion = Expansion(limits, self.pack_size)
        self.delta_cache: dict[int, bytes] = {}
        self._delta_cache_left = limits.delta_cache_bytes
        self.pack_checksum = b""
        self.table = EntryTable(algo, self._parse_header())

    def _parse_header(self) -> int:
        header = os.pread(self._fd, PACK_HEADER_SIZE, 0)
        count = parse_pack_header(header)
        if count * _ENTRY_BYTES_MIN > self._content_end - PACK_HEADER_SIZE:
            raise CorruptPack("early EOF")
        self._hasher.update(header)
        self._buf_end = PACK_HEADER_SIZE
        return count

    def set_tick(self, tick: Tick) -> None:
        """Have another function told how far it is."""
        self._tick = tick

    def scan(self, look: Look | None) -> None:
        """Read every entry and the trailer, showing each object that is no delta to `look`."""
        table = self.table
        entry = 0
        while (entry := self._scan_common(entry, look)) < table.count:
            self._scan_entry(entry, look)
            entry += 1
        end = self._buf_end - len(self._buf) + self._pos
        table.offsets[table.count] = end
        self.check_trailer(end, self._hasher.digest())

    def _scan_common(self, entry: int, look: Look | None) -> int:
        """Take entries from `entry` on, as long as they are common ones; return the first that wasn't taken.

        Of that one nothing was done. The words of `_scan_entry` apply to everything here; names are local since each
        is used some hundred thousand times.
        """
        table, algo, tick, expansion = self.table, self._algo, self._tick, self.expansion
        count, offsets, crcs, types, oids = table.count, table.offsets, table.crcs, table.types, table.oids
        bases, first_child, next_sibling = table.bases, table.first_child, table.next_sibling
        delta_cache, cache_left = self.delta_cache, self._delta_cache_left
        oid_size, new_hasher, new_inflater, crc32 = algo.oid_size, algo.new, zlib.decompressobj, zlib.crc32
        size_max = self._limits.object_bytes_max
        buf, view = self._buf, self._view
        buf_start = self._buf_end - len(buf)
        last = len(buf) - (_REFILL_BYTES if self._buf_end < self._content_end else ENTRY_HEADER_BYTES_MAX)
        end, work, inflated, left = self._pos, self._work, 0, expansion.left
        while entry < count and end <= last:
            start = pos = end
            byte = buf[pos]
            pos += 1
            type_number = (byte >> 4) & 7
            size = byte & 15
            if byte & 0x80:
                byte = buf[pos]
                pos += 1
                size |= (byte & 0x7F) << 4
                if byte & 0x80:
                    byte = buf[pos]
                    pos += 1
                    size |= (byte & 0x7F) << 11
                    if byte & 0x80:
                        break  # _OUTPUT_BYTES or more
            if size > size_max or inflated + size > left:
                break
            if type_number < 5:
                if not type_number:
                    break
            elif type_number == OFS_DELTA:
                byte = buf[pos]
                pos += 1
                distance = byte & 0x7F
                while byte & 0x80 and distance < _DISTANCE_CONTINUED_MAX:
                    byte = buf[pos]
                    pos += 1
                    distance = ((distance + 1) << 7) | (byte & 0x7F)
                base_offset = buf_start + start - distance
                if base_offset < PACK_HEADER_SIZE or not distance:
                    break
                base = bisect_left(offsets, base_offset, 0, entry)
                if offsets[base] != base_offset:
                    base = NONE
            elif type_number == REF_DELTA:
                base_at = pos
                pos += oid_size
            else:
                break
            inflater = new_inflater()
            piece: bytes | memoryview
            if size <= _COPIED_BYTES_MAX:
                piece = buf[pos : pos + size + 64]
            else:
                piece = view[pos : pos + size + (size >> 8) + 64]
            try:
                content = inflater.decompress(piece, size or 1)
            except zlib.error:
                break
            if not inflater.eof or len(content) != size:
                break
            end = pos + len(piece) - len(inflater.unused_data)
            offsets[entry] = buf_start + start
            crcs[entry] = crc32(buf[start:end] if size <= _COPIED_BYTES_MAX else view[start:end])
            inflated += size
            if type_number > 4:
                if type_number == REF_DELTA:
                    table.ref_entries.append(entry)
                    table.ref_base_oids += buf[base_at : base_at + oid_size]
                elif base != NONE:
                    bases[entry] = base
                    next_sibling[entry] = first_child[base]
                    first_child[base] = entry
                if size + _CACHE_OVERHEAD_BYTES <= cache_left:
                    cache_left -= size + _CACHE_OVERHEAD_BYTES
                    delta_cache[entry] = content
            else:
                if size <= JOINED_BYTES_MAX:
                    oid = new_hasher(HEADER_FORMATS[type_number] % size + content).digest()
                else:
                    oid = hash_object(algo, type_number, content)
                types[entry] = type_number
                oids[entry * oid_size : entry * oid_size + oid_size] = oid
                if look is not None:
                    look(entry, type_number, oid, content)
            entry += 1
            work += size + _TICK_ENTRY_COST_BYTES
            if work > _TICK_BYTES:
                work = 0
                tick(entry)
        self._pos, self._work, self._delta_cache_left = end, work, cache_left
        expansion.add(inflated)
        return entry

    def explain(self, entry: int) -> None:
        """Raise what is wrong with an entry that the compiled scanner stopped at; return when nothing is."""
        offset = self.table.offsets[entry]
        self._buf, self._view, self._pos = b"", memoryview(b""), 0
        self._buf_end = offset
        self._refill()
        self._scan_entry(entry, None)

    def check_trailer(self, end: int, checksum: bytes) -> None:
        """Check where the entries end, and the checksum of everything before the trailer."""
        if end > self._content_end:
            raise CorruptPack("early EOF", end)
        if end < self._content_end:
            raise CorruptPack("pack has junk at the end", end)
        stated = os.pread(self._fd, self._algo.oid_size, self._content_end)
        self.pack_checksum = checksum
        if stated != self.pack_checksum:
            raise CorruptPack(f"pack is corrupted ({self._algo.name.upper()} mismatch)")

    def _refill(self) -> bool:
        """Drop what was read, append one window; return whether there was more."""
        size = min(WINDOW_BYTES, self._content_end - self._buf_end)
        if size <= 0:
            return False
        fresh = os.pread(self._fd, size, self._buf_end)
        if not fresh:
            return False
        self._hasher.update(fresh)
        self._buf_end += len(fresh)
        self._buf = self._buf[self._pos :] + fresh
        self._view = memoryview(self._buf)
        self._pos = 0
        return True

    def _scan_entry(self, entry: int, look: Look | None) -> None:
        if len(self._buf) - self._pos < _REFILL_BYTES:
            self._refill()
        start = self._pos
        offset = self._buf_end - len(self._buf) + start
        self.table.offsets[entry] = offset
        try:
            header = parse_entry_header(self._buf, start, self._algo)
        except CorruptPack as error:
            raise CorruptPack("early EOF" if error.reason == "truncated" else error.reason, offset) from None
        size = header.size
        if size > self._limits.object_bytes_max:
            raise LimitExceeded("object bytes", self._limits.object_bytes_max, size)
        self.expansion.add(size)
        self._work += size + _TICK_ENTRY_COST_BYTES
        if self._work > _TICK_BYTES:
            self._work = 0
            self._tick(entry)
        content = self._inflate_small(entry, start, header) if size < _OUTPUT_BYTES else None
        if header.type_number > 4:
            if content is None:
                self._inflate_streaming(entry, start, header, lambda _: None)
            self._note_delta(entry, offset, header, content)
            return
        hasher = self._algo.new(encode_object_header(header.type_number, size))
        if content is not None:
            hasher.update(content)
        elif size <= self._limits.stream_bytes_min or header.type_number in self._whole_types:
            content = self._inflate_whole(entry, start, header)
            hasher.update(content)
        else:
            self._inflate_streaming(entry, start, header, hasher.update)
        oid = hasher.digest()
        self.table.name(entry, header.type_number, oid)
        if look is not None:
            look(entry, header.type_number, oid, content)

    def _note_delta(self, entry: int, offset: int, header: EntryHeader, delta: bytes | None) -> None:
        table = self.table
        if header.type_number == OFS_DELTA:
            base_offset = offset - header.base_distance
            if base_offset < PACK_HEADER_SIZE:
                raise CorruptPack("delta base offset is out of bound", offset)
            base = bisect_left(table.offsets, base_offset, 0, entry)
            # An offset between two entries stays unresolved, and is counted so at the end.
            if table.offsets[base] == base_offset:
                table.add_child(base, entry)
        elif header.type_number == REF_DELTA:
            table.ref_entries.append(entry)
            table.ref_base_oids += header.base_oid
        if delta is not None and len(delta) + _CACHE_OVERHEAD_BYTES <= self._delta_cache_left:
            self._delta_cache_left -= len(delta) + _CACHE_OVERHEAD_BYTES
            self.delta_cache[entry] = delta

    def _inflate_small(self, entry: int, start: int, header: EntryHeader) -> bytes | None:
        """Return the content when one call on one piece of the buffer yields it, else None, nothing done."""
        size = header.size
        piece = self._view[header.data_offset : header.data_offset + size + (size >> 8) + 64]
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(piece, size + 1)
        except zlib.error as error:
            raise self._inflate_error(entry, error) from None
        if not inflater.eof:
            return None
        if len(content) != size:
            raise self._size_error(entry)
        end = header.data_offset + len(piece) - len(inflater.unused_data)
        self.table.crcs[entry] = zlib.crc32(self._view[start:end])
        self._pos = end
        return content

    def _inflate_whole(self, entry: int, start: int, header: EntryHeader) -> bytes:
        if header.size > self._limits.delta_result_bytes_max:
            raise LimitExceeded("object bytes in memory", self._limits.delta_result_bytes_max, header.size)
        content = bytearray()
        self._inflate_streaming(entry, start, header, content.extend)
        return bytes(content)

    def _inflate_streaming(self, entry: int, start: int, header: EntryHeader, sink: Callable[[bytes], None]) -> None:
        """Hand the content to `sink` in pieces, refilling the window as needed."""
        crc = zlib.crc32(self._view[start : header.data_offset])
        self._pos = header.data_offset
        inflater = zlib.decompressobj()
        left = header.size
        while not inflater.eof:
            if self._pos == len(self._buf) and not self._refill():
                raise CorruptPack("early EOF", self._buf_end)
            piece: bytes | memoryview = self._view[self._pos : self._pos + _PIECE_BYTES]
            piece_size = len(piece)
            while len(piece) and not inflater.eof:
                try:
                    out = inflater.decompress(piece, min(left + 1, _OUTPUT_BYTES))
                except zlib.error as error:
                    raise self._inflate_error(entry, error) from None
                left -= len(out)
                if left < 0:
                    raise self._size_error(entry)
                sink(out)
                piece = inflater.unconsumed_tail
            used = piece_size - len(inflater.unused_data)
            crc = zlib.crc32(self._view[self._pos : self._pos + used], crc)
            self._pos += used
            self._tick(entry)
        if left:
            raise self._size_error(entry)
        self.table.crcs[entry] = crc

    def _inflate_error(self, entry: int, error: zlib.error) -> CorruptPack:
        return CorruptPack(f"inflate failed: {error}", self.table.offsets[entry])

    def _size_error(self, entry: int) -> CorruptPack:
        return CorruptPack("inflated size is not the stated one", self.table.offsets[entry])
