"""One segment of introductions as a file: columns of what commits say and of the objects that each introduces.

A segment holds a set of commits, parents before children, and is closed over earlier ones: a parent that is not in it
is in a segment that was there when it was written. Everything in it follows from the objects' names, so it never goes
stale: neither a new pack nor a `git gc` makes it wrong. The layout is docs/formats/introductions.md.

An introduction of a commit is a tree or blob at a path at which every parent has something else, or nothing. So all
that a commit's tree holds was introduced by it or by an ancestor.

`Introduced` is a segment in the making; `Segment` is one that was read. A file is believed when its size follows from
its counts and its checksum is right (`parse_segment`); the ranks in it are checked by whoever sweeps over it.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from govc.errors import GovcError
from govc.graph.column_file import iter_encoded_columns, split_columns
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC = b"GVIN"
VERSION = 2
NONE = 0xFFFFFFFF
FOREIGN = 0x80000000
SIZE_MAX = NONE - 1
"""A size of so many bytes or more is stored as this."""

COUNT_MAX = FOREIGN - 1

_HEADER = struct.Struct("<4sII7I24x")
_HASH_IDS = {SHA1.name: 1, SHA256.name: 2}


class BadSegment(GovcError):
    """A file that is no good segment: cut, damaged, or of another version."""


class Introduced(NamedTuple):
    """The columns of a segment; `I` is uint32, `q` int64 seconds, names stand one after the other.

    commit_oids       in an order in which parents come first
    times             q, committer time
    trees             I, rank of the root tree in the objects
    parent_starts     I, one more than commits; `parents` I: place in this segment, or FOREIGN | rank in foreign_oids
    object_oids       sorted; trees and blobs that are introduced, root trees, and what `previous` names
    types             one byte: 2 tree, 3 blob
    sizes             I, bytes; NONE when not known, SIZE_MAX for that and more
    previous          I, rank of what the first parent has at the path at which the object first appeared, NONE for none
    name_hashes       I, git's hash of the path at which the object first appeared (`graph.name_hash`), 0 for none
    intro_starts      I, one more than commits; `intros` I: ranks of objects
    """

    commit_oids: bytes
    times: bytes
    trees: bytes
    parent_starts: bytes
    parents: bytes
    foreign_oids: bytes
    object_oids: bytes
    types: bytes
    sizes: bytes
    previous: bytes
    name_hashes: bytes
    intro_starts: bytes
    intros: bytes


class Introducers(NamedTuple):
    """The introductions the other way round.

    introducers     I per object: the first commit's place, NONE when it is introduced in another segment
    multi_objects   I, ascending: objects that more commits introduce; multi_starts and multi_commits: which
    """

    introducers: bytes
    multi_objects: bytes
    multi_starts: bytes
    multi_commits: bytes


def invert(introduced: Introduced) -> Introducers:
    """Return who introduces what."""
    starts, intros = array("I", introduced.intro_starts), array("I", introduced.intros)
    introducers = array("I", [NONE]) * len(introduced.types)
    more: dict[int, array[int]] = {}
    for place in range(len(starts) - 1):
        for rank in intros[starts[place] : starts[place + 1]]:
            if introducers[rank] == NONE:
                introducers[rank] = place
            else:
                more.setdefault(rank, array("I")).append(place)
    multi_starts, multi_commits = array("I", [0]), array("I")
    multi_objects = array("I", sorted(more))
    for rank in multi_objects:
        multi_commits.extend(more[rank])
        multi_starts.append(len(multi_commits))
    return Introducers(introducers.tobytes(), multi_objects.tobytes(), multi_starts.tobytes(), multi_commits.tobytes())


class _Counts(NamedTuple):
    """What the header says."""

    commits: int
    foreign: int
    objects: int
    parents: int
    intros: int
    multi_objects: int
    multi_commits: int

    def sizes(self, oid_size: int) -> tuple[int, ...]:
        """Return the bytes of each column, in the order of the file."""
        return (
            self.commits * oid_size,
            self.commits * 4,
            self.commits * 8,
            self.commits * 4,
            (self.commits + 1) * 4,
            self.parents * 4,
            self.foreign * oid_size,
            self.objects * oid_size,
            self.objects,
            self.objects * 4,
            self.objects * 4,
            self.objects * 4,
            self.objects * 4,
            (self.commits + 1) * 4,
            self.intros * 4,
            self.multi_objects * 4,
            (self.multi_objects + 1) * 4,
            self.multi_commits * 4,
        )


def iter_encoded(introduced: Introduced, algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield the file in pieces; the last one is the checksum of the others. Raises BadSegment when it is too large."""
    inverted = invert(introduced)
    size = algo.oid_size
    counts = _Counts(
        len(introduced.times) // 8,
        len(introduced.foreign_oids) // size,
        len(introduced.types),
        len(introduced.parents) // 4,
        len(introduced.intros) // 4,
        len(inverted.multi_objects) // 4,
        len(inverted.multi_commits) // 4,
    )
    if max(counts) > COUNT_MAX:
        raise BadSegment("more commits or objects than a segment holds")
    columns = (
        introduced.commit_oids,
        _sorted_places(introduced.commit_oids, size).tobytes(),
        introduced.times,
        introduced.trees,
        introduced.parent_starts,
        introduced.parents,
        introduced.foreign_oids,
        introduced.object_oids,
        introduced.types,
        introduced.sizes,
        introduced.previous,
        introduced.name_hashes,
        inverted.introducers,
        introduced.intro_starts,
        introduced.intros,
        inverted.multi_objects,
        inverted.multi_starts,
        inverted.multi_commits,
    )
    if counts.sizes(size) != tuple(map(len, columns)):
        raise ValueError("columns of different lengths")
    header = _HEADER.pack(MAGIC, VERSION, _HASH_IDS[algo.name], *counts)
    yield from iter_encoded_columns((header, *columns), algo)


