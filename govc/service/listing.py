"""The lines of many refs, encoded once: what a push leaves of a listing is not made again.

A listing of all refs is the packed ones with the loose ones worked in. Packed refs change seldom (a push makes its
ref loose), so their lines are encoded once for a packed-refs file (`PackedLines`) and kept from snapshot to snapshot,
for as long as the file, the objects and the configuration are the same. A listing is then put together from slices of
that and a line for each loose ref: 47,000 packed refs cost a copy of their bytes, not 47,000 steps. The lines of loose
refs are kept, too (but for symrefs), so that a push costs one.

Encoding is the caller's: a style has a name, by which its lines are kept, and a function from a ref to its lines.
"""

from array import array
from collections.abc import Callable, Iterable
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


class PackedLines:
    """The lines of the packed refs from position `low` on: those of position p are
    `data[starts[p-low]:starts[p+1-low]]`.

    A ref that isn't shown has no lines.
    """

    __slots__ = ("_data", "_low", "_starts")

    def __init__(self, low: int, lines: Iterable[bytes]) -> None:
        self._low = low
        self._starts = array("Q", (0,))
        pieces = []
        end = 0
        for line in lines:
            pieces.append(line)
            end += len(line)
            self._starts.append(end)
        self._data = b"".join(pieces)

    def between(self, low: int, high: int) -> memoryview:
        """Return the lines of the positions [low, high)."""
        starts = self._starts
        return memoryview(self._data)[starts[low - self._low] : starts[high - self._low]]


def listing(shown: ShownRefs, style: Style, pace: Pace) -> list[bytes | memoryview]:
    """Return the lines of all shown refs below refs/, in order, in pieces to be joined. May switch."""
    snapshot = shown.snapshot
    peel = snapshot.peel if style.peel else None
    packed = _packed_lines(shown, style, peel, pace)
    key = ("loose lines", style.name, shown.section, shown.prefix)
    kept = snapshot.lasting.get(key)
    is_kept = kept is not None and kept[0] is snapshot.store and kept[1] is snapshot.config
    known: dict[Ref, bytes] = kept[2] if kept is not None and is_kept else {}
    lines: dict[Ref, bytes] = {}
    pieces: list[bytes | memoryview] = []
    for item in snapshot.table.iter_runs(shown.prefix + b"refs/", peel):
        if isinstance(item, Run):
            pieces.append(packed.between(item.low, item.high))
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
