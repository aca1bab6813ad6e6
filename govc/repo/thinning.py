"""Making thin entries (`odb.thin`) of what the newest commits introduce, in the helper that fills the index.

Which version stood at an object's path before is known from the segments. Of a merge that is its first parent's; what
stands there in the others is found in the trees: a merge of something new into something old is nearer to its second.
A delta is made on each, and the smallest is taken; or what a pack or an older file has already, where that is one of
these. Every 16th and 256th version of a path has one on the version so many before, too: chains of hundreds of
commits stay short by these.

The newest commits first, until bytes or time are used up; then the whole is put in order of age. Each object's name is
computed from what was read before its entry is made.
"""

import logging
import os
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from govc.errors import Corrupt, GovcError
from govc.graph.segment import NONE, Segment
from govc.graph.trees import split_tree
from govc.graph.view import View
from govc.kernels import deltify, thin
from govc.kernels.packread import PackReader
from govc.objects.types import COMMIT, TYPE_NAMES, hash_object
from govc.odb.resolve import PackEntry
from govc.odb.store import ObjectStore
from govc.odb.thin import Item, Row, iter_encoded
from govc.repo.introductions import THIN, Introductions

log = logging.getLogger(__name__)

THIN_SHARE = 0.125
THIN_BYTES_MIN = 8 << 20
THIN_BYTES_MAX = 24 << 20
THIN_OBJECT_BYTES_MEAN = 150
THIN_SECONDS = 30.0
"""Bounds: bytes of the streams, as a share of the packs' and at least and most; how many of
them an object takes at least, on average: more objects aren't looked at; processor time of a run."""

THIN_OBJECT_BYTES_MAX = 4 << 20
"""Larger objects are none of the file's: who is sent one is sent what the pack has."""

ANCHORS = (16, 256)
"""An object that is the so-manieth version of its path has a delta on the version so many before, too."""

NEIGHBOURS_SEEN_MAX = 24
NEIGHBOURS_TRIED_MAX = 3
"""What has no version before it (a new file, which may be a renamed one) may be like what packs store it near to."""

COMPRESSION_LEVEL = 6
"""git's own default: made once and sent often."""


class _Commit(NamedTuple):
    """One of the newest commits, and what it introduces as the first of them."""

    segment: Segment
    place: int
    oids: list[bytes]


class _Delta(NamedTuple):
    base: bytes
    size: int
    stream: bytes


