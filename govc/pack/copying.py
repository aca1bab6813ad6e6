"""A pack to send, by the kernels: what `writer.write_pack` does, as chunks made without the GIL.

A chunk is made by one call of `next_chunk`, which may run in a thread: reading, copying, compressing and hashing leave
the GIL alone. Where the numbers are exactly the objects of one pack, that file is sent as it lies, its trailer
included, and nothing is hashed at all. What is copied is compared with the CRC-32 that the pack's index has of it.

Loose objects come last, read and compressed anew.
"""

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from govc.errors import CorruptPack
from govc.kernels.chains import ForwardColumns
from govc.kernels.packcheck import PackCheck
from govc.kernels.packcopy import ForwardDelta, PackCopier, ReadySource
from govc.kernels.packread import PackReader
from govc.kernels.thin import ThinChoice, ThinFile
from govc.pack.entry import encode_entry_header
from govc.pack.format import encode_pack_header
from govc.protocol.oid import HashAlgorithm

_COMPRESS_PIECE_BYTES = 1 << 18


class ObjectSource(Protocol):
    """Where loose objects come from."""

    @property
    def algo(self) -> HashAlgorithm:
        """The object format."""

    def read(self, number: int) -> tuple[int, bytes]:
        """Return type (1 to 4) and content."""


class WholePack(Protocol):
    """A stored pack that may be sent as it lies."""

    @property
    def first_number(self) -> int:
        """The number of its first object; the others follow."""

    @property
    def count(self) -> int:
        """How many objects it has."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on."""


class CopiedPack:
    """One pack in the making. For one thread at a time, not always the same."""

    def __init__(
        self,
        source: ObjectSource,
        reader: PackReader,
        packed: "array[int]",
        loose: "array[int]",
        *,
        at_peer: Callable[[int], bool] | None = None,
        forward: Sequence[ForwardColumns] = (),
        level: int = -1,
        chunk_bytes: int = 1 << 16,
        whole_pack: WholePack | None = None,
        make_delta: Callable[[int], ForwardDelta | None] | None = None,
        ready: ReadySource | None = None,
        thin: ThinFile | None = None,
    ) -> None:
        """`packed` and `loose`: object numbers, ascending, each once. `whole_pack`: the pack of the first one, which is
        sent as it lies when these are all its objects: then nothing is held for each of them. `thin`: entries of which
        those that suit go out first; it takes `at_peer` to be what `Painting.peer_of` returns.

        The rest is `PackCopier`'s.
        """
        self._source = source
        self._level = level
        self._chunk_bytes = chunk_bytes
        self._count = len(packed) + len(loose)
        self._loose = loose
        self._whole = whole_pack if not loose and _is_all_of(whole_pack, packed) else None
        self._copier: PackCopier | None = None
        if self._whole is not None:
            check = PackCheck(reader.table, packed[0])
            check.prepare()
            self._chunks = self._iter_whole(self._whole, check)
        else:
            choice = ThinChoice(thin, reader, packed, at_peer) if thin is not None else None
            rest = packed if choice is None else choice.rest
            self._copier = PackCopier(reader, rest.tobytes(), at_peer, forward, level, make_delta, ready, choice)
            self._chunks = self._iter_chunks(self._copier)

    @property
    def is_verbatim(self) -> bool:
        """Whether a stored pack is sent as it lies."""
        return self._whole is not None

    @property
    def has_loose(self) -> bool:
        """Whether it reads from the source."""
        return bool(self._loose)

    @property
    def reused(self) -> int:
        """Entries copied so far."""
        return self._copier.reused if self._copier is not None else self._count

    def next_chunk(self) -> bytes:
        """Return the next bytes of the pack, b"" after the last. CorruptPack, LimitExceeded, OSError, ObjectMissing."""
        return next(self._chunks, b"")

    def _iter_whole(self, pack: WholePack, check: PackCheck) -> Iterator[bytes]:
        at = 0
        while at < pack.size:
            chunk = pack.read_at(at, min(self._chunk_bytes, pack.size - at))
            if not chunk:
                raise CorruptPack("pack file became shorter", at)
            check.look(at, (chunk,))
            yield chunk
            at += len(chunk)

    def _iter_chunks(self, copier: PackCopier) -> Iterator[bytes]:
        hasher = self._source.algo.new()
        pending = encode_pack_header(self._count)
        while chunk := copier.next_chunk(self._chunk_bytes):
            chunk = pending + chunk if pending else chunk
            pending = b""
            hasher.update(chunk)
            if len(chunk) < self._chunk_bytes:
                pending = chunk  # the last one: what follows goes with it
                break
            yield chunk
        else:
            hasher.update(pending)
        for number in self._loose:
            for piece in self._iter_compressed(number):
                hasher.update(piece)
                pending += piece
                if len(pending) >= self._chunk_bytes:
                    yield pending
                    pending = b""
        yield pending + hasher.digest()

    def _iter_compressed(self, number: int) -> Iterator[bytes]:
        type_number, content = self._source.read(number)
        compressor = zlib.compressobj(self._level)
        piece = encode_entry_header(type_number, len(content))
        for at in range(0, len(content), _COMPRESS_PIECE_BYTES):
            piece += compressor.compress(content[at : at + _COMPRESS_PIECE_BYTES])
            if len(piece) >= _COMPRESS_PIECE_BYTES:
                yield piece
                piece = b""
        yield piece + compressor.flush()


def _is_all_of(pack: WholePack | None, numbers: "array[int]") -> bool:
    """Tell whether numbers that ascend are those of all objects of a pack, and no others."""
    if pack is None or not numbers or len(numbers) != pack.count:
        return False
    return numbers[0] == pack.first_number and numbers[-1] == pack.first_number + pack.count - 1
