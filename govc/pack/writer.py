"""Writing a pack to send, out of what is stored already.

An entry is copied byte for byte when it is whole, or when it is a delta whose base is sent too (or is at
the peer, in a thin pack): only the few bytes before its zlib stream are made anew. Everything else is
expanded and compressed. Objects leave in the order of the packs they are in, by offset, so that the base of
an ofs-delta is out before it; loose ones come last. Nothing is held but three numbers per object and one
chunk.

Source: gitformat-pack "Deltified representation"; git's builtin/pack-objects.c check_object for what is
reused.
"""

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Protocol

from govc.errors import CorruptPack
from govc.objects.types import OFS_DELTA, REF_DELTA
from govc.pack.entry import ENTRY_HEADER_BYTES_MAX, encode_entry_header, encode_ofs, parse_entry_header
from govc.pack.format import encode_pack_header
from govc.pack.tables import sort_by_offset
from govc.protocol.oid import HashAlgorithm

_READ_AHEAD_BYTES = 1 << 15
_COMPRESS_PIECE_BYTES = 1 << 18
_CHAIN_WALK_MAX = 5000
_PLAN_TICK_ENTRIES = 256


class SourcePack(Protocol):
    """A stored pack, as far as copying goes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the file from `offset` on."""


class SourceEntry(Protocol):
    """Where and how one object is stored in a pack; see odb's PackEntry."""

    @property
    def pack(self) -> SourcePack:
        """The pack it is in."""

    @property
    def offset(self) -> int:
        """Where the entry begins."""

    @property
    def end(self) -> int:
        """Where it ends."""

    @property
    def type_number(self) -> int:
        """As stored: 1 to 4, 6 or 7."""

    @property
    def size(self) -> int:
        """Inflated size of the entry, in bytes."""

    @property
    def header_size(self) -> int:
        """Bytes before the zlib stream."""

    @property
    def base_number(self) -> int:
        """The delta's base, -1 when it is none."""

    @property
    def crc(self) -> int | None:
        """CRC-32 of the entry's bytes as the index has it, None where it has none."""


class EntrySource(Protocol):
    """Where objects come from, by object number; see odb's ObjectStore."""

    @property
    def algo(self) -> HashAlgorithm:
        """The object format."""

    def entry(self, number: int) -> SourceEntry | None:
        """Return the stored entry, None when the object is loose."""

    def read(self, number: int) -> tuple[int, bytes]:
        """Return type (1 to 4) and content."""

    def oid_of(self, number: int) -> bytes:
        """Return the name."""


class _Output:
    """Bytes on their way out: gathered to chunks, counted and hashed."""

    def __init__(self, algo: HashAlgorithm, chunk_bytes: int) -> None:
        self._hasher = algo.new()
        self._chunk_bytes = chunk_bytes
        self._pieces: list[bytes] = []
        self._pending = 0
        self.offset = 0

    def add(self, piece: bytes) -> bool:
        """Take a piece; return whether a chunk is full."""
        self._pieces.append(piece)
        self._pending += len(piece)
        self.offset += len(piece)
        return self._pending >= self._chunk_bytes

    def take(self) -> bytes:
        """Return what has gathered."""
        chunk = b"".join(self._pieces)
        self._pieces.clear()
        self._pending = 0
        self._hasher.update(chunk)
        return chunk

    def finish(self) -> bytes:
        """Return what has gathered and the trailer."""
        return self.take() + self._hasher.digest()


