"""The header of one pack entry: type, inflated size, and for a delta its base.

    first byte    1 bit more | 3 bits type | 4 bits size      further bytes  1 bit more | 7 bits size
    ofs-delta     the distance back to the base's entry: big-endian groups of 7 bits, each further
                  group adding one
    ref-delta     the raw oid of the base

then the zlib stream. The size is that of what the stream inflates to: for a delta, of the delta.

Source: gitformat-pack "Pack file entry", "Deltified representation".
"""

from govc.errors import CorruptPack
from govc.objects.types import OFS_DELTA, REF_DELTA
from govc.protocol.oid import HashAlgorithm

ENTRY_HEADER_BYTES_MAX = 48
"""No valid header is longer: 10 bytes of size, then 10 of distance or 32 of oid."""

_SIZE_SHIFT_MAX = 4 + 7 * 9
_DISTANCE_MAX = (1 << 63) - 1


class EntryHeader:
    """A parsed header. `data_offset` is where the zlib stream begins, counted as `pos` was."""

    __slots__ = ("base_distance", "base_oid", "data_offset", "size", "type_number")

    def __init__(self, type_number: int, size: int, data_offset: int, base_distance: int, base_oid: bytes) -> None:
        self.type_number = type_number
        self.size = size
        self.data_offset = data_offset
        self.base_distance = base_distance
        self.base_oid = base_oid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EntryHeader) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )


def encode_entry_header(type_number: int, size: int) -> bytes:
    """Return type and inflated size (bytes) as an entry begins; the base of a delta follows it."""
    byte = (type_number << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)


def encode_ofs(distance: int) -> bytes:
    """Return the distance (bytes, at least 1) from an ofs-delta's entry back to its base's entry."""
    if distance <= 0:
        raise ValueError(f"an ofs-delta's base precedes it: distance {distance}")
    out = [distance & 0x7F]
    distance >>= 7
    while distance:
        distance -= 1
        out.append(0x80 | (distance & 0x7F))
        distance >>= 7
    out.reverse()
    return bytes(out)


def _parse_distance(buf: bytes | bytearray | memoryview, pos: int) -> tuple[int, int]:
    """Return the distance and the position after it. IndexError at the end of the buffer."""
    byte = buf[pos]
    pos += 1
    distance = byte & 0x7F
    while byte & 0x80:
        byte = buf[pos]
        pos += 1
        distance = ((distance + 1) << 7) | (byte & 0x7F)
        if distance > _DISTANCE_MAX:
            raise CorruptPack("offset value overflow in delta base")
    if distance == 0:
        raise CorruptPack("delta base offset is out of bound")
    return distance, pos


def parse_entry_header(buf: bytes | bytearray | memoryview, pos: int, algo: HashAlgorithm) -> EntryHeader:
    """Return the header that begins at `buf[pos]`.

    Raises CorruptPack: "truncated" when the buffer ends inside it, else what git says of types 0 and 5 and of
    numbers out of range.
    """
    try:
        byte = buf[pos]
        pos += 1
        type_number = (byte >> 4) & 7
        size = byte & 15
        shift = 4
        while byte & 0x80:
            if shift >= _SIZE_SHIFT_MAX:
                raise CorruptPack("object size overflow in entry header")
            byte = buf[pos]
            pos += 1
            size |= (byte & 0x7F) << shift
            shift += 7
        if 0 < type_number < 5:
            return EntryHeader(type_number, size, pos, 0, b"")
        if type_number == OFS_DELTA:
            distance, pos = _parse_distance(buf, pos)
            return EntryHeader(OFS_DELTA, size, pos, distance, b"")
    except IndexError:
        raise CorruptPack("truncated") from None
    if type_number != REF_DELTA:
        raise CorruptPack(f"unknown object type {type_number}")
    base_oid = bytes(buf[pos : pos + algo.oid_size])
    if len(base_oid) != algo.oid_size:
        raise CorruptPack("truncated")
    return EntryHeader(REF_DELTA, size, pos + algo.oid_size, 0, base_oid)
