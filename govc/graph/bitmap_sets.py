"""Making reachability bitmaps: which objects, by bits of an order, each chosen commit reaches.

    reaches(c) = what the sets of chosen commits below c say, and what the commits between them and c introduce

so each tree of history was read once, when the introductions index was made, and is not read here. Commits are taken
with parents first; a walk goes down from each in an order in which children come first, passes over what is in the
set already and stops at whoever has a set.

What a chosen commit reaches must all have bits: one that reaches an object outside the order (a loose one, a pack that
isn't in the multi-pack-index) gets no set, for git takes a set as the whole truth.

Memory: a bit an object for each set that is at hand (`SETS_BYTES_MAX`; others are decoded again when they are needed),
and the words that go into the file.

Source: gitformat-bitmap; docs/formats/introductions.md for what a commit introduces.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from govc.graph.bitmap_order import NONE, BitOrder
from govc.graph.bitmap_selection import select_commits
from govc.graph.ewah import decode_ewah, encode_ewah
from govc.graph.segment import Segment
from govc.graph.view import View
from govc.objects.types import BLOB, COMMIT, TAG, TREE

SETS_BYTES_MAX = 32 << 20
"""Sets that are kept decoded."""

XOR_CANDIDATES = 10
"""A set is xored with the one of so many before it that is most like it, as git does."""

_DIGITS = {number: bytes(49 if value == number else 48 for value in range(256)) for number in (COMMIT, TREE, BLOB, TAG)}


class Entry(NamedTuple):
    """One set as the file has it: the commit's place in the index, how many entries before it its base is, EWAH."""

    place: int
    xor_offset: int
    words: bytes


class Bitmaps(NamedTuple):
    """What a bitmap file says: the four sets of types by type number, and the entries."""

    types: dict[int, int]
    entries: list[Entry]


class _SegmentBits:
    """The columns of one segment as bits: of its commits, and of what they introduce; NONE for what has none."""

    def __init__(self, segment: Segment, order: BitOrder, bit_by_place: "array[int]") -> None:
        size = order.oid_size
        sorted_places = segment.sorted_places.cast("I")
        commit_oids = segment.commit_oids
        names = b"".join([commit_oids[at * size : (at + 1) * size] for at in sorted_places])
        self.commits = array("I", [NONE]) * segment.commit_count
        for rank, place in zip(*order.pair(names), strict=True):
            self.commits[sorted_places[rank]] = bit_by_place[place]
        self.objects = array("I", [NONE]) * segment.object_count
        if segment.object_count:
            for rank, place in zip(*order.pair(segment.object_oids), strict=True):
                self.objects[rank] = bit_by_place[place]
        self.starts = array("I", bytes(segment.intro_starts))
        self.intros = array("I", map(self.objects.__getitem__, segment.intros.cast("I")))
        self.types = segment.types
        self.name_hashes = segment.name_hashes.cast("I")

    def introduced(self, place: int) -> "array[int]":
        """Return the bits of what the commit at a place introduces."""
        return self.intros[self.starts[place] : self.starts[place + 1]]