class _ReadAhead:
    """Reads a pack forwards, so that neighbouring small entries cost one read together."""

    def __init__(self) -> None:
        self._pack: SourcePack | None = None
        self._start = 0
        self._buf = b""

    def read(self, pack: SourcePack, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer at the end of the file."""
        at = offset - self._start
        if pack is not self._pack or at < 0 or at + length > len(self._buf):
            self._buf = pack.read_at(offset, max(length, _READ_AHEAD_BYTES))
            self._pack, self._start, at = pack, offset, 0
        return self._buf[at : at + length]


class _Plan:
    """Which objects are sent, in which order, and where those already out begin."""

    def __init__(self, source: EntrySource, numbers: "array[int]") -> None:
        self._source = source
        self.numbers = _sort_unique(numbers)
        self._new_offsets = array("Q", bytes(8 * len(self.numbers)))
        self._packs: dict[int, tuple[array[int], array[int]]] = {}
        self._loose: array[int] = array("Q")

    def iter_planning(self) -> Iterator[None]:
        """Look every object up, yielding once in a while."""
        for done, number in enumerate(self.numbers):
            entry = self._source.entry(number)
            if entry is None:
                self._loose.append(number)
            else:
                members, offsets = self._packs.setdefault(id(entry.pack), (array("Q"), array("Q")))
                members.append(number)
                offsets.append(entry.offset)
            if done % _PLAN_TICK_ENTRIES == 0:
                yield

    def iter_numbers(self) -> Iterator[int]:
        """Yield the objects in the order in which they leave."""
        for members, offsets in self._packs.values():
            for index in sort_by_offset(offsets):
                yield members[index]
        yield from self._loose

    def sent_at(self, number: int) -> int:
        """Return where the object begins in the new pack, 0 when it isn't out yet, -1 when it isn't sent."""
        at = bisect_left(self.numbers, number)
        if at == len(self.numbers) or self.numbers[at] != number:
            return -1
        return self._new_offsets[at]

    def note(self, number: int, offset: int) -> None:
        """Note that the object begins at `offset`."""
        self._new_offsets[bisect_left(self.numbers, number)] = offset

    def comes_to_an_end(self, number: int, base: int) -> bool:
        """Tell whether the chain of a delta whose base is sent later ends, and not in the delta itself."""
        for _ in range(_CHAIN_WALK_MAX):
            if base == number:
                return False
            if self.sent_at(base):
                return True  # out already, or not sent: then what stands on it is expanded or thin
            entry = self._source.entry(base)
            if entry is None or entry.base_number < 0:
                return True
            base = entry.base_number
        return False


def _sort_unique(numbers: "array[int]") -> "array[int]":
    order = sort_by_offset(numbers)
    out: array[int] = array("Q")
    last = -1
    for index in order:
        number = numbers[index]
        if number != last:
            out.append(number)
            last = number
    return out


def write_pack(
    source: EntrySource,
    numbers: "array[int]",
    *,
    ofs_delta: bool,
    thin_bases: Callable[[int], bool] | None = None,
    compression_level: int = -1,
    chunk_bytes: int = 1 << 16,
    ticks: bool = False,
) -> Iterator[bytes]:
    """Yield a pack (version 2) of the objects in `numbers` (array of Q, any order, repeats ignored), in chunks.

    `ofs_delta`: the peer understands them. `thin_bases` tells which objects, by number, the peer has;
    without it the pack is complete in itself, except for what was missing from `numbers`: a delta whose
    base isn't among them is expanded. A chunk has about `chunk_bytes` bytes. With `ticks`, empty chunks
    come between the others where work is done that yields no bytes yet. A large loose object, or one to be
    expanded, is held whole.

    Raises CorruptPack when a stored entry isn't what the source says, or what the index was made of; what `source`
    raises passes.
    """
    plan = _Plan(source, numbers)
    output = _Output(source.algo, chunk_bytes)
    reader = _ReadAhead()
    output.add(encode_pack_header(len(plan.numbers)))
    for _ in plan.iter_planning():
        if ticks:
            yield b""
    for number in plan.iter_numbers():
        start = output.offset
        entry = source.entry(number)
        head = None if entry is None else _encode_head(source, plan, number, entry, start, ofs_delta, thin_bases)
        if entry is None or head is None:
            type_number, content = source.read(number)
            pieces = _iter_compressed(type_number, content, compression_level)
        else:
            output.add(head)
            pieces = _iter_stored(reader, source.algo, entry, chunk_bytes)
        for piece in pieces:
            if output.add(piece):
                yield output.take()
        plan.note(number, start)
    yield output.finish()


def _encode_head(
    source: EntrySource,
    plan: _Plan,
    number: int,
    entry: SourceEntry,
    start: int,
    ofs_delta: bool,
    thin_bases: Callable[[int], bool] | None,
) -> bytes | None:
    """Return what to write before the stored zlib stream, None when the object has to be expanded."""
    base = entry.base_number
    if entry.type_number not in (OFS_DELTA, REF_DELTA):
        return encode_entry_header(entry.type_number, entry.size)
    if base < 0:
        return None
    base_start = plan.sent_at(base)
    if base_start > 0 and ofs_delta:
        return encode_entry_header(OFS_DELTA, entry.size) + encode_ofs(start - base_start)
    if base_start > 0:
        usable = True
    elif base_start == 0:
        usable = plan.comes_to_an_end(number, base)
    else:
        usable = thin_bases is not None and thin_bases(base)
    return encode_entry_header(REF_DELTA, entry.size) + source.oid_of(base) if usable else None


def _iter_stored(reader: _ReadAhead, algo: HashAlgorithm, entry: SourceEntry, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the stored zlib stream, after checking that the entry is what it is said to be.

    Its last bytes come only when all of them are what the index was made of.
    """
    length = entry.end - entry.offset
    raw = reader.read(entry.pack, entry.offset, min(length, max(chunk_bytes, ENTRY_HEADER_BYTES_MAX)))
    header = parse_entry_header(raw, 0, algo)
    if (header.type_number, header.size, header.data_offset) != (entry.type_number, entry.size, entry.header_size):
        raise CorruptPack("a stored entry's header has changed", entry.offset)
    done, crc = len(raw), zlib.crc32(raw)
    waiting = raw[entry.header_size :]
    while done < length:
        yield waiting
        waiting = entry.pack.read_at(entry.offset + done, min(chunk_bytes, length - done))
        if not waiting:
            raise CorruptPack("early EOF", entry.offset + done)
        done += len(waiting)
        crc = zlib.crc32(waiting, crc)
    if entry.crc is not None and crc != entry.crc:
        raise CorruptPack("an entry doesn't match its CRC-32 in the index", entry.offset)
    yield waiting


def _iter_compressed(type_number: int, content: bytes, level: int) -> Iterator[bytes]:
    """Yield a whole entry for an object."""
    head = encode_entry_header(type_number, len(content))
    if len(content) <= _COMPRESS_PIECE_BYTES:
        yield head + zlib.compress(content, level)
        return
    yield head
    compressor = zlib.compressobj(level)
    view = memoryview(content)
    for at in range(0, len(view), _COMPRESS_PIECE_BYTES):
        yield compressor.compress(view[at : at + _COMPRESS_PIECE_BYTES])
    yield compressor.flush()
