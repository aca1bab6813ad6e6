"""The bytes of a reftable: header, footer, varints and the values of records.

    header   "REFT" version:1 block_size:3 min_update_index:8 max_update_index:8 [hash id:4, version 2 only]
    footer   header ref_index:8 (obj << 5 | obj_id_size):8 obj_index:8 log:8 log_index:8 crc32:4

All numbers are big-endian; positions are bytes from the start of the file, 0 for a section that isn't there. Version
1 is SHA-1, version 2 names its hash. A varint is the one of ofs-deltas in packs.

A record is `varint(prefix size) varint(suffix size << 3 | type) suffix value`; its key is that many bytes of the key
before it, and the suffix. Keys and values:

    r  refname                              varint(update index - min) and by type: 0 nothing (a tombstone),
                                            1 oid, 2 oid and peeled oid, 3 varint(size) and a symref's target
    g  refname NUL (2^64-1 - update index)  type 0 nothing (a tombstone), 1 old oid, new oid, name, email,
                                            varint(seconds), zone:2, message; strings with a varint of their size
    i  the last key of a block              varint(position of the block)
    o  the first bytes of an oid            positions of ref blocks, the first absolute; type is their number, or 0 and
                                            the number follows as a varint

Everything here is pure. What isn't well-formed raises CorruptRefs.

Source: git's technical/reftable.
"""

import struct
import zlib
from typing import Final, NamedTuple

from govc.errors import CorruptRefs
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC: Final = b"REFT"
REF_BLOCK: Final = ord("r")
LOG_BLOCK: Final = ord("g")
INDEX_BLOCK: Final = ord("i")
OBJ_BLOCK: Final = ord("o")
BLOCK_KINDS: Final = frozenset((REF_BLOCK, LOG_BLOCK, INDEX_BLOCK, OBJ_BLOCK))

BLOCK_SIZE_MAX: Final = (1 << 24) - 1
RESTARTS_MAX: Final = (1 << 16) - 1
BLOCK_HEADER_SIZE: Final = 4

NAME_BYTES_MAX: Final = 4096
"""No longer refname is taken from a table: a path in the files backend can't be longer either."""

_HASH_IDS = {b"sha1": SHA1, b"s256": SHA256}
_FIXED = struct.Struct(">4sB3sQQ")
_POSITIONS = struct.Struct(">QQQQQ")
_UINT64_MAX = (1 << 64) - 1


class Header(NamedTuple):
    """The start of a table. `block_size` 0: blocks aren't aligned."""

    version: int
    block_size: int
    min_update_index: int
    max_update_index: int
    algo: HashAlgorithm

    @property
    def size(self) -> int:
        """How many bytes the header takes."""
        return header_size(self.version)


class Footer(NamedTuple):
    """Where the sections are, in bytes from the start; 0 for one that isn't there (or for log blocks at the start)."""

    ref_index: int = 0
    obj: int = 0
    obj_id_size: int = 0
    obj_index: int = 0
    log: int = 0
    log_index: int = 0


class RefRecord(NamedTuple):
    """One ref as a table has it: an oid (perhaps with what its tag names), a symref's target, or a tombstone."""

    name: bytes
    update_index: int
    oid: bytes | None = None
    peeled: bytes | None = None
    target: bytes | None = None

    @property
    def is_tombstone(self) -> bool:
        """Say whether the record takes back what older tables say."""
        return self.oid is None and self.target is None


class LogEntry(NamedTuple):
    """One line of a reflog. `zone`: minutes east of Greenwich by the specification; git writes hhmm as a number."""

    old: bytes
    new: bytes
    name: bytes
    email: bytes
    seconds: int
    zone: int
    message: bytes

    @property
    def is_existence_marker(self) -> bool:
        """Say whether the entry only says that the ref has a reflog, an empty one (git's convention)."""
        return not any(self.old) and not any(self.new)


class LogRecord(NamedTuple):
    """One reflog entry of one ref; `entry` None is a tombstone."""

    name: bytes
    update_index: int
    entry: LogEntry | None


def header_size(version: int) -> int:
    """Return how many bytes a header of that version takes."""
    return 24 if version == 1 else 28


def footer_size(version: int) -> int:
    """Return how many bytes a footer of that version takes."""
    return header_size(version) + _POSITIONS.size + 4


def version_for(algo: HashAlgorithm) -> int:
    """Return the version that is written for a hash: 1 wherever it can be."""
    return 1 if algo is SHA1 else 2


def encode_header(header: Header) -> bytes:
    """Return the bytes of a header."""
    fixed = _FIXED.pack(
        MAGIC, header.version, header.block_size.to_bytes(3, "big"), header.min_update_index, header.max_update_index
    )
    if header.version == 1:
        return fixed
    return fixed + next(hash_id for hash_id, algo in _HASH_IDS.items() if algo is header.algo)


def parse_header(data: bytes) -> Header:
    """Return the header at the start of `data`."""
    if len(data) < _FIXED.size or not data.startswith(MAGIC):
        raise CorruptRefs("not a reftable")
    _, version, block_size, low, high = _FIXED.unpack_from(data)
    if version not in (1, 2):
        raise CorruptRefs(f"version {version} of the format is unknown")
    algo: HashAlgorithm | None = SHA1
    if version == 2:
        algo = _HASH_IDS.get(data[24:28])
    if algo is None:
        raise CorruptRefs(f"unknown hash {data[24:28]!r}")
    if low > high:
        raise CorruptRefs(f"update indexes {low} to {high}")
    return Header(version, int.from_bytes(block_size, "big"), low, high, algo)


