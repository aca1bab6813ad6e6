"""Reading objects out of packs: entries, delta chains, streams.

A chain is followed from the object down to something whole (or cached), and then its deltas are applied
upwards. Both ways are loops, so that no depth is too deep; an entry met twice on the way down is a cycle.
While going down, the first kilobytes of each entry are kept (of the first thousand entries; the rest is
read again), so memory doesn't grow with the depth of a chain.

Source: gitformat-pack "Deltified representation".
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from govc.errors import CorruptPack, LimitExceeded
from govc.objects.types import OFS_DELTA, REF_DELTA
from govc.odb.cache import BaseCache
from govc.odb.packs import PackFile
from govc.pack.delta import apply_delta, parse_delta_sizes
from govc.pack.entry import ENTRY_HEADER_BYTES_MAX, EntryHeader, parse_entry_header
from govc.pack.format import PACK_HEADER_SIZE
from govc.protocol.oid import HashAlgorithm

_WINDOW_BYTES = 4096
_WINDOWS_KEPT_MAX = 1024
_READ_BYTES = 1 << 20
_DELTA_SIZES_BYTES = 20


class PackEntry(NamedTuple):
    """One entry as it lies in a pack.

    `offset` to `end` are its bytes, of which the first `header_size` stand before the zlib stream. `size`
    is what the stream inflates to. `type_number` is that of the entry: 1-4, or 6 and 7 for deltas.
    `base_number` is the object number of the delta's base in the same pack, -1 for what is whole. `crc` is the
    CRC-32 of its bytes as the index has it, None where that is of version 1.
    """

    pack: PackFile
    offset: int
    end: int
    type_number: int
    size: int
    header_size: int
    base_number: int
    crc: int | None


class _Link(NamedTuple):
    """An entry on the way down a chain; `window` is the beginning of its bytes, empty when not kept."""

    offset: int
    header: EntryHeader
    window: bytes


class Resolver:
    """Reads entries of any pack, through one cache of bases."""

    __slots__ = ("_algo", "_cache", "_object_bytes_max")

    def __init__(self, algo: HashAlgorithm, cache: BaseCache, *, object_bytes_max: int) -> None:
        self._algo = algo
        self._cache = cache
        self._object_bytes_max = object_bytes_max

    def header(self, pack: PackFile, offset: int) -> EntryHeader:
        """Return the header of the entry at `offset`; `data_offset` counts from there. CorruptPack."""
        return self._parse(pack, offset, pack.read_at(offset, ENTRY_HEADER_BYTES_MAX))

    def _parse(self, pack: PackFile, offset: int, window: bytes) -> EntryHeader:
        if not PACK_HEADER_SIZE <= offset < pack.size - self._algo.oid_size:
            raise CorruptPack("offset outside the pack", offset)
        try:
            return parse_entry_header(window, 0, self._algo)
        except CorruptPack as error:
            raise CorruptPack(error.reason, offset) from None

    def base_offset(self, pack: PackFile, offset: int, header: EntryHeader) -> int:
        """Return where the base of a delta begins, in the same pack; CorruptPack when it isn't there."""
        if header.type_number == OFS_DELTA:
            base = offset - header.base_distance
            if base < PACK_HEADER_SIZE:
                raise CorruptPack("delta base offset is out of bound", offset)
            return base
        position = pack.index.find(header.base_oid)
        if position < 0:
            raise CorruptPack(f"delta base {header.base_oid.hex()} is not in the pack", offset)
        return pack.index.offset_at(position)

    def entry(self, pack: PackFile, position: int) -> PackEntry:
        """Return the entry of the object at `position` of the index."""
        offset = pack.index.offset_at(position)
        header = self.header(pack, offset)
        base_number = -1
        if header.type_number == OFS_DELTA:
            base_position = pack.position_of_offset(self.base_offset(pack, offset, header))
            if base_position < 0:
                raise CorruptPack("delta base offset is not that of an object", offset)
            base_number = pack.first_number + base_position
        elif header.type_number == REF_DELTA:
            base_position = pack.index.find(header.base_oid)
            if base_position < 0:
                raise CorruptPack(f"delta base {header.base_oid.hex()} is not in the pack", offset)
            base_number = pack.first_number + base_position
        end, crc = pack.end_of(offset), pack.index.crc_at(position)
        return PackEntry(pack, offset, end, header.type_number, header.size, header.data_offset, base_number, crc)

    def type_of(self, pack: PackFile, offset: int) -> int:
        """Return the type (1-4) of the object whose entry is at `offset`, by headers alone."""
        header = self.header(pack, offset)
        seen: set[int] = set()
        while header.type_number >= OFS_DELTA:
            seen.add(offset)
            offset = self.base_offset(pack, offset, header)
            if offset in seen:
                raise CorruptPack("delta chain is a cycle", offset)
            header = self.header(pack, offset)
        return header.type_number

    def size_of(self, pack: PackFile, offset: int) -> int:
        """Return the size of the object in bytes, from the entry's header or the beginning of the delta."""
        window = pack.read_at(offset, ENTRY_HEADER_BYTES_MAX + 64)
        header = self._parse(pack, offset, window)
        if header.type_number < OFS_DELTA:
            return header.size
        head = b""
        for chunk in _iter_inflated(pack, offset, header, window, _DELTA_SIZES_BYTES):
            head += chunk
            if len(head) >= _DELTA_SIZES_BYTES:
                break
        return parse_delta_sizes(head)[1]

    def read(self, pack: PackFile, offset: int) -> tuple[int, bytes]:
        """Return (type 1-4, content) of the object whose entry is at `offset`. Corrupt, LimitExceeded."""
        cache, cache_id = self._cache, pack.serial
        found = cache.get((cache_id, offset))
        if found is not None:
            return found
        chain: list[_Link] = []
        seen: set[int] = set()
        at = offset
        while True:
            window = pack.read_at(at, _WINDOW_BYTES)
            header = self._parse(pack, at, window)
            if header.size > self._object_bytes_max:
                raise LimitExceeded("object_bytes_max", self._object_bytes_max, header.size)
            if header.type_number < OFS_DELTA:
                found = header.type_number, _inflate(pack, at, header, window)
                cache.put((cache_id, at), found)
                break
            chain.append(_Link(at, header, window if len(chain) < _WINDOWS_KEPT_MAX else b""))
            seen.add(at)
            at = self.base_offset(pack, at, header)
            if at in seen:
                raise CorruptPack("delta chain is a cycle", at)
            found = cache.get((cache_id, at))
            if found is not None:
                break
        return self._apply(pack, found, chain)

    def _apply(self, pack: PackFile, base: tuple[int, bytes], chain: list[_Link]) -> tuple[int, bytes]:
        """Apply the deltas of `chain`, its last one first, and return what comes out."""
        type_number, content = base
        while chain:
            link = chain.pop()
            window = link.window or pack.read_at(link.offset, _WINDOW_BYTES)
            delta = _inflate(pack, link.offset, link.header, window)
            content = apply_delta(content, delta, result_bytes_max=self._object_bytes_max)
            self._cache.put((pack.serial, link.offset), (type_number, content))
        return type_number, content

    def iter_content(self, pack: PackFile, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the content in pieces of at most `chunk_bytes`.

        What is stored whole is streamed in bounded memory, and object_bytes_max doesn't apply; a delta's
        result has to be made first. Raises as `read`, perhaps late.
        """
        window = pack.read_at(offset, _WINDOW_BYTES)
        header = self._parse(pack, offset, window)
        if header.type_number < OFS_DELTA:
            yield from _iter_inflated(pack, offset, header, window, chunk_bytes)
            return
        content = self.read(pack, offset)[1]
        for at in range(0, len(content), chunk_bytes):
            yield content[at : at + chunk_bytes]


def _inflate(pack: PackFile, offset: int, header: EntryHeader, window: bytes) -> bytes:
    """Return what the entry's stream inflates to, which has to be as long as its header says."""
    stream = zlib.decompressobj()
    try:
        # One byte more than is due, so that the end of the stream is met and an excess shows. (And 0 means
        # no limit.)
        content = stream.decompress(window[header.data_offset :], header.size + 1)
    except zlib.error as error:
        raise CorruptPack(f"inflate: {error}", offset) from None
    if stream.eof and len(content) == header.size:
        return content
    return b"".join(_iter_inflated(pack, offset, header, window, _READ_BYTES))


def _iter_inflated(
    pack: PackFile, offset: int, header: EntryHeader, window: bytes, chunk_bytes: int
) -> Iterator[bytes]:
    """Yield what the entry's stream inflates to in pieces; `window` is the beginning of the entry's bytes."""
    stream = zlib.decompressobj()
    pending = window[header.data_offset :]
    next_offset = offset + len(window)
    body_end = pack.size - pack.algo.oid_size
    left = header.size
    while not stream.eof:
        if not pending:
            length = min(_READ_BYTES, left + _WINDOW_BYTES, body_end - next_offset)
            if length <= 0:
                raise CorruptPack("entry runs into the end of the pack", offset)
            pending = pack.read_at(next_offset, length)
            next_offset += len(pending)
        try:
            chunk = stream.decompress(pending, min(chunk_bytes, left + 1))
        except zlib.error as error:
            raise CorruptPack(f"inflate: {error}", offset) from None
        pending = stream.unconsumed_tail
        left -= len(chunk)
        if left < 0:
            raise CorruptPack("entry inflates to more than its header says", offset)
        if chunk:
            yield chunk
    if left:
        raise CorruptPack("entry inflates to less than its header says", offset)
