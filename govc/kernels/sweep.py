"""Fetches as sweeps over integer arrays: which commits, which objects, does the client have it?

A `Sweep` is an immutable picture of some segments of introductions (govc/graph/segment.py has their columns), each
closed over the ones before it. Across them

    cid    a commit: the segment's first cid + its place in the segment; parents always have smaller cids
    vid    a tree or blob: those of the first segment are its object ranks; a later segment adds what is new in it

so a walk over history is one pass over an array from high to low, with no heap and no look-up. A commit that two
segments have is met in the first; its second place leads there as to an only parent.

`paint` marks what wants and haves reach. A cut commit has no parents; of those in the range the caller must list the
trees, since what their ancestors introduced comes along with nobody. `collect` gathers what the range introduces and
drops what some commit of the have side introduces as well: exact, as long as all that a commit's tree holds was
introduced by it or by an ancestor. Most objects have one introducer; only for the others the have side is painted to
the bottom.

Ranks and places are uint32, times int64 seconds, in native byte order. Nothing here reads a file or raises for what the
columns say: `segment` checked them.
"""

from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from govc.kernels.choice import choose
from govc.kernels.packread import PackTable

__all__ = ["ELSEWHERE", "IN_RANGE", "NONE", "NO_LIMIT", "UNKNOWN", "Columns", "NumberFinder", "Painting", "Sweep"]

NONE = 0xFFFFFFFF
NO_LIMIT = 1 << 63

UNKNOWN, IN_RANGE, ELSEWHERE = 0, 1, 2
"""What `place_commits` says: no commit that is known; one of the range; another one."""

Columns = tuple[Any, ...]
"""The buffers of one segment: commit oids, sorted places, times, parent starts, parents, foreign oids, object oids,
types, sizes, introducers, intro starts, intros, multi objects, multi starts, multi commits."""


class NumberFinder(Protocol):
    """What knows the numbers of objects: a PackTable, or anything that looks up one by one."""

    @property
    def find(self) -> Callable[[bytes], int]:
        """Return the number of a name, -1 when there is none."""


if TYPE_CHECKING:

    class Painting:
        """One request's marks."""

        range: array[int]
        """The cids that wants reach and haves don't, newest first."""

        cut: array[int]
        """Those of them that are cut."""

        def collect(self, trees: bool, blobs: bool, blob_limit: int) -> tuple[array[int], array[int]]:
            """Return the vids of the trees and of the blobs (smaller than `blob_limit` bytes) that the range brings."""

        def reaches(self, cid: int) -> bool:
            """Tell whether a commit is in the range."""

        def had_commit(self, cid: int) -> bool:
            """Tell whether a commit is on the have side."""

        def has(self, vid: int) -> bool:
            """Tell whether a commit of the have side introduces an object."""

        def has_name(self, oid: bytes) -> bool:
            """Tell the same of any commit, tree or blob by name."""

        def peer_of(self, table: PackTable, others: Iterable[int]) -> Callable[[int], bool]:
            """Return what tells of a packed object, by number, whether the have side introduces it or it is one of
            `others`. The compiled one is asked by other kernels without the GIL.
            """

        def place_commits(self, cids: array[int]) -> bytes:
            """Return a byte for each commit (array of q): UNKNOWN for -1, IN_RANGE or ELSEWHERE. IndexError."""

    class Sweep:
        """Some segments, in an order in which each is closed over those before it."""

        commit_count: int
        object_count: int

        def __init__(self, oid_size: int, before: "Sweep | None" = None, columns: Columns | None = None) -> None:
            """Add one segment to what `before` has. Raises ValueError when a parent of its commits isn't there."""

        def cid_of(self, oid: bytes) -> int:
            """Return the commit of that name, -1 for none."""

        def find_commits(self, oids: bytes) -> array[int]:
            """Return the commits of a row of names (array of q), -1 for each that there is none of."""

        def vid_of(self, oid: bytes) -> int:
            """Return the tree or blob of that name, -1 for none."""

        def kinds_of(self, oids: bytes) -> bytes:
            """Return a byte for each name of a row of them: 1 commit, 2 tree, 3 blob, 0 for what isn't known."""

        def commit_oid(self, cid: int) -> bytes:
            """Return the name."""

        def object_oid(self, vid: int) -> bytes:
            """Return the name."""

        def commit_row(self, cid: int) -> tuple[int, int, int, tuple[int, ...]]:
            """Return its time, the rank of its segment, its place there, and its parents' cids; IndexError."""

        def paint(self, wants: array[int], haves: array[int], cuts: array[int]) -> Painting:
            """Mark the range."""

        def reach(self, starts: array[int], goals: array[int], oldest: int) -> bool:
            """Tell whether each start reaches (or is) a goal, through commits no older than `oldest` seconds."""

        def commit_numbers(self, cids: array[int], finder: NumberFinder) -> array[int]:
            """Return the object numbers (array of q), -1 for what `finder` lacks."""

        def object_numbers(self, vids: array[int], finder: NumberFinder) -> array[int]:
            """Likewise."""

else:
    _module = choose("sweep")
    Painting = _module.Painting
    Sweep = _module.Sweep
