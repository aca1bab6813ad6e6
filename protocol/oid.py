"""Object ids and the two hash algorithms that name them.

An oid is raw bytes everywhere inside govc (20 for SHA-1, 32 for SHA-256); hexadecimal is made at an edge
(a pkt-line, a file, a log line) and parsed at an edge.

Source: gitprotocol-capabilities "object-format", hash-function-transition.
"""

import hashlib
from collections.abc import Callable

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Protocol
else:  # the wire's lowest module doesn't import typing: see the package
    Protocol = object


class Hasher(Protocol):
    """What hashlib's objects offer."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Feed bytes."""

    def digest(self) -> bytes:
        """Return the raw digest."""

    def copy(self) -> "Hasher":
        """Return an independent copy of the state."""


class HashAlgorithm:
    """One object format: its wire name and the sizes of its oids, in bytes and in hex digits. There are two, for good.

    `new` makes a hasher, of the bytes that it is given or of none.
    """

    __slots__ = ("hex_size", "name", "new", "oid_size", "zero", "zero_hex")

    def __init__(self, name: str, oid_size: int, new: Callable[..., Hasher]) -> None:
        self.name = name
        self.oid_size = oid_size
        self.hex_size = 2 * oid_size
        self.zero = bytes(oid_size)
        self.zero_hex = b"0" * self.hex_size
        self.new = new

    def __reduce__(self) -> tuple[Callable[[str], "HashAlgorithm | None"], tuple[str]]:
        return find_algorithm, (self.name,)

    def __repr__(self) -> str:
        return f"<HashAlgorithm {self.name}>"

    def parse_hex(self, text: bytes) -> bytes | None:
        """Return the raw oid that `text` spells, or None when it isn't exactly `hex_size` hex digits.

        Upper case is accepted, as git's get_oid_hex does; surrounding blanks are not.
        """
        if len(text) != self.hex_size or not text.isalnum():
            return None
        try:
            return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            return None

    def parse_hex_row(self, text: bytes) -> bytes | None:
        """Return the raw oids that many hex digits spell, one after the other, or None when they don't."""
        if len(text) % self.hex_size or not text.isalnum():
            return None
        try:
            return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            return None


def _for_names(make: Callable[..., Hasher]) -> Callable[..., Hasher]:
    """Return hashlib's function itself, or where it refuses (FIPS) one that says that it is no matter of security."""
    try:
        make()
    except ValueError:

        def new(data: bytes = b"") -> Hasher:
            return make(data, usedforsecurity=False)

        return new
    return make


SHA1 = HashAlgorithm("sha1", 20, _for_names(hashlib.sha1))
SHA256 = HashAlgorithm("sha256", 32, _for_names(hashlib.sha256))

_ALGORITHMS = {a.name: a for a in (SHA1, SHA256)}


def find_algorithm(name: str) -> HashAlgorithm | None:
    """Return the algorithm with that wire name ("sha1", "sha256"), or None."""
    return _ALGORITHMS.get(name)


def to_hex(oid: bytes) -> bytes:
    """Return the lower-case hex digits of a raw oid."""
    return oid.hex().encode("ascii")
