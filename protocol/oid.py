"""Object ids and the two hash algorithms that name them.

An oid is raw bytes everywhere inside govc (20 for SHA-1, 32 for SHA-256); hexadecimal is made at an edge
(a pkt-line, a file, a log line) and parsed at an edge.

Source: gitprotocol-capabilities "object-format", hash-function-transition.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol


class Hasher(Protocol):
    """What hashlib's objects offer."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Feed bytes."""

    def digest(self) -> bytes:
        """Return the raw digest."""

    def copy(self) -> "Hasher":
        """Return an independent copy of the state."""


class HashAlgorithm(NamedTuple):
    """One object format: its wire name and the sizes of its oids, in bytes and in hex digits."""

    name: str
    oid_size: int
    hex_size: int
    zero: bytes
    zero_hex: bytes
    new: Callable[..., Hasher]

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


SHA1 = HashAlgorithm("sha1", 20, 40, bytes(20), b"0" * 40, partial(hashlib.sha1, usedforsecurity=False))
SHA256 = HashAlgorithm("sha256", 32, 64, bytes(32), b"0" * 64, partial(hashlib.sha256, usedforsecurity=False))

_ALGORITHMS = {a.name: a for a in (SHA1, SHA256)}


def find_algorithm(name: str) -> HashAlgorithm | None:
    """Return the algorithm with that wire name ("sha1", "sha256"), or None."""
    return _ALGORITHMS.get(name)


def to_hex(oid: bytes) -> bytes:
    """Return the lower-case hex digits of a raw oid."""
    return oid.hex().encode("ascii")
