"""The lines of many refs, encoded once: what a push leaves of a listing is not made again.

A listing of all refs is the packed ones with the loose ones worked in. Packed refs change seldom (a push makes its
ref loose), so their lines are encoded once for a packed-refs file (`PackedLines`) and kept from snapshot to snapshot,
for as long as the file, the objects and the configuration are the same. A listing is then put together from slices of
that and a line for each loose ref: 47,000 packed refs cost a copy of their bytes, not 47,000 steps. The lines of loose
refs are kept, too (but for symrefs), so that a push costs one.

Encoding is the caller's: a style has a name, by which its lines are kept, and a function from a ref to its lines.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from govc.refs.table import Peel, Ref, Run
from govc.service.pacing import Pace
from govc.service.shown import ShownRefs


@dataclass(frozen=True, slots=True)
class Style:
    """One way of listing refs. `name` is unique among styles; `encode` returns all lines of a ref, b"" for none."""

    name: str
    encode: Callable[[Ref], bytes]
    peel: bool


BLOCK_BYTES = 120 << 10
"""Of so many bytes lines are kept together. What is copied of a block has room in the heap: for more than 128 KiB the
allocator asks the kernel for pages each time, and to get those costs several times what copying into them does.
"""


class PackedLines:
    """The lines of the packed refs from position `low` on, in blocks: those of position p are the bytes from
    `starts[p-low]` to `starts[p+1-low]` of all blocks together.

    A ref that isn't shown has no lines.
    """

    __slots__ = ("_blocks", "_ends", "_low", "_starts")

    def __init__(self, low: int, lines: Iterable[bytes]) -> None:
        self._low = low
        self._starts = array("Q", (0,))
        self._blocks: list[bytes] = []
        self._ends: list[int] = []
        pieces: list[bytes] = []
        begin = end = 0
        for line in lines:
            if end - begin + len(line) > BLOCK_BYTES and pieces:
                self._add(pieces, end)
                pieces, begin = [], end
            pieces.append(line)
            end += len(line)
            self._starts.append(end)
        self._add(pieces, end)

    def _add(self, pieces: list[bytes], end: int) -> None:
        self._blocks.append(b"".join(pieces))
        self._ends.append(end)

    def between(self, low: int, high: int) -> Iterator[bytes]:
        """Yield the lines of the positions [low, high): whole blocks as they are, and what is cut of others."""
        start, end = self._starts[low - self._low], self._starts[high - self._low]
        number = bisect_right(self._ends, start)
        while start < end:
            block, block_end = self._blocks[number], self._ends[number]
            begin = block_end - len(block)
            yield block[start - begin : end - begin]
            start, number = block_end, number + 1


def listing(shown: ShownRefs, style: Style, pace: Pace) -> list[bytes]:
    """Return the lines of all shown refs below refs/, in order, in pieces to be joined. May switch."""
    snapshot = shown.snapshot
    peel = snapshot.peel if style.peel else None
    packed = _packed_lines(shown, style, peel, pace)
    key = ("loose lines", style.name, shown.section, shown.prefix)
    kept = snapshot.lasting.get(key)
    is_kept = kept is not None and kept[0] is snapshot.store and kept[1] is snapshot.config
    known: dict[Ref, bytes] = kept[2] if kept is not None and is_kept else {}
    lines: dict[Ref, bytes] = {}
    pieces: list[bytes] = []
    for item in snapshot.table.iter_runs(shown.prefix + b"refs/", peel):
        if isinstance(item, Run):
            pieces += packed.between(item.low, item.high)
            continue
        line = known.get(item)
        if line is None:
            ref = shown.show(item)
            line = b"" if ref is None else style.encode(ref)
        if item.symref_target is None:  # what is said of a symref is no matter of the style's name
            lines[item] = line
        pieces.append(line)
    if shown.is_complete:  # that an object is absent is never remembered
        snapshot.lasting[key] = (snapshot.store, snapshot.config, lines)
    return pieces


def _packed_lines(shown: ShownRefs, style: Style, peel: Peel | None, pace: Pace) -> PackedLines:
    snapshot = shown.snapshot
    packed = snapshot.table.packed
    key = ("packed lines", style.name, shown.section, shown.prefix)
    kept = snapshot.lasting.get(key)
    # A snapshot may take over what an older one kept: by identity it is told what it was made of.
    if kept is not None and kept[0] is packed and kept[1] is snapshot.store and kept[2] is snapshot.config:
        known: PackedLines = kept[3]
        return known
    low, high = packed.range_of_prefix(shown.prefix + b"refs/")
    refs = pace(shown.iter_packed(low, high, peel=peel))
    lines = PackedLines(low, (style.encode(ref) if ref.oid else b"" for ref in refs))
    if shown.is_complete:
        snapshot.lasting[key] = (packed, snapshot.store, snapshot.config, lines)
    return lines