def _sorted_places(oids: bytes, size: int) -> "array[int]":
    count = len(oids) // size
    return array("I", sorted(range(count), key=lambda place: oids[place * size : (place + 1) * size]))


class Segment:
    """One that was read: the columns as views of its buffer, and the few questions that are asked one by one."""

    def __init__(self, counts: _Counts, columns: Sequence[memoryview], name: str, algo: HashAlgorithm) -> None:
        (
            self.commit_oids,
            self.sorted_places,
            self.times,
            self.trees,
            self.parent_starts,
            self.parents,
            self.foreign_oids,
            self.object_oids,
            self.types,
            self.sizes,
            self.previous,
            self.name_hashes,
            self.introducers,
            self.intro_starts,
            self.intros,
            self.multi_objects,
            self.multi_starts,
            self.multi_commits,
        ) = columns
        self.name = name
        self.algo = algo
        self.commit_count = counts.commits
        self.object_count = counts.objects
        self.intro_count = counts.intros
        self.foreign_count = counts.foreign
        self._trees = self.trees.cast("I")
        self._sizes = self.sizes.cast("I")
        self._previous = self.previous.cast("I")
        self._introducers = self.introducers.cast("I")

    @property
    def sweep_columns(self) -> tuple[Any, ...]:
        """The columns that `kernels.sweep` takes."""
        return (
            self.commit_oids,
            self.sorted_places,
            self.times,
            self.parent_starts,
            self.parents,
            self.foreign_oids,
            self.object_oids,
            self.types,
            self.sizes,
            self.introducers,
            self.intro_starts,
            self.intros,
            self.multi_objects,
            self.multi_starts,
            self.multi_commits,
        )

    def object_oid(self, rank: int) -> bytes:
        """Return the name of an object."""
        size = self.algo.oid_size
        return bytes(self.object_oids[rank * size : (rank + 1) * size])

    def before(self, oid: bytes) -> bytes | None:
        """Return the predecessor of an object; None when it has none here, or isn't here."""
        rank = self._find(oid)
        rank = self._previous[rank] if rank >= 0 else self.object_count
        return self.object_oid(rank) if rank < self.object_count else None

    def rank_before(self, rank: int) -> int:
        """Return the rank of an object's predecessor, -1 when it has none here. IndexError."""
        before = self._previous[rank]
        return before if before < self.object_count else -1

    def size_at(self, rank: int) -> int:
        """Return how many bytes an object has, at least; -1 when it isn't known. IndexError."""
        size = self._sizes[rank]
        return size if size != NONE else -1

    def introducer(self, oid: bytes) -> int:
        """Return the place of the first commit that introduces an object; -1 when none here does."""
        rank = self._find(oid)
        place = self._introducers[rank] if rank >= 0 else NONE
        return place if place < self.commit_count else -1

    def _find(self, oid: bytes) -> int:
        low = bisect_left(range(self.object_count), oid, key=self.object_oid)
        return low if low < self.object_count and self.object_oid(low) == oid else -1

    def tree_oid(self, place: int) -> bytes:
        """Return the root tree of a commit. Raises BadSegment when the column lies."""
        rank = self._trees[place]
        if rank >= self.object_count:
            raise BadSegment(f"{self.name}: a root tree outside the objects")
        return self.object_oid(rank)

    def introduced(self) -> Introduced:
        """Return the columns that it was made of, as bytes."""
        columns = (
            self.commit_oids,
            self.times,
            self.trees,
            self.parent_starts,
            self.parents,
            self.foreign_oids,
            self.object_oids,
            self.types,
            self.sizes,
            self.previous,
            self.name_hashes,
            self.intro_starts,
            self.intros,
        )
        return Introduced(*map(bytes, columns))


def parse_segment(buffer: Any, algo: HashAlgorithm, *, name: str = "segment", trusted: bool = False) -> Segment:
    """Return the segment in a buffer (bytes, a map). `trusted`: made in this process, so the checksum isn't computed.

    Costs about 1 ms for each MB. Raises BadSegment.
    """
    if sys.byteorder != "little":
        raise BadSegment(f"{name}: segments are little-endian, this machine is not")
    view = memoryview(buffer)
    if len(view) < _HEADER.size + algo.oid_size:
        raise BadSegment(f"{name}: too short")
    magic, version, hash_id, *numbers = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
        raise BadSegment(f"{name}: not a segment of version {VERSION} for {algo.name}")
    counts = _Counts(*numbers)
    sizes = counts.sizes(algo.oid_size)
    try:
        columns = split_columns(view, _HEADER.size, sizes, algo, trusted=trusted)
    except ValueError as error:
        raise BadSegment(f"{name}: {error}") from error
    return Segment(counts, columns, name, algo)
