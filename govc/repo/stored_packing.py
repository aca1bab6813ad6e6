"""Answers that a stored pack is, or is nearly: it is sent as it lies, by the kernel, and nothing of it is kept.

    all its objects and no others    the file, from its first byte to its last
    all its objects and a few more   a header with another count, its entries as they lie, the others behind them
                                     (deltas by name on what the pack holds), a trailer over all

The second is what the first clone after a push asks for. A trailer over all takes a reading of all, in a thread; that
is what costs. The pack's own entries name nothing outside of it, so what stands behind them closes no circle.
"""

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from govc.errors import CorruptPack
from govc.kernels.packcheck import PackCheck
from govc.kernels.packread import PackTable
from govc.odb.packs import PackFile
from govc.pack.format import PACK_HEADER_SIZE, encode_pack_header
from govc.protocol.oid import HashAlgorithm

READ_BYTES = 256 << 10
"""What is hashed while it is in the processor's cache."""

WINDOW_BYTES = 4 << 20
"""What is hashed in one stay in a thread, some milliseconds, and then sent. No more than `WINDOW_BYTES_MIN` of
`cache/flight`: on a full disk a piece that is larger than the ring would wait for room for ever."""

ELSEWHERE_MAX = 4096
"""So many of a pack's objects may have their number in another pack, which holds them, too."""


class StoredPart(NamedTuple):
    """Bytes of a stored pack's file. `check`: that of all parts of an answer, for who keeps what he copies."""

    pack: PackFile
    start: int
    end: int
    check: PackCheck


def find_base(
    packs: Sequence[PackFile], table: PackTable, numbers: "array[int]"
) -> tuple[PackFile, "array[int]"] | None:
    """Return the largest pack when all its objects are asked for, and the numbers of what else is; None: it isn't so.

    `numbers` ascend, each object has one: that of the first pack that holds it.
    """
    pack = max(packs, key=lambda pack: pack.size, default=None)
    if pack is None or 2 * pack.count < len(numbers):
        return None
    first, end = pack.first_number, pack.first_number + pack.count
    start, stop = bisect_left(numbers, first), bisect_left(numbers, end)
    rest = numbers[:start] + numbers[stop:]
    if stop - start == pack.count:
        return pack, rest
    if pack.count - (stop - start) > ELSEWHERE_MAX:
        return None
    others, there = set(rest), set()
    for number in _iter_missing(numbers[start:stop], first, end):
        other = table.find(table.oid_of(number))
        if other not in others:  # nobody asks for it: of a clone of an older tip this is the first one
            return None
        there.add(other)
    return pack, array("q", (number for number in rest if number not in there))


def _iter_missing(numbers: "array[int]", first: int, end: int) -> Iterator[int]:
    """Yield what ascending `numbers` lack of a range that they lie in: each by a search, not by a look at all."""

    def lacking_before(at: int) -> int:
        return numbers[at] - first - at

    for nth in range(end - first - len(numbers)):
        yield first + nth + bisect_right(range(len(numbers)), nth, key=lacking_before)


def iter_extended(
    pack: PackFile,
    check: PackCheck,
    count: int,
    added: Iterator[bytes],
    algo: HashAlgorithm,
    run: Callable[..., Any],
) -> Generator[bytes | StoredPart, None, None]:
    """Yield a pack of `count` objects: those of a stored one, and behind them those of a pack that comes in chunks.

    May switch. Raises CorruptPack, OSError, and what `added` raises.
    """
    hasher = algo.new()
    header = encode_pack_header(count)
    hasher.update(header)
    yield header
    at, end = PACK_HEADER_SIZE, pack.size - algo.oid_size
    while at < end:
        stop = min(at + WINDOW_BYTES, end)
        run(_hash_range, pack.descriptor().pack_fd, at, stop, hasher)
        yield StoredPart(pack, at, stop, check)
        at = stop
    held = b""
    skipped = PACK_HEADER_SIZE
    for chunk in added:
        held += chunk[skipped:]
        skipped = 0
        ready, held = held[: -algo.oid_size], held[-algo.oid_size :]
        if ready:
            hasher.update(ready)
            yield ready
    yield hasher.digest()


def _hash_range(descriptor: int, start: int, end: int, hasher: Any) -> None:
    buffer = memoryview(bytearray(min(READ_BYTES, end - start)))
    while start < end:
        size = os.preadv(descriptor, [buffer[: end - start]], start)
        if not size:
            raise CorruptPack("pack file became shorter", start)
        hasher.update(buffer[:size])
        start += size