def add_thin(
    index: Introductions, store: ObjectStore, reader: PackReader | None, heads: Sequence[bytes], packs: Sequence[bytes]
) -> int:
    """Write the file anew unless `packs` (checksums) were all looked at; return how many objects it has. OSError.

    `heads`: what HEAD names, if it names a commit, before others. Only with the compiled kernels.
    """
    if reader is None or not thin.AVAILABLE or not deltify.AVAILABLE or index.thin_packs >= set(packs):
        return 0
    started = time.process_time()
    total = sum(pack.size for pack in store.packs)
    room = min(THIN_BYTES_MAX, max(THIN_BYTES_MIN, int(THIN_SHARE * total)))
    maker = _Maker(index, store, reader, heads[0] if heads else None, room // THIN_OBJECT_BYTES_MEAN)
    items: list[Item] = []
    for commit in reversed(maker.commits):
        if room <= 0 or time.process_time() - started > THIN_SECONDS:
            break
        made = list(maker.iter_items(commit))
        room -= sum(len(row.stream) for item in made for row in item.rows)
        items += reversed(made)
    items.reverse()
    old = [name for name in os.listdir(index.folder) if name.endswith(THIN)]
    index.write_thin(list(iter_encoded(items, packs, index.algo)))
    for name in old:
        with suppress(FileNotFoundError):
            os.unlink(f"{index.folder}/{name}")
    return len(items)


class _Maker:
    def __init__(
        self, index: Introductions, store: ObjectStore, reader: PackReader, head: bytes | None, objects_max: int
    ) -> None:
        self._algo = index.algo
        self._view: View = index.view
        self._store = store
        self._reader = reader
        self._owners: dict[bytes, int] = {}
        self._before: dict[bytes, bytes] = {}
        self._versions: dict[bytes, int] = {}
        self.commits: list[_Commit] = []
        """The newest that HEAD reaches, and before those, here, none of the others: parents before children."""
        self._find_commits(head, objects_max)
        self._near: dict[bytes, list[bytes]] = {}
        self._find_neighbours()
        self._known: dict[tuple[bytes, bytes], _Delta] = {}
        self._take_over(index)

    def _iter_newest(self, head: bytes | None) -> Iterator[int]:
        """Yield commits, children before parents: those that HEAD reaches, then all others."""
        sweep = self._view.sweep
        wants = self._view.cids([head] if head is not None else [])
        first = sweep.paint(wants, array("I"), array("I")).range
        yield from first
        taken = set(first)
        yield from (cid for cid in range(sweep.commit_count - 1, -1, -1) if cid not in taken)

    def _find_commits(self, head: bytes | None, objects_max: int) -> None:
        chosen: list[tuple[Segment, int]] = []
        for cid in self._iter_newest(head):
            _time, rank, place, _parents = self._view.sweep.commit_row(cid)
            segment = self._view.segments[rank]
            starts = segment.intro_starts.cast("I")
            objects_max -= starts[place + 1] - starts[place] + 1
            if objects_max < 0:
                break
            chosen.append((segment, place))
        size = self._algo.oid_size
        for segment, place in reversed(chosen):
            starts, intros = segment.intro_starts.cast("I"), segment.intros.cast("I")
            previous = segment.previous.cast("I")
            name = bytes(segment.commit_oids[place * size : (place + 1) * size])
            own = [name] if name not in self._owners else []
            for rank in intros[starts[place] : starts[place + 1]]:
                oid = segment.object_oid(rank)
                if oid in self._owners:
                    continue
                own.append(oid)
                if previous[rank] != NONE:
                    before = segment.object_oid(previous[rank])
                    self._before[oid] = before
                    self._versions[oid] = self._versions.get(before, -1) + 1
            self._owners.update(dict.fromkeys(own, len(self.commits)))
            self.commits.append(_Commit(segment, place, own))

    def _find_neighbours(self) -> None:
        """Note which of the objects packs store as deltas on which."""
        for oid in self._owners:
            with suppress(Corrupt):  # whoever reads it is told
                number = self._store.find(oid, rescan=False)
                entry = self._store.entry(number) if number >= 0 else None
                if entry is not None and entry.base_number >= 0:
                    base = self._store.oid_of(entry.base_number)
                    self._near.setdefault(oid, []).append(base)
                    self._near.setdefault(base, []).append(oid)

    def _neighbours(self, oid: bytes) -> Iterator[bytes]:
        """Yield what packs store near an object, the nearest first, as far as earlier commits brought it."""
        own = self._owners[oid]
        found = [oid]
        for known in found:  # which grows meanwhile
            if self._owners.get(known, own) < own:
                yield known
            if len(found) < NEIGHBOURS_SEEN_MAX:
                found += [near for near in self._near.get(known, ()) if near not in found]

    def _take_over(self, index: Introductions) -> None:
        """Note the deltas on the version before that some file has already."""
        for entry in index.forward.entries():
            if entry.stream and self._before.get(entry.target) == entry.base:
                self._known[entry.target, entry.base] = _Delta(entry.base, entry.size, entry.stream)
        for target, row in index.iter_thin_rows():
            if row.base is not None and row.stream and target in self._owners:
                self._known[target, row.base] = _Delta(row.base, row.size, row.stream)

    def iter_items(self, commit: _Commit) -> Iterator[Item]:
        """Yield what a commit introduces, with its entries."""
        others = self._other_versions(commit)
        for oid in commit.oids:
            found = self._read(oid)
            if found is None:
                continue
            kind, content, entry = found
            bases = dict.fromkeys(others.get(oid, ()))
            if oid in self._before:
                bases = {self._before[oid]: None, **bases}
            if kind == COMMIT and entry is not None and entry.base_number >= 0:
                bases = dict.fromkeys(_parents(commit, self._view))
            elif not bases:
                bases = dict.fromkeys(islice(self._neighbours(oid), NEIGHBOURS_TRIED_MAX))
            rows = list(self._iter_rows(oid, content, bases, entry))
            yield Item(oid, kind, rows or [self._whole(kind, content, entry)])

    def _read(self, oid: bytes) -> tuple[int, bytes, PackEntry | None] | None:
        """Return kind, content and the stored entry of an object, None for what is large, gone or damaged."""
        number = self._store.find(oid, rescan=False)
        if number < 0:
            return None
        try:
            if self._store.size_of(number) > THIN_OBJECT_BYTES_MAX:
                return None
            entry = self._store.entry(number)
            kind, content = self._reader.read(number) if entry is not None else self._store.read(number)
        except GovcError as error:
            log.warning("%s is passed over: %s", oid.hex(), error)
            return None
        if hash_object(self._algo, kind, content) != oid:
            log.warning("%s is passed over: its content has another name", oid.hex())
            return None
        return kind, content, entry

    def _content(self, oid: bytes) -> bytes | None:
        """Return the content of a base, None for what is large, gone or damaged."""
        number = self._store.find(oid, rescan=False)
        try:
            if number < 0 or self._store.size_of(number) > THIN_OBJECT_BYTES_MAX:
                return None
            packed = self._store.entry(number) is not None
            return (self._reader if packed else self._store).read(number)[1]
        except GovcError:
            return None  # whoever asks for that object itself is told

    def _iter_rows(self, oid: bytes, content: bytes, bases: Iterable[bytes], entry: PackEntry | None) -> Iterator[Row]:
        """Yield the deltas of an object, the nearest first; none where that is no gain."""
        limit = len(content) // 2
        nearest: _Delta | None = None
        stored = self._stored_delta(oid, entry)
        for base in bases:
            delta = stored if stored is not None and stored.base == base else self._make(oid, content, base, limit)
            if delta is not None and (nearest is None or len(delta.stream) < len(nearest.stream)):
                nearest = delta
        if stored is not None and (nearest is None or len(stored.stream) < len(nearest.stream)):
            nearest = stored
        if nearest is None:
            return
        yield Row(*nearest)
        version = self._versions.get(oid, 0)
        for step in ANCHORS:
            if not version or version % step:
                return
            base = oid
            for _ in range(step):
                base = self._before[base]
            delta = self._make(oid, content, base, limit)
            if delta is not None and base != nearest.base:
                yield Row(*delta)

    def _stored_delta(self, oid: bytes, entry: PackEntry | None) -> _Delta | None:
        """Return what a pack has, if it stands on something that an earlier commit brought."""
        if entry is None or entry.base_number < 0:
            return None
        base = self._store.oid_of(entry.base_number)
        owner = self._owners.get(base, -1)
        if owner >= self._owners[oid] or (owner < 0 and self._view.age(base) >= self._view.age(oid)):
            return None
        return _Delta(base, entry.size, _stream_of(entry))

    def _make(self, oid: bytes, content: bytes, base: bytes, limit: int) -> _Delta | None:
        known = self._known.get((oid, base))
        if known is not None:
            return known
        base_content = self._content(base)
        if base_content is None or base == oid:
            return None
        delta = deltify.make_delta(base_content, content, limit)
        return None if delta is None else _Delta(base, len(delta), zlib.compress(delta, COMPRESSION_LEVEL))

    def _whole(self, kind: int, content: bytes, entry: PackEntry | None) -> Row:
        if entry is not None and entry.type_number in TYPE_NAMES:
            return Row(None, len(content), _stream_of(entry))
        return Row(None, len(content), zlib.compress(content, COMPRESSION_LEVEL))

    def _other_versions(self, commit: _Commit) -> dict[bytes, list[bytes]]:
        """Return what stands in a merge's other parents where the merge has something of its own."""
        parents = _parents(commit, self._view)
        found: dict[bytes, list[bytes]] = {}
        if len(parents) < 2:
            return found
        own = set(commit.oids)
        trees = [known[1] for oid in parents if (known := self._view.commit(oid)) is not None]
        waiting = [(commit.segment.tree_oid(commit.place), trees)]
        while waiting:
            tree, others = waiting.pop()
            if tree not in own:
                continue
            found.setdefault(tree, []).extend(others[1:])
            listed = [self._entries(other) for other in others]
            for name, oid in self._entries(tree).items():
                if oid in own:
                    beside = [there[name] for there in listed if name in there]
                    found.setdefault(oid, []).extend(beside[-1:] if len(beside) < 2 else beside[1:])
                    if name.startswith(b"4"):
                        waiting.append((oid, beside))
        return found

    def _entries(self, oid: bytes) -> dict[bytes, bytes]:
        """Return a tree by mode and name; an empty one for what isn't there, or is no tree."""
        content = self._content(oid)
        size = self._algo.oid_size
        entries = split_tree(content, size) if content is not None else None
        return {entry[:-size]: entry[-size:] for entry in entries or ()}


def _parents(commit: _Commit, view: View) -> tuple[bytes, ...]:
    size = view.algo.oid_size
    known = view.commit(bytes(commit.segment.commit_oids[commit.place * size : (commit.place + 1) * size]))
    return known[2] if known is not None else ()


def _stream_of(entry: PackEntry) -> bytes:
    at = entry.offset + entry.header_size
    return entry.pack.read_at(at, entry.end - at)
