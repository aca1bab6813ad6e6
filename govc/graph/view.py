"""All segments of introductions of one repository, put in order: what a closure sweeps over.

A view is immutable; `extended` returns a larger one that shares what is there. It may know less than the repository (a
commit that nobody has made a segment of yet) and more (one that was pruned since); it is never wrong about what it
knows. Whether it may be used at all is the caller's question: not where history is grafted, shallow or partial.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence

from govc.graph.segment import BadSegment, Segment
from govc.kernels.sweep import Sweep
from govc.protocol.oid import HashAlgorithm

TAGS_KEPT_MAX = 4096


class View:
    """Segments in an order in which each is closed over those before it."""

    def __init__(self, algo: HashAlgorithm, segments: Sequence[Segment] = (), sweep: Sweep | None = None) -> None:
        self.algo = algo
        self.segments = tuple(segments)
        self.sweep = sweep if sweep is not None else Sweep(algo.oid_size)
        self._targets: tuple[Mapping[bytes, bytes], array[int]] | None = None

    def extended(self, segment: Segment) -> "View":
        """Return a view with one more segment. Raises BadSegment when it is not closed over this, or lies."""
        try:
            sweep = Sweep(self.algo.oid_size, self.sweep, segment.sweep_columns)
        except ValueError as error:
            raise BadSegment(f"{segment.name}: {error}") from error
        return View(self.algo, (*self.segments, segment), sweep)

    @property
    def is_empty(self) -> bool:
        """Whether it knows nothing."""
        return not self.segments

    def knows(self, oid: bytes) -> bool:
        """Tell whether a commit is in some segment."""
        return self.sweep.cid_of(oid) >= 0

    def commit(self, oid: bytes) -> "tuple[int, bytes, tuple[bytes, ...]] | None":
        """Return committer time, root tree and parents of a commit, None when it isn't known."""
        sweep = self.sweep
        cid = sweep.cid_of(oid)
        if cid < 0:
            return None
        time, rank, place, parents = sweep.commit_row(cid)
        return time, self.segments[rank].tree_oid(place), tuple(map(sweep.commit_oid, parents))

    def before(self, oid: bytes) -> bytes | None:
        """Return the version of a tree or blob that stood at its path before it, None when none is known."""
        for segment in self.segments:
            before = segment.before(oid)
            if before is not None:
                return before
        return None

    def vid_before(self, vid: int) -> int:
        """The same by vid, -1 for none; of what the first segment has without a search."""
        first = self.segments[0]
        if vid < first.object_count:
            before = first.rank_before(vid)
            if before >= 0 or len(self.segments) == 1:
                return before
        oid = self.before(self.sweep.object_oid(vid))
        return self.sweep.vid_of(oid) if oid is not None else -1

    def size_of(self, vid: int) -> int:
        """Return the size of a tree or blob in bytes, or a large number that it exceeds; -1 when it isn't known."""
        first = self.segments[0]
        return first.size_at(vid) if vid < first.object_count else -1

    def age(self, oid: bytes) -> tuple[int, int]:
        """Return what is smaller for an object that was introduced earlier."""
        for rank, segment in enumerate(self.segments):
            place = segment.introducer(oid)
            if place >= 0:
                return rank, place
        return len(self.segments), 0

    def target_cids(self, tags: Mapping[bytes, bytes]) -> "array[int]":
        """Return which commits tags (oid to peeled oid) name, -1 for each that names none here.

        What was asked last is known, unless it is much: each fetch asks for the same mapping until a ref changes.
        """
        known = self._targets
        if known is not None and known[0] is tags:
            return known[1]
        found = self.sweep.find_commits(b"".join(tags.values()))
        if len(tags) <= TAGS_KEPT_MAX:
            self._targets = (tags, found)
        return found

    def cids(self, oids: Iterable[bytes]) -> "array[int]":
        """Return the cids of those commits that are known."""
        find = self.sweep.cid_of
        return array("I", [cid for oid in oids if (cid := find(oid)) >= 0])


def arrange(algo: HashAlgorithm, segments: Iterable[Segment]) -> tuple[View, list[str]]:
    """Return the view of the segments that can be used, and what is wrong with the others.

    They are tried in the order given (that of their making) until no more can be added: what two workers wrote at the
    same time may stand in either order.
    """
    view = View(algo)
    waiting = list(segments)
    troubles: list[str] = []
    while waiting:
        later, troubles = [], []
        for segment in waiting:
            try:
                view = view.extended(segment)
            except BadSegment as error:
                later.append(segment)
                troubles.append(str(error))
        if len(later) == len(waiting):
            break
        waiting = later
    return view, troubles
