"""The frame of a pack file: a header of twelve bytes, the entries, the trailer.

    "PACK"  version (4 bytes)  number of entries (4 bytes)  entry...  hash of everything before

Numbers are big-endian. Versions 2 and 3 are read (they don't differ for us), 2 is written.

Source: gitformat-pack "pack-*.pack files have the following format".
"""

import struct

from govc.errors import CorruptPack

PACK_SIGNATURE = b"PACK"
PACK_VERSION = 2
PACK_VERSIONS_READ = (2, 3)
PACK_HEADER_SIZE = 12

INDEX_SIGNATURE = b"\377tOc"
INDEX_VERSION = 2
REVERSE_INDEX_SIGNATURE = b"RIDX"
REVERSE_INDEX_VERSION = 1

HASH_IDS = {"sha1": 1, "sha256": 2}
"""The numbers of the hash algorithms in a reverse index (and in a multi-pack index)."""

_HEADER = struct.Struct(">4sII")


def encode_pack_header(count: int) -> bytes:
    """Return the twelve bytes before `count` entries."""
    return _HEADER.pack(PACK_SIGNATURE, PACK_VERSION, count)


def parse_pack_header(data: bytes) -> int:
    """Return the number of entries that a pack header states; `data` begins with the header.

    Raises CorruptPack with the texts that git's receive-pack reports in its `unpack` line.
    """
    if len(data) < PACK_HEADER_SIZE:
        raise CorruptPack("eof before pack header was fully read")
    signature, version, count = _HEADER.unpack_from(data)
    if signature != PACK_SIGNATURE:
        raise CorruptPack("protocol error (pack signature mismatch detected)")
    if version not in PACK_VERSIONS_READ:
        raise CorruptPack("protocol error (pack version unsupported)")
    return int(count)
