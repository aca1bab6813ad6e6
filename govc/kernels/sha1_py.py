"""SHA-1 by OpenSSL, which knows nothing of collision attacks; the story is in `sha1`."""

import hashlib
from collections.abc import Sequence


class Sha1:
    """What hashlib offers, and whether an attack was seen."""

    is_attack = False
    """Whether what was fed, ended here, holds a block of a collision attack."""

    def __init__(self, data: bytes = b"") -> None:
        self._hasher = hashlib.sha1(data, usedforsecurity=False)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Feed bytes."""
        self._hasher.update(data)

    def digest(self) -> bytes:
        """Return the raw digest of what was fed."""
        return self._hasher.digest()


def hash_many(messages: Sequence[bytes]) -> tuple[bytes, int]:
    """Return the digests one after the other, and which message holds a block of an attack (-1 for none)."""
    return b"".join(hashlib.sha1(message, usedforsecurity=False).digest() for message in messages), -1
