"""Reading an entry of a pack again, once the scanner has found where it lies and checked that it inflates."""

import os
import zlib
from collections.abc import Iterator

from govc.errors import CorruptPack, LimitExceeded
from govc.pack.entry import ENTRY_HEADER_BYTES_MAX, parse_entry_header
from govc.pack.tables import EntryTable

_PIECE_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18


def inflate_entry(fd: int, table: EntryTable, entry: int, size_max: int) -> bytes:
    """Return an entry inflated: the object, or the delta. LimitExceeded above `size_max` bytes."""
    offset = table.offsets[entry]
    raw = os.pread(fd, table.offsets[entry + 1] - offset, offset)
    header = parse_entry_header(raw, 0, table.algo)
    if header.size > size_max:
        raise LimitExceeded("object bytes in memory", size_max, header.size)
    try:
        return zlib.decompress(memoryview(raw)[header.data_offset :], bufsize=header.size or 1)
    except zlib.error as error:
        raise CorruptPack(f"inflate failed: {error}", offset) from None


def iter_inflated(fd: int, table: EntryTable, entry: int) -> Iterator[bytes]:
    """Yield the inflated bytes of an entry in pieces of at most 256 KiB."""
    offset, end = table.offsets[entry], table.offsets[entry + 1]
    header = parse_entry_header(os.pread(fd, ENTRY_HEADER_BYTES_MAX, offset), 0, table.algo)
    at = offset + header.data_offset
    inflater = zlib.decompressobj()
    while not inflater.eof:
        piece = os.pread(fd, min(_PIECE_BYTES, end - at), at)
        if not piece:
            raise CorruptPack("early EOF", at)
        at += len(piece)
        while piece and not inflater.eof:
            try:
                yield inflater.decompress(piece, _OUTPUT_BYTES)
            except zlib.error as error:
                raise CorruptPack(f"inflate failed: {error}", offset) from None
            piece = inflater.unconsumed_tail