class BitmapMaker:
    """Makes the bitmaps of one order from what a view knows of history."""

    def __init__(self, view: View, order: BitOrder) -> None:
        """`view` knows every commit that is asked about (`graph.introduce`). Costs some 0.2 µs an object."""
        self._sweep = view.sweep
        self._order = order
        bit_by_place = order.bit_by_place()
        self._segments = [_SegmentBits(segment, order, bit_by_place) for segment in view.segments]

    def make(self, tips: Iterable[bytes], preferred: Iterable[bytes], type_of: Callable[[int], int]) -> Bitmaps:
        """Return the bitmaps of commits chosen below `tips`.

        `preferred`: tips that pack.preferBitmapTips names. `type_of(place)` is asked the type of what the view doesn't
        know (tags, what no ref reaches).
        """
        chosen = self._select(tips, preferred)
        sets = _Sets(self._order.bit_count)
        open_commits: set[int] = set()
        for cid in sorted(chosen):
            bit = self._row(cid)[0]
            found = self._reach(cid, sets, open_commits)
            if found is None:
                open_commits.add(bit)
            else:
                sets.add(bit, self._order.place_by_bit[bit], found)
        return Bitmaps(self._types(type_of), sets.entries)

    def name_hashes(self) -> "array[int]":
        """Return the hash of a path of each object by place, 0 where none is known: array of "I"."""
        hashes = array("I", bytes(4 * self._order.bit_count))
        place_by_bit = self._order.place_by_bit
        for segment in self._segments:
            for bit, name_hash in zip(segment.objects, segment.name_hashes, strict=True):
                if name_hash and bit != NONE:
                    hashes[place_by_bit[bit]] = name_hash
        return hashes

    def _row(self, cid: int) -> tuple[int, Sequence[int], tuple[int, ...], int]:
        """Return a commit's bit, the bits of what it introduces, its parents, its time."""
        time, rank, place, parents = self._sweep.commit_row(cid)
        segment = self._segments[rank]
        return segment.commits[place], segment.introduced(place), parents, time

    def _select(self, tips: Iterable[bytes], preferred: Iterable[bytes]) -> set[int]:
        """Choose among the commits below the tips that have bits."""
        find, row_of, segments = self._sweep.cid_of, self._sweep.commit_row, self._segments
        starts = {cid for oid in tips if (cid := find(oid)) >= 0}
        seen, merges = set(starts), set()
        stack = list(starts)
        # By bit, for a commit that two segments have is met under two numbers.
        is_met, is_below = bytearray(self._order.bit_count), bytearray(self._order.bit_count)
        found: list[tuple[int, int, int]] = []
        while stack:
            cid = stack.pop()
            time, rank, place, parents = row_of(cid)
            if len(parents) > 1:
                merges.add(cid)
            bit = segments[rank].commits[place]
            if bit != NONE:
                if not is_met[bit]:
                    found.append((time, cid, bit))
                is_met[bit] = 1
                is_below[bit] |= cid not in starts
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
                elif parent in starts and (below := self._row(parent)[0]) != NONE:
                    is_below[below] = 1
        found.sort(reverse=True)
        newest_first = array("I", [cid for _time, cid, _bit in found])
        tips_first = [cid for _time, cid, bit in found if not is_below[bit]]
        liked = {cid for oid in preferred if (cid := find(oid)) >= 0}
        return select_commits(newest_first, tips_first, preferred=liked, merges=merges)

    def _reach(self, start: int, sets: "_Sets", open_commits: set[int]) -> int | None:
        """Return what a commit reaches, None when not all of it has bits."""
        reached = bytearray((self._order.bit_count + 7) // 8)
        heap = [-start]
        seen = {start}
        while heap:
            bit, introduced, parents, _time = self._row(-heappop(heap))
            if bit == NONE or bit in open_commits:
                return None
            if reached[bit >> 3] >> (bit & 7) & 1:
                continue
            known = sets.find(bit)
            if known is not None:
                known |= int.from_bytes(reached, "little")
                reached = bytearray(known.to_bytes(len(reached), "little"))
                continue
            reached[bit >> 3] |= 1 << (bit & 7)
            for bit in introduced:
                if bit == NONE:
                    return None
                reached[bit >> 3] |= 1 << (bit & 7)
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    heappush(heap, -parent)
        return int.from_bytes(reached, "little")

    def _types(self, type_of: Callable[[int], int]) -> dict[int, int]:
        kinds = bytearray(self._order.bit_count)
        for segment in self._segments:
            for bit in segment.commits:
                if bit != NONE:
                    kinds[bit] = COMMIT
            for bit, kind in zip(segment.objects, segment.types, strict=True):
                if bit != NONE:
                    kinds[bit] = kind
        at = kinds.find(0)
        while at >= 0:
            kinds[at] = type_of(self._order.place_by_bit[at])
            at = kinds.find(0, at + 1)
        kinds.reverse()
        return {number: int(kinds.translate(digits) or b"0", 2) for number, digits in _DIGITS.items()}


class _Sets:
    """Sets as they go into the file, and the last used ones decoded."""

    def __init__(self, bits: int) -> None:
        self.entries: list[Entry] = []
        self._bits = bits
        self._room = (bits + 63) // 64 * 64
        self._number_by_bit: dict[int, int] = {}
        self._decoded: OrderedDict[int, int] = OrderedDict()
        self._decoded_max = max(2 * XOR_CANDIDATES, SETS_BYTES_MAX // (bits // 8 + 1))

    def find(self, bit: int) -> int | None:
        """Return the set of the commit with that bit."""
        number = self._number_by_bit.get(bit)
        return None if number is None else self._get(number)

    def add(self, bit: int, place: int, value: int) -> None:
        """Add the set of a commit."""
        number = len(self.entries)
        best, rest, weight = 0, value, value.bit_count()
        for offset in range(1, min(XOR_CANDIDATES, number) + 1):
            other = value ^ self._get(number - offset)
            count = other.bit_count()
            if count < weight:
                best, rest, weight = offset, other, count
        self.entries.append(Entry(place, best, encode_ewah(rest, self._bits)))
        self._number_by_bit[bit] = number
        self._keep(number, value)

    def _keep(self, number: int, value: int) -> None:
        self._decoded[number] = value
        if len(self._decoded) > self._decoded_max:
            self._decoded.popitem(last=False)

    def _get(self, number: int) -> int:
        found = self._decoded.get(number)
        if found is not None:
            self._decoded.move_to_end(number)
            return found
        chain = [number]
        while self.entries[chain[-1]].xor_offset and chain[-1] not in self._decoded:
            chain.append(chain[-1] - self.entries[chain[-1]].xor_offset)
        value = self._decoded.get(chain[-1], 0)
        if chain[-1] in self._decoded:
            chain.pop()
        for lower in reversed(chain):
            value ^= decode_ewah(self.entries[lower].words, bits_max=self._room)[0]
        self._keep(number, value)
        return value
