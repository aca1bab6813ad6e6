"""Files of columns, as segments and lists of changed paths are: a header, columns, a checksum over all of it.

Header and columns each begin at a multiple of eight bytes, zeros between, so that a map of the file can be read as
numbers where it lies. Which columns there are, and how long, a format's header says (docs/formats/introductions.md).
"""

from collections.abc import Iterable, Iterator, Sequence

from govc.protocol.oid import HashAlgorithm

_CHUNK_BYTES = 1 << 20


def _padding(size: int) -> int:
    return -size % 8


def iter_encoded_columns(pieces: Iterable[bytes], algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield a file of header and columns in pieces; the last one is the checksum of the others."""
    hasher = algo.new()
    for piece in pieces:
        padded = piece + bytes(_padding(len(piece)))
        hasher.update(padded)
        yield padded
    yield hasher.digest()


def split_columns(
    view: memoryview, header_bytes: int, sizes: Sequence[int], algo: HashAlgorithm, *, trusted: bool = False
) -> list[memoryview]:
    """Return the columns of a file, whose sizes in bytes its header says. `trusted`: the checksum isn't computed.

    Costs about 1 ms for each MB. Raises ValueError, which says what is wrong.
    """
    end = header_bytes + sum(size + _padding(size) for size in sizes)
    if len(view) != end + algo.oid_size:
        raise ValueError(f"{len(view)} bytes instead of {end + algo.oid_size}")
    if not trusted:
        hasher = algo.new()
        for at in range(0, end, _CHUNK_BYTES):
            hasher.update(view[at : min(at + _CHUNK_BYTES, end)])
        if hasher.digest() != view[end:]:
            raise ValueError("checksum mismatch")
    columns = []
    at = header_bytes
    for size in sizes:
        columns.append(view[at : at + size])
        at += size + _padding(size)
    return columns
