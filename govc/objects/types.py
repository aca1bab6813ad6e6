"""The four object types, the two delta encodings, and how an object gets its name.

The numbers are those of a pack entry's header (gitformat-pack "Object types"); 0 and 5 are reserved. An
object's name is the hash of `<type name> SP <decimal size> NUL <content>`.
"""

from govc.protocol.oid import HashAlgorithm

COMMIT = 1
TREE = 2
BLOB = 3
TAG = 4
OFS_DELTA = 6
REF_DELTA = 7

TYPE_NAMES: dict[int, bytes] = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
"""Names of the four real types; the delta encodings have none."""

TYPE_NUMBERS: dict[bytes, int] = {name: number for number, name in TYPE_NAMES.items()}
"""The way back."""


JOINED_BYTES_MAX = 1 << 12
"""So small an object is copied behind its header and hashed in one call, which costs less than two."""

HEADER_FORMATS: dict[int, bytes] = {number: name + b" %d\0" for number, name in TYPE_NAMES.items()}
"""What stands before an object's content, when its size in bytes is put in (%); for loops that hash many objects."""


def encode_object_header(type_number: int, size: int) -> bytes:
    """Return what stands before the content when an object is hashed or stored loose; `size` in bytes."""
    return HEADER_FORMATS[type_number] % size


def hash_object(algo: HashAlgorithm, type_number: int, data: bytes | bytearray | memoryview) -> bytes:
    """Return the oid of an object of that type and content."""
    header = HEADER_FORMATS[type_number] % len(data)
    if len(data) <= JOINED_BYTES_MAX:
        return algo.new(header + data).digest()
    hasher = algo.new(header)
    hasher.update(data)
    return hasher.digest()
