"""The files that make plain git quick, written by our maintenance in git's own formats.

    objects/info/commit-graph          when enough commits aren't in the one that is there
    objects/pack/pack-*.rev            for packs that have none (git before 2.41 wrote none)
    objects/pack/multi-pack-index      when there are several packs, and it isn't what it would be
    bitmaps                            `bitmap_writing`

They are what `git gc`, `git repack` and `git multi-pack-index write` leave, under the same settings. Each is written
beside its place, under git's own lock where it has one, synced (git believes what it finds) and renamed; when somebody
holds the lock it is left for the next time. Nothing is written where it would say what isn't so: a commit graph of a
shallow or grafted repository, or beside replace refs.

Source: git-config "core.commitGraph", "gc.writeCommitGraph", "core.multiPackIndex", "pack.writeReverseIndex";
git-commit-graph, git-multi-pack-index; rows FS-13, FS-19, FS-24, FS-26, CF-54, CF-55, CF-68, CF-73.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from govc import disk
from govc.config.config import Config
from govc.errors import GovcError
from govc.graph.commit_graph_file import CommitGraph, CommitRow, encode_commit_graph, open_commit_graph
from govc.graph.commits import CommitTable, follow_tags
from govc.objects.types import COMMIT
from govc.odb.midx import (
    FILE_NAME,
    bitmap_path,
    encode_multi_pack_index,
    list_objects,
    read_multi_pack_index,
    remove_side_files,
)
from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.store import ObjectStore
from govc.pack.index_writer import encode_reverse_index
from govc.pack.tables import sort_by_offset
from govc.repo.bitmap_writing import BitmapSettings
from govc.repo.object_options import read_index_version
from govc.repo.placing import replace_locked, write_temporary

log = logging.getLogger(__name__)

NEW_COMMITS_DIVISOR = 16
"""A commit-graph is written anew when a sixteenth of its commits would be new: each is written a few times only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeFileSettings:
    """Which of the files the configuration allows."""

    commit_graph: bool = True
    multi_pack_index: bool = True
    reverse_index: bool = True
    index_version: int = 2
    bitmaps: BitmapSettings = field(default_factory=BitmapSettings)

    @classmethod
    def from_config(cls, config: Config, *, is_bare: bool) -> "NativeFileSettings":
        """Read the settings. Raises BadConfig."""
        return cls(
            commit_graph=config.get_bool("core.commitgraph", True) and config.get_bool("gc.writecommitgraph", True),
            multi_pack_index=config.get_bool("core.multipackindex", True),
            reverse_index=config.get_bool("pack.writereverseindex", True),
            index_version=read_index_version(config),
            bitmaps=BitmapSettings.from_config(config, is_bare=is_bare),
        )


def write_commit_graph(store: ObjectStore, tips: Iterable[bytes], objects_dir: str, modes: FileModes) -> int:
    """Write the graph of the commits that these refs reach; return how many, 0 when it wasn't worth it.

    Nothing is written when a commit is missing. Raises OSError.
    """
    known = open_commit_graph(objects_dir, store.algo)
    table = CommitTable(store)
    table.graphs = (known,) if known is not None else ()
    try:
        numbers = commit_numbers(store, tips)
        if not _is_worth_it(store, table, numbers, known):
            return 0
        rows = list(_iter_rows(store, table, numbers))
    except GovcError as error:
        log.warning("%s: no commit-graph is written: %s", objects_dir, error)
        return 0
    if not rows:
        return 0
    modes.make_directory(f"{objects_dir}/info")
    path = f"{objects_dir}/info/commit-graph"
    if not replace_locked(path, objects_dir, encode_commit_graph(rows, store.algo), modes):
        return 0
    _remove_chain(f"{objects_dir}/info/commit-graphs")
    return len(rows)


def commit_numbers(store: ObjectStore, tips: Iterable[bytes]) -> list[int]:
    """Return the numbers of the commits that these refs lead to. Raises ObjectMissing."""
    found: dict[int, None] = {}
    for oid in tips:
        number = store.find(oid)
        if number < 0:
            continue  # a broken ref is nobody's history
        _tags, number, type_number = follow_tags(store, number)
        if type_number == COMMIT:
            found[number] = None
    return list(found)


def _is_worth_it(store: ObjectStore, table: CommitTable, numbers: list[int], known: CommitGraph | None) -> bool:
    """Say whether enough commits aren't in the graph that is there."""
    if known is None:
        return bool(numbers)
    enough = max(1, len(known) // NEW_COMMITS_DIVISOR)
    seen = set(numbers)
    stack = list(numbers)
    count = 0
    while stack:
        number = stack.pop()
        if store.oid_of(number) in known:
            continue
        count += 1
        if count >= enough:
            return True
        for parent in table.parents(number):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False


def _iter_rows(store: ObjectStore, table: CommitTable, numbers: list[int]) -> Iterator[CommitRow]:
    seen = set(numbers)
    stack = list(numbers)
    while stack:
        number = stack.pop()
        parents = table.parents(number)
        oids = tuple(map(store.oid_of, parents))
        yield CommitRow(store.oid_of(number), table.tree_oid(number), oids, table.time(number))
        for parent in parents:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)


def _remove_chain(folder: str) -> None:
    """Remove the chain that the new file stands in front of."""
    with suppress(FileNotFoundError):
        disk.unlink(f"{folder}/commit-graph-chain")
        for name in os.listdir(folder):
            if name.startswith("graph-") and name.endswith(".graph"):
                disk.unlink(f"{folder}/{name}")


def write_multi_pack_index(
    packs: list[PackFile], store: ObjectStore, objects_dir: str, modes: FileModes, *, keeps_bitmaps: bool
) -> int:
    """Write the index over the packs of a folder; return how many packs, 0 when there is nothing to do. OSError.

    `keeps_bitmaps`: one with bitmaps stays as long as it is right, though packs have come: they would go with it.
    """
    folder = f"{objects_dir}/pack"
    if len(packs) < 2:
        return 0
    known = read_multi_pack_index(objects_dir, store.algo)
    names = sorted(os.path.basename(pack.path).removesuffix(".pack") + ".idx" for pack in packs)
    if known is not None and known.is_whole():
        has_bitmaps = keeps_bitmaps and os.path.exists(bitmap_path(folder, known.checksum))
        if sorted(known.packs) == names or (has_bitmaps and set(known.packs) <= set(names)):
            return 0
    pieces = list(encode_multi_pack_index(list_objects(packs), store.algo))
    if not all(pack.is_on_disk() for pack in packs):
        return 0  # somebody repacks: it would name what is gone
    if not replace_locked(f"{folder}/{FILE_NAME}", objects_dir, pieces, modes):
        return 0
    remove_side_files(folder, pieces[-1])
    return len(packs)


def write_reverse_indexes(packs: list[PackFile], store: ObjectStore, objects_dir: str, modes: FileModes) -> int:
    """Write the .rev of the packs that have none; return how many. OSError."""
    count = 0
    for pack in packs:
        path = pack.path.removesuffix(".pack") + ".rev"
        if os.path.lexists(path) or not pack.is_on_disk():
            continue
        order = sort_by_offset(pack.index.offsets())
        pieces = encode_reverse_index(store.algo, order, pack.index.pack_checksum)
        temporary = write_temporary(objects_dir, "rev", pieces, modes)
        disk.rename(temporary, path)
        count += 1
    return count
