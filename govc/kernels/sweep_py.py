"""Sweeps in pure Python; the story is in `sweep`."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from operator import gt
from typing import Any

_NONE = 0xFFFFFFFF
_FOREIGN = 0x80000000
_COMMIT, _TREE = 1, 2
_WANT, _HAVE, _CUT = 1, 2, 4
_CANDIDATE, _HAD = 1, 2


def _words(buffer: Any, code: str) -> "array[int]":
    words = array(code)
    words.frombytes(memoryview(buffer).cast("B"))
    return words


class _Segment:
    def __init__(self, columns: tuple[Any, ...], oid_size: int, first: int, first_vid: int) -> None:
        self.oid_size = oid_size
        self.first = first
        self.first_vid = first_vid
        self.commit_oids = bytes(columns[0])
        self.sorted_places = _words(columns[1], "I")
        self.times = _words(columns[2], "q")
        self.parent_starts = _words(columns[3], "I")
        self.raw_parents = _words(columns[4], "I")
        self.object_oids = bytes(columns[6])
        self.types = bytes(columns[7])
        self.sizes = _words(columns[8], "I")
        self.introducers = _words(columns[9], "I")
        self.intro_starts = _words(columns[10], "I")
        self.intros = _words(columns[11], "I")
        self.multi_objects = _words(columns[12], "I")
        self.multi_starts = _words(columns[13], "I")
        self.multi_commits = _words(columns[14], "I")
        self.foreign: array[int] = array("I")
        self.aliases: dict[int, int] = {}
        self.vids: array[int] | range = range(len(self.types))
        self.added_ranks: array[int] | range = range(len(self.types))

    def is_sound(self) -> bool:
        """Check every number that is used as an index: a file that lies must not lead out of its columns."""
        commits, objects = len(self.times), len(self.types)
        for starts, column in (
            (self.parent_starts, self.raw_parents),
            (self.intro_starts, self.intros),
            (self.multi_starts, self.multi_commits),
        ):
            if starts[0] or starts[-1] > len(column) or any(map(gt, starts, starts[1:])):
                return False
        for place in range(commits):
            for word in self.raw_parents[self.parent_starts[place] : self.parent_starts[place + 1]]:
                if word & ~_FOREIGN >= (len(self.foreign) if word & _FOREIGN else place):
                    return False  # parents come first: no cycle either
        introducers = (word for word in self.introducers if word != _NONE)
        return (
            max(self.sorted_places, default=-1) < commits
            and max(self.intros, default=-1) < objects
            and max(introducers, default=-1) < commits
            and max(self.multi_objects, default=-1) < objects
            and max(self.multi_commits, default=-1) < commits
        )

    def commit_oid(self, place: int) -> bytes:
        return self.commit_oids[place * self.oid_size : (place + 1) * self.oid_size]

    def object_oid(self, rank: int) -> bytes:
        return self.object_oids[rank * self.oid_size : (rank + 1) * self.oid_size]

    def find_commit(self, oid: bytes) -> int:
        low = bisect_left(self.sorted_places, oid, key=self.commit_oid)
        if low < len(self.sorted_places) and self.commit_oid(self.sorted_places[low]) == oid:
            return self.first + self.sorted_places[low]
        return -1

    def rank_of(self, oid: bytes) -> int:
        low = bisect_left(range(len(self.types)), oid, key=self.object_oid)
        return low if low < len(self.types) and self.object_oid(low) == oid else -1

    def find_object(self, oid: bytes) -> int:
        rank = self.rank_of(oid)
        return self.vids[rank] if rank >= 0 else -1

    def parents(self, place: int) -> list[int]:
        """Return cids; the only one of a commit that an earlier segment has is its place there."""
        if place in self.aliases:
            return [self.aliases[place]]
        return self.own_parents(place)

    def own_parents(self, place: int) -> list[int]:
        words = self.raw_parents[self.parent_starts[place] : self.parent_starts[place + 1]]
        return [self.foreign[w & ~_FOREIGN] if w & _FOREIGN else self.first + w for w in words]

    def introduced(self, place: int) -> "array[int]":
        return self.intros[self.intro_starts[place] : self.intro_starts[place + 1]]


class Sweep:
    """See sweep.Sweep."""

    def __init__(self, oid_size: int, before: "Sweep | None" = None, columns: tuple[Any, ...] | None = None) -> None:
        self.oid_size = oid_size
        self.segments: list[_Segment] = list(before.segments) if before is not None else []
        self.commit_count: int = before.commit_count if before is not None else 0
        self.object_count: int = before.object_count if before is not None else 0
        if columns is not None:
            self._add(columns)

    def _add(self, columns: tuple[Any, ...]) -> None:
        segment = _Segment(columns, self.oid_size, self.commit_count, self.object_count)
        foreign = bytes(columns[5])
        for at in range(0, len(foreign), self.oid_size):
            cid = self.cid_of(foreign[at : at + self.oid_size])
            if cid < 0:
                raise ValueError("a parent of the segment's commits is not there")
            segment.foreign.append(cid)
        if not segment.is_sound():
            raise ValueError("a rank points outside its column")
        if self.segments:
            for place in range(len(segment.times)):
                cid = self.cid_of(segment.commit_oid(place))
                if cid >= 0:
                    segment.aliases[place] = cid
            vids, added = array("I"), array("I")
            for rank in range(len(segment.types)):
                vid = self.vid_of(segment.object_oid(rank))
                if vid < 0:
                    vid = self.object_count + len(added)
                    added.append(rank)
                vids.append(vid)
            segment.vids, segment.added_ranks = vids, added
        self.segments.append(segment)
        self.commit_count += len(segment.times)
        self.object_count += len(segment.added_ranks)

    def segment_of(self, cid: int) -> tuple[_Segment, int]:
        """Return the segment of a commit and its place there."""
        if not 0 <= cid < self.commit_count:
            raise IndexError(cid)
        segment = self.segments[bisect_right(self.segments, cid, key=lambda s: s.first) - 1]
        return segment, cid - segment.first

    def parents(self, cid: int) -> list[int]:
        """Return the cids that paint goes on to."""
        segment, place = self.segment_of(cid)
        return segment.parents(place)

    def cid_of(self, oid: bytes) -> int:
        """See sweep.Sweep."""
        return next((cid for segment in self.segments if (cid := segment.find_commit(oid)) >= 0), -1)

    def find_commits(self, oids: bytes) -> "array[int]":
        """See sweep.Sweep."""
        size = self.oid_size
        return array("q", [self.cid_of(oids[at : at + size]) for at in range(0, len(oids), size)])

    def vid_of(self, oid: bytes) -> int:
        """See sweep.Sweep."""
        return next((vid for segment in self.segments if (vid := segment.find_object(oid)) >= 0), -1)

    def kinds_of(self, oids: bytes) -> bytes:
        """See sweep.Sweep."""
        size = self.oid_size
        return bytes(self._kind_of(oids[at : at + size]) for at in range(0, len(oids), size))

    def _kind_of(self, oid: bytes) -> int:
        for segment in self.segments:
            rank = segment.rank_of(oid)
            if rank >= 0:
                return segment.types[rank]
        return _COMMIT if self.cid_of(oid) >= 0 else 0

    def commit_oid(self, cid: int) -> bytes:
        """See sweep.Sweep."""
        segment, place = self.segment_of(cid)
        return segment.commit_oid(place)

    def object_oid(self, vid: int) -> bytes:
        """See sweep.Sweep."""
        if not 0 <= vid < self.object_count:
            raise IndexError(vid)
        segment = self.segments[bisect_right(self.segments, vid, key=lambda s: s.first_vid) - 1]
        return segment.object_oid(segment.added_ranks[vid - segment.first_vid])

    def commit_row(self, cid: int) -> tuple[int, int, int, tuple[int, ...]]:
        """See sweep.Sweep."""
        segment, place = self.segment_of(cid)
        return segment.times[place], self.segments.index(segment), place, tuple(segment.own_parents(place))

    def paint(self, wants: Iterable[int], haves: Iterable[int], cuts: Iterable[int]) -> "Painting":
        """See sweep.Sweep."""
        return Painting(self, wants, haves, cuts)

    def reach(self, starts: "array[int]", goals: "array[int]", oldest: int) -> bool:
        """See sweep.Sweep."""
        if not starts:
            return True
        if not goals:
            return False
        marks = bytearray(self.commit_count)
        for cid in goals:
            marks[cid] = 1
        for cid in range(min(goals), max(starts) + 1):
            segment, place = self.segment_of(cid)
            if marks[cid]:
                continue
            if place in segment.aliases:
                marks[cid] = marks[segment.aliases[place]]
            elif any(
                marks[p] == 1 or (marks[p] == 2 and self.segment_of(p)[0].times[self.segment_of(p)[1]] >= oldest)
                for p in segment.own_parents(place)
            ):
                marks[cid] = 2
        return all(marks[cid] for cid in starts)

    def commit_numbers(self, cids: "array[int]", finder: Any) -> "array[int]":
        """See sweep.Sweep."""
        return array("q", [finder.find(self.commit_oid(cid)) for cid in cids])

    def object_numbers(self, vids: "array[int]", finder: Any) -> "array[int]":
        """See sweep.Sweep."""
        return array("q", [finder.find(self.object_oid(vid)) for vid in vids])


class Painting:
    """See sweep.Painting."""

    def __init__(self, sweep: Sweep, wants: Iterable[int], haves: Iterable[int], cuts: Iterable[int]) -> None:
        self._sweep = sweep
        self._marks = bytearray(sweep.commit_count)
        self._seen = bytearray(sweep.object_count)
        self._has_haves = False
        self._later_noted = False
        self.range: array[int] = array("I")
        self.cut: array[int] = array("I")
        marks = self._marks
        highest, open_count = 0, 0
        for cid in cuts:
            marks[cid] |= _CUT
        for cid in haves:
            marks[cid] |= _HAVE
            highest = max(highest, cid)
            self._has_haves = True
        for cid in wants:
            open_count += not marks[cid] & (_WANT | _HAVE)
            marks[cid] |= _WANT
            highest = max(highest, cid)
        self._next = highest + 1
        while open_count and self._next:
            self._next -= 1
            cid = self._next
            paint = marks[cid] & 3
            if paint == _WANT:
                open_count -= 1
                segment, place = sweep.segment_of(cid)
                if place not in segment.aliases:
                    self.range.append(cid)
                    if marks[cid] & _CUT:
                        self.cut.append(cid)
            if paint:
                open_count += self._spread(cid)

    def _spread(self, cid: int) -> int:
        segment, place = self._sweep.segment_of(cid)
        if self._marks[cid] & _CUT:
            return 0
        paint = _HAVE if self._marks[cid] & _HAVE else _WANT
        grown = 0
        for parent in segment.parents(place):
            before = self._marks[parent] & 3
            self._marks[parent] |= paint
            if paint == _WANT:
                grown += before == 0
            else:
                grown -= before == _WANT
        return grown

    def _paint_down_to(self, lowest: int) -> None:
        while self._next > lowest:
            self._next -= 1
            if self._marks[self._next] & _HAVE:
                self._spread(self._next)

    def _note_later(self) -> None:
        if self._later_noted or not self._has_haves:
            return
        self._later_noted = True
        later = self._sweep.segments[1:]
        if not later:
            return
        self._paint_down_to(later[0].first)
        for segment in later:
            for place in range(len(segment.times)):
                if self._marks[segment.first + place] & _HAVE:
                    for rank in segment.introduced(place):
                        self._seen[segment.vids[rank]] |= _HAD

    def _is_had(self, vid: int) -> bool:
        if not self._has_haves:
            return False
        if self._seen[vid] & _HAD:
            return True
        base = self._sweep.segments[0]
        if vid >= len(base.types) or base.introducers[vid] == _NONE:
            return False
        if self._is_have(base.introducers[vid]):
            return True
        at = bisect_left(base.multi_objects, vid)
        if at < len(base.multi_objects) and base.multi_objects[at] == vid:
            others = base.multi_commits[base.multi_starts[at] : base.multi_starts[at + 1]]
            return any(self._is_have(place) for place in others)
        return False

    def _is_have(self, cid: int) -> bool:
        if cid < self._next:
            self._paint_down_to(cid)
        return bool(self._marks[cid] & _HAVE)

    def collect(self, trees: bool, blobs: bool, blob_limit: int) -> tuple["array[int]", "array[int]"]:
        """See sweep.Painting."""
        tree_vids, blob_vids = array("I"), array("I")
        self._note_later()
        for cid in self.range:
            if self._marks[cid] & _CUT:
                continue
            segment, place = self._sweep.segment_of(cid)
            for rank in segment.introduced(place):
                vid = segment.vids[rank]
                if self._seen[vid]:
                    continue
                self._seen[vid] = _CANDIDATE
                is_tree = segment.types[rank] == _TREE
                is_asked = trees if is_tree else blobs and segment.sizes[rank] < blob_limit
                if is_asked and not self._is_had(vid):
                    (tree_vids if is_tree else blob_vids).append(vid)
        return tree_vids, blob_vids

    def reaches(self, cid: int) -> bool:
        """See sweep.Painting."""
        return 0 <= cid < self._sweep.commit_count and self._marks[cid] & 3 == _WANT

    def had_commit(self, cid: int) -> bool:
        """See sweep.Painting."""
        return 0 <= cid < self._sweep.commit_count and self._is_have(cid)

    def has(self, vid: int) -> bool:
        """See sweep.Painting."""
        if not 0 <= vid < self._sweep.object_count:
            return False
        self._note_later()
        return self._is_had(vid)

    def has_name(self, oid: bytes) -> bool:
        """See sweep.Painting."""
        vid = self._sweep.vid_of(oid)
        if vid >= 0:
            return self.has(vid)
        return self.had_commit(self._sweep.cid_of(oid))

    def peer_of(self, table: Any, others: Iterable[int]) -> Callable[[int], bool]:
        """See sweep.Painting."""
        oid_of, has_name, known = table.oid_of, self.has_name, frozenset(others)
        return lambda number: number in known or has_name(oid_of(number))

    def place_commits(self, cids: "array[int]") -> bytes:
        """See sweep.Painting."""
        if max(cids, default=-1) >= self._sweep.commit_count:
            raise IndexError(max(cids))
        return bytes(0 if cid < 0 else 1 if self.reaches(cid) else 2 for cid in cids)
