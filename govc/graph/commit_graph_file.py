"""git's commit-graph: parents, root trees and times of commits in one file, or in a chain of them.

    info/commit-graph                                one file, which wins over the chain
    info/commit-graphs/commit-graph-chain            names of the files of a chain, the base first
    info/commit-graphs/graph-<checksum>.graph        one of them

    file    CGPH  version 1  hash id  chunks (1)  base files (1)  table  chunks  checksum
    OIDF    fan-out                OIDL    oids in order
    CDAT    tree, two parents (4 each), level and time (30 + 34 bits)     per commit
    GDA2    corrected date minus date (4)       GDO2  those that are larger, 8 bytes each
    EDGE    parents of octopus merges           BASE  checksums of the files below

Parents are positions in the whole chain. It is only ever a shortcut: a commit is looked up by its id, and its parents
come out as ids, so a file that names what is gone misleads nobody. It must not be asked where parents are others than
the commit says (grafts, a shallow repository; replace refs, to which git's rule is the same). A file that makes no
sense is left alone, with a warning.

Source: gitformat-commit-graph, gitformat-chunk; rows FS-24..28, CF-54.
"""

import logging
import mmap
import os
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from govc.errors import Corrupt
from govc.kernels.guard import map_file
from govc.kernels.history import GraphLayer
from govc.pack.chunks import (
    CorruptChunks,
    big_endian,
    check_fanout,
    encode_chunks,
    fanout_of,
    find_oid,
    is_checksum_right,
    parse_chunks,
)
from govc.pack.format import HASH_IDS
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

LAYERS_MAX = 64
VERIFIED_BYTES_MAX = 16 << 20
"""Files up to this size are hashed when they are opened; larger ones are trusted as far as their frame holds."""

_HEADER = struct.Struct(">4sBBBB")
_DATA = struct.Struct(">IIII")
_NO_PARENT = 0x70000000
_EXTRA = 0x80000000
_LEVEL_MAX = 0x3FFFFFFF
_OFFSET_MAX = 0x7FFFFFFF
_TIME_MASK = (1 << 34) - 1
_PARENTS_MAX = 1 << 16


class GraphCommit(NamedTuple):
    """What the file says of a commit; `level` is git's generation number, 0 when unknown."""

    tree: bytes
    parents: tuple[bytes, ...]
    time: int
    level: int


class _Layer:
    """One file. Positions are its own, from 0."""

    def __init__(self, data: bytes | mmap.mmap, algo: HashAlgorithm) -> None:
        """Raises Corrupt."""
        self.data = data
        if len(data) < _HEADER.size + algo.oid_size:
            raise CorruptChunks("commit-graph file is too small")
        signature, version, hash_id, chunk_count, self.base_count = _HEADER.unpack_from(data)
        if signature != b"CGPH":
            raise CorruptChunks("commit-graph signature doesn't match")
        if version != 1:
            raise CorruptChunks(f"commit-graph version {version} is not known")
        if hash_id != HASH_IDS[algo.name]:
            raise CorruptChunks("commit-graph hash version doesn't match the repository's")
        chunks = parse_chunks(data, _HEADER.size, chunk_count, algo)
        for needed in (b"OIDF", b"OIDL", b"CDAT"):
            if needed not in chunks:
                raise CorruptChunks(f"commit-graph lacks chunk {needed.decode()}")
        self.fanout = check_fanout(data, *chunks[b"OIDF"])
        self._fanout_start = chunks[b"OIDF"][0]
        self.count = self.fanout[256]
        self._oid_size = algo.oid_size
        self._stride = algo.oid_size + _DATA.size
        self.oid_start = self._sized(chunks, b"OIDL", self.count * algo.oid_size)
        self._data_start = self._sized(chunks, b"CDAT", self.count * self._stride)
        self._edges = chunks.get(b"EDGE", (0, 0))
        start, end = chunks.get(b"BASE", (0, 0))
        self.bases = [bytes(data[at : at + algo.oid_size]) for at in range(start, end, algo.oid_size)]
        self.checksum = bytes(data[len(data) - algo.oid_size :])
        if len(data) <= VERIFIED_BYTES_MAX and not is_checksum_right(data, algo):
            raise CorruptChunks("commit-graph checksum doesn't match")

    @staticmethod
    def _sized(chunks: dict[bytes, tuple[int, int]], identifier: bytes, size: int) -> int:
        start, end = chunks[identifier]
        if end - start != size:
            raise CorruptChunks(f"commit-graph chunk {identifier.decode()} has a wrong size")
        return start

    def kernel_layer(self) -> GraphLayer:
        """Return where things are, for `kernels.history`."""
        start, end = self._edges
        return self.data, self._fanout_start, self.oid_start, self._data_start, start, end, self.count

    def oid_at(self, position: int) -> bytes:
        at = self.oid_start + position * self._oid_size
        return bytes(self.data[at : at + self._oid_size])

    def columns(self, position: int) -> tuple[bytes, list[int], int, int]:
        """Return (tree, positions of the parents in the chain, time, level). Raises CorruptChunks."""
        at = self._data_start + position * self._stride
        tree = bytes(self.data[at : at + self._oid_size])
        first, second, high, low = _DATA.unpack_from(self.data, at + self._oid_size)
        parents = [] if first == _NO_PARENT else [first]
        if second & _EXTRA:
            parents.extend(self._extra(second & ~_EXTRA))
        elif second != _NO_PARENT:
            parents.append(second)
        return tree, parents, (high & 3) << 32 | low, high >> 2

    def _extra(self, rank: int) -> Iterator[int]:
        start, end = self._edges
        for at in range(start + 4 * rank, min(end, start + 4 * (rank + _PARENTS_MAX)) - 3, 4):
            (word,) = struct.unpack_from(">I", self.data, at)
            yield word & ~_EXTRA
            if word & _EXTRA:
                return
        raise CorruptChunks("commit-graph list of parents doesn't end")


