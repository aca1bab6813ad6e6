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


def encode_object_header(type_number: int, size: int) -> bytes:
    """Return what stands before the content when an object is hashed or stored loose; `size` in bytes."""
    return b"%s %d\0" % (TYPE_NAMES[type_number], size)


def hash_object(algo: HashAlgorithm, type_number: int, data: bytes | bytearray | memoryview) -> bytes:
    """Return the oid of an object of that type and content."""
    hasher = algo.new(encode_object_header(type_number, len(data)))
    hasher.update(data)
    return hasher.digest()
