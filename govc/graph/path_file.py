"""Which commits change which paths, as a file: what `graph.path_changes` found, and the few questions asked of it.

The layout is docs/formats/introductions.md. A file holds a set of commits at *places* (parents before children, as far
as they are in it), the paths that they change in byte order, and for each path the places that change it. What it says
follows from names alone, so it never goes stale; it may know too few commits (whoever asks compares those himself) and
some that are gone. Nothing is true of it where history is grafted or shallow.

A file is believed when its size follows from its counts and its checksum is right (`parse_paths`). Places are checked
by whoever walks (`kernels.history`).
"""

import struct
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from govc.errors import GovcError
from govc.graph.column_file import iter_encoded_columns, split_columns
from govc.kernels import pathchanges
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC = b"GVPH"
VERSION = 1

_HEADER = struct.Struct("<4sII5I")
_HASH_IDS = {SHA1.name: 1, SHA256.name: 2}


class BadPaths(GovcError):
    """A file that is no good list of changed paths: cut, damaged, or of another version."""


class PathColumns(NamedTuple):
    """The columns; `I` is uint32, names stand one after the other.

    commit_oids       by place
    large             I, ascending: places of commits of which nothing is noted, though they change much
    name_starts       I, one more than paths: where their names begin in `names`, which ascend
    change_starts     I, one more than paths: where the changes of each begin
    places            I, by path, ascending
    parents           one byte each: the first parent that has the same at the path, 0 for none
    """

    commit_oids: bytes
    large: bytes
    name_starts: bytes
    names: bytes
    change_starts: bytes
    places: bytes
    parents: bytes


class _Counts(NamedTuple):
    commits: int
    large: int
    paths: int
    name_bytes: int
    changes: int

    def sizes(self, oid_size: int) -> tuple[int, ...]:
        """Return the bytes of each column, in the order of the file."""
        return (
            self.commits * oid_size,
            self.large * 4,
            (self.paths + 1) * 4,
            self.name_bytes,
            (self.paths + 1) * 4,
            self.changes * 4,
            self.changes,
        )


def _counts_of(columns: PathColumns, oid_size: int) -> _Counts:
    return _Counts(
        len(columns.commit_oids) // oid_size,
        len(columns.large) // 4,
        len(columns.name_starts) // 4 - 1,
        len(columns.names),
        len(columns.parents),
    )


def iter_encoded(columns: PathColumns, algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield the file in pieces; the last one is the checksum of the others."""
    counts = _counts_of(columns, algo.oid_size)
    if counts.sizes(algo.oid_size) != tuple(map(len, columns)):
        raise ValueError("columns of different lengths")
    header = _HEADER.pack(MAGIC, VERSION, _HASH_IDS[algo.name], *counts)
    yield from iter_encoded_columns((header, *columns), algo)


class PathFile:
    """One that was read, or found in this process: columns as views."""

    def __init__(self, columns: Sequence[Any]) -> None:
        views = [memoryview(column) for column in columns]
        oids, large, name_starts, names, change_starts, places, parents = views
        self.commit_oids = oids
        self.large = large.cast("I")
        self.byte_count = sum(map(len, views))
        self.path_count = len(name_starts) // 4 - 1
        self._name_starts = name_starts.cast("I")
        self._names = names
        self._change_starts = change_starts.cast("I")
        self._places = places.cast("I")
        self._parents = parents

    def name(self, rank: int) -> bytes:
        """Return the name of a path."""
        return bytes(self._names[self._name_starts[rank] : self._name_starts[rank + 1]])

    def changes(self, rank: int) -> "tuple[memoryview, memoryview]":
        """Return the places (uint32) that change a path, and the parents that have the same (bytes)."""
        start, end = self._change_starts[rank], self._change_starts[rank + 1]
        return self._places[start:end], self._parents[start:end]

    def find(self, path: bytes) -> int:
        """Return the rank of a path, -1 when no commit changes it. Raises BadPaths."""
        if pathchanges.AVAILABLE:
            try:
                return pathchanges.find_name(self._name_starts, self._names, path)
            except ValueError as error:
                raise BadPaths(str(error)) from error
        rank = bisect_left(range(self.path_count), path, key=self.name)
        return rank if rank < self.path_count and self.name(rank) == path else -1

    def iter_known(self) -> Iterator[tuple[bytes, memoryview, memoryview]]:
        """Yield everything, as `graph.path_changes.find_changes` takes it."""
        for rank in range(self.path_count):
            yield self.name(rank), *self.changes(rank)


def read_count(header: bytes, algo: HashAlgorithm) -> int:
    """Return how many commits a file holds, from its first bytes (`HEADER_BYTES`). Raises BadPaths."""
    return _parse_header(memoryview(header), algo, "paths").commits


HEADER_BYTES = _HEADER.size


def _parse_header(view: memoryview, algo: HashAlgorithm, name: str) -> _Counts:
    if sys.byteorder != "little":
        raise BadPaths(f"{name}: these files are little-endian, this machine is not")
    if len(view) < _HEADER.size:
        raise BadPaths(f"{name}: too short")
    magic, version, hash_id, *numbers = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
        raise BadPaths(f"{name}: not changed paths of version {VERSION} for {algo.name}")
    return _Counts(*numbers)


def parse_paths(buffer: Any, algo: HashAlgorithm, *, name: str = "paths") -> PathFile:
    """Return what is in a buffer (bytes, a map). Costs about 1 ms for each MB. Raises BadPaths."""
    view = memoryview(buffer)
    sizes = _parse_header(view, algo, name).sizes(algo.oid_size)
    try:
        return PathFile(split_columns(view, _HEADER.size, sizes, algo))
    except ValueError as error:
        raise BadPaths(f"{name}: {error}") from error