class CommitGraph:
    """A chain of files, the base first. Never changes."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self._layers = layers
        self._starts = [0]
        for layer in layers:
            self._starts.append(self._starts[-1] + layer.count)
        self.is_split = len(layers) > 1

    def __len__(self) -> int:
        return self._starts[-1]

    def kernel_layers(self) -> list[GraphLayer]:
        """Return the files as `kernels.history` reads them."""
        return [layer.kernel_layer() for layer in self._layers]

    def find(self, oid: bytes) -> GraphCommit | None:
        """Return what is known of a commit, None when it isn't in here. Raises Corrupt."""
        for layer in reversed(self._layers):
            position = find_oid(layer.data, layer.oid_start, layer.fanout, oid)
            if position >= 0:
                tree, parents, time, level = layer.columns(position)
                return GraphCommit(tree, tuple(map(self._oid_at, parents)), time, level)
        return None

    def __contains__(self, oid: bytes) -> bool:
        return any(find_oid(layer.data, layer.oid_start, layer.fanout, oid) >= 0 for layer in self._layers)

    def _oid_at(self, position: int) -> bytes:
        for layer, start in zip(self._layers, self._starts, strict=False):
            if position < start + layer.count:
                return layer.oid_at(position - start)
        raise CorruptChunks("commit-graph names a parent that it doesn't have")


def open_commit_graphs(objects_dirs: Iterable[str], algo: HashAlgorithm) -> tuple[CommitGraph, ...]:
    """Return those of several objects folders, without the folders that have none."""
    found = (open_commit_graph(objects_dir, algo) for objects_dir in objects_dirs)
    return tuple(graph for graph in found if graph is not None)


def open_commit_graph(objects_dir: str, algo: HashAlgorithm) -> CommitGraph | None:
    """Return the commit-graph of an objects folder; None when there is none, or none that can be used."""
    for read in (_read_single, _read_chain):
        try:
            layers = read(objects_dir, algo)
        except FileNotFoundError:
            continue
        except (Corrupt, OSError, ValueError) as error:
            log.warning("%s: commit-graph is not used: %s", objects_dir, error)
            continue
        if layers:
            return CommitGraph(layers)
    return None


def _read_single(objects_dir: str, algo: HashAlgorithm) -> list[_Layer]:
    return [_read_layer(f"{objects_dir}/info/commit-graph", algo)]


