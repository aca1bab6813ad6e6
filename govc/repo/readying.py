"""Making ready entries (`odb.ready`) for the trees that are asked for most: HEAD's, then the branches'.

What clients without history are sent are such trees, or parts of them (a depth-1 clone; blobs that a partial clone
fetches later). Commits near a tip share most of its tree. So for what these trees hold and packs store as deltas there
is an entry in a file, within bounds of bytes and time; a new large pack (a `git gc`) makes another run due, which takes
over what it can. What was pushed since is expanded when it is asked for, as everything was before.

Each object's name is computed from what was read before its entry is made.
"""

import logging
import os
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress

from govc.errors import Corrupt, GovcError, ObjectMissing
from govc.graph.commits import CommitTable, follow_tags
from govc.kernels import treewalk
from govc.kernels.packread import PackReader
from govc.objects.types import COMMIT, TYPE_NAMES, hash_object
from govc.odb.ready import ReadyWriter
from govc.odb.store import ObjectStore
from govc.repo.introductions import READY, Introductions

log = logging.getLogger(__name__)

TIPS_MAX = 16
READY_SECONDS = 60.0
READY_SHARE = 0.1
READY_BYTES_MIN = 8 << 20
READY_BYTES_MAX = 64 << 20
OBJECT_BYTES_MAX = 8 << 20
TREE_OBJECTS_MAX = 100_000
"""Bounds: tips; processor time of a run; bytes of the file, as a share of the packs' and at least and most; an object;
objects of a tree that is looked at."""

COMPRESSION_LEVEL = 6
"""git's own default: made once and sent often."""


def add_ready(
    index: Introductions, store: ObjectStore, reader: PackReader | None, heads: Sequence[bytes], packs: Sequence[bytes]
) -> int:
    """Write the file anew unless `packs` (checksums) were all looked at; return how many entries it has. OSError.

    `heads`: commits or tags, the most wanted first. Only with the compiled kernels.
    """
    if reader is None or not treewalk.AVAILABLE:
        return 0
    known = index.ready
    if known is not None and known.packs >= set(packs):
        return 0
    old = [name for name in os.listdir(index.folder) if name.endswith(READY)]
    with index.writing(READY) as making:
        writer = ReadyWriter(making.file, index.algo)
        _add_entries(writer, index, store, reader, heads)
        making.checksum = writer.finish(packs)
    for name in old:
        with suppress(FileNotFoundError):
            os.unlink(f"{index.folder}/{name}")
    return writer.count


def _add_entries(
    writer: ReadyWriter, index: Introductions, store: ObjectStore, reader: PackReader, heads: Sequence[bytes]
) -> None:
    packs_bytes = sum(pack.size for pack in store.packs)
    limit = min(READY_BYTES_MAX, max(READY_BYTES_MIN, int(READY_SHARE * packs_bytes)))
    started = time.process_time()
    for number in _iter_deltas(store, reader, heads):
        if writer.size > limit or time.process_time() - started > READY_SECONDS:
            return
        oid = store.oid_of(number)
        try:
            if reader.type_and_size(number)[1] > OBJECT_BYTES_MAX:
                continue
            type_number, content = reader.read(number)
        except GovcError as error:
            log.warning("%s is passed over: %s", oid.hex(), error)
            continue
        if hash_object(index.algo, type_number, content) != oid:
            log.warning("%s is passed over: its content has another name", oid.hex())
            continue
        writer.add(oid, type_number, len(content), zlib.compress(content, COMPRESSION_LEVEL))


def _iter_deltas(store: ObjectStore, reader: PackReader, heads: Sequence[bytes]) -> Iterator[int]:
    """Yield the objects of the heads' trees that packs hold as deltas, once each; of a tree as packs have them."""
    commits = CommitTable(store)
    seen: set[int] = set()
    for oid in heads:
        try:
            tree = _tree_of(store, commits, oid)
        except GovcError:
            continue  # gone since, or damaged: who asks for it is told
        if tree < 0 or tree in seen:
            continue
        listed = treewalk.list_trees(reader, array("q", [tree]), True)
        if listed is None or sum(map(len, listed)) > 8 * TREE_OBJECTS_MAX:
            continue
        numbers = set(memoryview(b"".join(listed)).cast("q")) - seen
        seen |= numbers
        deltas = []
        for number in numbers:
            with suppress(Corrupt):
                entry = store.entry(number)
                if entry is not None and entry.type_number not in TYPE_NAMES:
                    deltas.append((entry.pack.first_number, entry.offset, number))
        yield from (number for _pack, _offset, number in sorted(deltas))


def _tree_of(store: ObjectStore, commits: CommitTable, oid: bytes) -> int:
    """Return the number of a head's tree, -1 when it has none. Raises ObjectMissing, Corrupt."""
    number = store.find(oid)
    if number < 0:
        raise ObjectMissing(oid)
    _tags, target, type_number = follow_tags(store, number)
    return store.find(commits.tree_oid(target)) if type_number == COMMIT else -1