def encode_footer(header: Header, footer: Footer) -> bytes:
    """Return the bytes of a footer."""
    data = encode_header(header) + _POSITIONS.pack(
        footer.ref_index, footer.obj << 5 | footer.obj_id_size, footer.obj_index, footer.log, footer.log_index
    )
    return data + zlib.crc32(data).to_bytes(4, "big")


def parse_footer(data: bytes, header_bytes: bytes, file_size: int) -> Footer:
    """Return the footer `data` of a file of `file_size` bytes that starts with `header_bytes`."""
    body, crc = data[:-4], int.from_bytes(data[-4:], "big")
    if not body.startswith(header_bytes):
        raise CorruptRefs("header and footer differ")
    if zlib.crc32(body) != crc:
        raise CorruptRefs("checksum of the footer is wrong")
    ref_index, obj, obj_index, log, log_index = _POSITIONS.unpack_from(body, len(header_bytes))
    footer = Footer(ref_index, obj >> 5, obj & 31, obj_index, log, log_index)
    end = file_size - len(data)
    if any(position >= end for position in (ref_index, footer.obj, obj_index, log, log_index) if position):
        raise CorruptRefs("a section starts beyond the end")
    return footer


def encode_varint(value: int) -> bytes:
    """Return a number as a varint."""
    if value < 0x80:
        return bytes((value,))
    pieces = [value & 0x7F]
    value >>= 7
    while value:
        value -= 1
        pieces.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes(reversed(pieces))


def decode_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return (number, position after it)."""
    value = 0
    while True:
        if position >= end:
            raise CorruptRefs(f"record cut off at {position}")
        byte = data[position]
        position += 1
        value |= byte & 0x7F
        if byte < 0x80:
            return value, position
        value = value + 1 << 7
        if value > _UINT64_MAX:
            raise CorruptRefs(f"number too large at {position}")


def encode_string(text: bytes) -> bytes:
    """Return bytes with a varint of their size in front."""
    return encode_varint(len(text)) + text


def decode_string(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Return (bytes, position after them)."""
    size, position = decode_varint(data, position, end)
    if size > end - position:
        raise CorruptRefs(f"string cut off at {position}")
    return data[position : position + size], position + size


def encode_ref_value(record: RefRecord, min_update_index: int) -> tuple[int, bytes]:
    """Return (type, value) of a ref."""
    index = encode_varint(record.update_index - min_update_index)
    if record.target is not None:
        return 3, index + encode_string(record.target)
    if record.oid is None:
        return 0, index
    if record.peeled is not None:
        return 2, index + record.oid + record.peeled
    return 1, index + record.oid


def encode_log_key(name: bytes, update_index: int) -> bytes:
    """Return the key of a reflog entry: newer ones sort first."""
    return name + b"\0" + (_UINT64_MAX - update_index).to_bytes(8, "big")


def parse_log_key(key: bytes) -> tuple[bytes, int]:
    """Return (refname, update index)."""
    if len(key) < 10 or key[-9] != 0:
        raise CorruptRefs("ill-formed key of a reflog entry")
    return key[:-9], _UINT64_MAX - int.from_bytes(key[-8:], "big")


def encode_log_value(entry: LogEntry | None) -> tuple[int, bytes]:
    """Return (type, value) of a reflog entry."""
    if entry is None:
        return 0, b""
    return 1, b"".join(
        (
            entry.old,
            entry.new,
            encode_string(entry.name),
            encode_string(entry.email),
            encode_varint(entry.seconds),
            entry.zone.to_bytes(2, "big", signed=True),
            encode_string(entry.message),
        )
    )


def decode_log_value(
    data: bytes, position: int, end: int, kind: int, algo: HashAlgorithm
) -> tuple[LogEntry | None, int]:
    """Return (entry, position after it)."""
    if kind == 0:
        return None, position
    if kind != 1:
        raise CorruptRefs(f"reflog entry of type {kind}")
    size = algo.oid_size
    if end - position < 2 * size:
        raise CorruptRefs("reflog entry cut off")
    old, new = data[position : position + size], data[position + size : position + 2 * size]
    name, position = decode_string(data, position + 2 * size, end)
    email, position = decode_string(data, position, end)
    seconds, position = decode_varint(data, position, end)
    if end - position < 2:
        raise CorruptRefs("reflog entry cut off")
    zone = int.from_bytes(data[position : position + 2], "big", signed=True)
    message, position = decode_string(data, position + 2, end)
    return LogEntry(old, new, name, email, seconds, zone, message), position


def encode_obj_value(positions: list[int]) -> tuple[int, bytes]:
    """Return (type, value) of an obj record: where the ref blocks are that name the object; ascending."""
    kind = len(positions) if len(positions) < 8 else 0
    value = encode_varint(len(positions)) if kind == 0 else b""
    last = 0
    for position in positions:
        value += encode_varint(position - last)
        last = position
    return kind, value