def _read_chain(objects_dir: str, algo: HashAlgorithm) -> list[_Layer]:
    """Read the files that the chain names; those from the first bad one on are left out, as git does."""
    folder = f"{objects_dir}/info/commit-graphs"
    with open(f"{folder}/commit-graph-chain", "rb") as file:
        names = file.read(LAYERS_MAX * (algo.hex_size + 1)).split()
    layers: list[_Layer] = []
    for name in names[:LAYERS_MAX]:
        oid = algo.parse_hex(name)
        if oid is None:
            log.warning("%s: commit-graph-chain: line %r is no hash", objects_dir, name)
            break
        try:
            layer = _read_layer(f"{folder}/graph-{oid.hex()}.graph", algo)
            if layer.base_count != len(layers) or layer.bases != [below.checksum for below in layers]:
                raise CorruptChunks("commit-graph file doesn't fit onto those below it")
        except (Corrupt, OSError, ValueError) as error:
            log.warning("%s: commit-graph chain is cut at %s: %s", objects_dir, name.decode(), error)
            break
        layers.append(layer)
    return layers


def _read_layer(path: str, algo: HashAlgorithm) -> _Layer:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise CorruptChunks("commit-graph file is empty")
        return _Layer(map_file(path, file.fileno(), size), algo)


class CommitRow(NamedTuple):
    """One commit to be written."""

    oid: bytes
    tree: bytes
    parents: tuple[bytes, ...]
    time: int


def encode_commit_graph(rows: Iterable[CommitRow], algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield one commit-graph file of these commits, which must be closed under parents.

    Raises KeyError for a parent that isn't among them. About 400 bytes of memory for each commit.
    """
    ordered = sorted(rows)
    place = {row.oid: position for position, row in enumerate(ordered)}
    parents = [[place[oid] for oid in row.parents] for row in ordered]
    levels, dates = _generations(parents, [row.time for row in ordered])
    data, edges = bytearray(), array("I")
    offsets, overflow = array("I"), array("Q")
    for position, row in enumerate(ordered):
        first, second = _parent_words(parents[position], edges)
        time = row.time & _TIME_MASK
        data += row.tree + _DATA.pack(first, second, levels[position] << 2 | time >> 32, time & 0xFFFFFFFF)
        offset = dates[position] - row.time
        if offset > _OFFSET_MAX:
            offsets.append(_EXTRA | len(overflow))
            overflow.append(offset)
        else:
            offsets.append(offset)
    chunks = [
        (b"OIDF", fanout_of(bytes(row.oid[0] for row in ordered))),
        (b"OIDL", b"".join(row.oid for row in ordered)),
        (b"CDAT", bytes(data)),
        (b"GDA2", big_endian(offsets)),
        (b"GDO2", big_endian(overflow)),
        (b"EDGE", big_endian(edges)),
    ]
    count = sum(bool(content) for _, content in chunks)
    header = _HEADER.pack(b"CGPH", 1, HASH_IDS[algo.name], count, 0)
    return encode_chunks(algo, header, chunks)


def _parent_words(parents: Sequence[int], edges: "array[int]") -> tuple[int, int]:
    if len(parents) > 2:
        rank = len(edges)
        edges.extend(parents[1:])
        edges[-1] |= _EXTRA
        return parents[0], _EXTRA | rank
    first, second, *_ = (*parents, _NO_PARENT, _NO_PARENT)
    return first, second


def _generations(parents: Sequence[Sequence[int]], times: Sequence[int]) -> tuple["array[int]", "array[int]"]:
    """Return the topological level and the corrected date of each commit: parents first, without recursion."""
    levels = array("I", bytes(4 * len(parents)))
    dates = array("Q", bytes(8 * len(parents)))
    for tip in range(len(parents)):
        stack = [tip]
        while stack:
            position = stack[-1]
            if levels[position]:
                stack.pop()
                continue
            waiting = [parent for parent in parents[position] if not levels[parent]]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            above = max((levels[parent] for parent in parents[position]), default=0)
            levels[position] = min(above + 1, _LEVEL_MAX)
            dates[position] = max(times[position], 1 + max((dates[p] for p in parents[position]), default=-1))
    return levels, dates
