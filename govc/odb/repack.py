"""Consolidation: many small packs become one, so that look-ups stay cheap and folders short.

The packs are chosen so that their object counts form a geometric progression afterwards, as `git repack
--geometric` does: each object is copied a logarithmic number of times over the life of a repository.
Entries are copied as they lie; nothing is deltified anew, reachability isn't asked, nothing is dropped but
second copies. Of several copies a delta stays rather than a whole one: a thin push brought the delta, and the next
one, whose bases it was completed with, the whole object again. What has no whole copy keeps the chain that it has.

Packs with a .keep, .promisor or .mtimes aren't touched. The new pack becomes visible (.idx last) before the
first old one goes (.idx first), so every object is in some visible pack at any moment.
"""

import heapq
import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from govc.errors import CorruptPack
from govc.odb.files import create_temporary, place_file, sync_path
from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.resolve import PackEntry
from govc.odb.store import ObjectStore
from govc.pack.indexer import index_pack
from govc.pack.writer import write_pack
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

_UNTOUCHABLE = frozenset({".keep", ".promisor", ".mtimes"})
_REMOVAL_ORDER = (".idx", ".rev", ".bitmap", ".pack")
_CHUNK_BYTES = 1 << 20
CHAIN_MAX = 50
"""How many deltas may stand on each other where a whole copy is there to end the chain; git's pack.depth."""


def choose_packs_to_merge(packs: Sequence[PackFile], objects_dir: str, *, factor: int = 2) -> tuple[PackFile, ...]:
    """Return the packs of this folder to merge into one, the smallest first; none when it isn't worth it.

    Afterwards each remaining pack has at least `factor` times as many objects as the next smaller one.
    """
    folder = f"{objects_dir}/pack/"
    mergeable = [pack for pack in packs if pack.path.startswith(folder) and is_mergeable(pack)]
    mergeable.sort(key=lambda pack: (pack.count, pack.path))
    split = _find_split([pack.count for pack in mergeable], factor)
    return tuple(mergeable[:split]) if split > 1 else ()


def is_mergeable(pack: PackFile) -> bool:
    """Tell whether a pack had none of the files beside it that forbid touching it, when the folder was last listed."""
    return not pack.side_files & _UNTOUCHABLE


def _find_split(counts: list[int], factor: int) -> int:
    """Return how many of the ascending counts have to become one."""
    split = len(counts) - 1
    while split > 0 and counts[split] >= factor * counts[split - 1]:
        split -= 1
    if split <= 0:
        return 0
    split += 1  # the larger of the two that broke the progression goes in as well
    total = sum(counts[:split])
    while split < len(counts) and counts[split] < factor * total:
        total += counts[split]
        split += 1
    return split


class _Union:
    """The objects of some packs of a store, each once: what `write_pack` reads from.

    An object goes by the lowest number of its copies, whichever of them is written.
    """

    def __init__(self, store: ObjectStore, packs: Sequence[PackFile], tick: Callable[[], None]) -> None:
        self.algo = store.algo
        self._store = store
        self._kept_by_dropped: dict[int, int] = {}
        copies: dict[int, list[int]] = {}
        self.numbers = array("Q")
        previous, kept = b"", -1
        for rank, (oid, number) in enumerate(heapq.merge(*map(_iter_numbered, packs))):
            if oid == previous:
                self._kept_by_dropped[number] = kept
                copies.setdefault(kept, [kept]).append(number)
                continue
            self.numbers.append(number)
            previous, kept = oid, number
            if rank % 1024 == 0:
                tick()
        self._chosen = _CopyChoice(self._stored, copies).choose(tick)

    def _stored(self, number: int) -> PackEntry | None:
        entry = self._store.entry(number)
        if entry is None or entry.base_number not in self._kept_by_dropped:
            return entry
        return entry._replace(base_number=self._kept_by_dropped[entry.base_number])

    def entry(self, number: int) -> PackEntry | None:
        """Return the entry of the copy to write; a base that lies in several packs counts as one object."""
        return self._stored(self._chosen.get(number, number))

    def read(self, number: int) -> tuple[int, bytes]:
        """Return (type, content)."""
        return self._store.read(number)

    def oid_of(self, number: int) -> bytes:
        """Return the oid."""
        return self._store.oid_of(number)


class _CopyChoice:
    """Which copy to write of each object that has several: the smallest delta, while its chain stays short.

    Deltas of different packs may stand on each other in a circle, which a whole copy breaks; where there is none,
    `write_pack` expands one.
    """

    def __init__(self, entry: Callable[[int], PackEntry | None], copies: Mapping[int, Sequence[int]]) -> None:
        """`entry` answers with the base's lowest number; `copies`: lowest number -> numbers of all copies."""
        self._entry = entry
        self._copies = copies
        self._depths: dict[int, int] = {}
        self._chosen: dict[int, int] = {}

    def choose(self, tick: Callable[[], None]) -> dict[int, int]:
        """Return lowest number -> number of the copy to write, where it is another one."""
        for rank, number in enumerate(self._copies):
            self._settle(number)
            if rank % 256 == 0:
                tick()
        return self._chosen

    def _settle(self, number: int) -> None:
        way: dict[int, _Copies] = {}
        while number not in self._depths and number not in way:
            way[number] = found = self._look_at(number)
            if found.base < 0:
                break
            number = found.base
        circle = number if number in way and way[number].base >= 0 else -1
        for number, found in reversed(way.items()):
            depth = 1 + self._depths.get(found.base, 0) if found.base >= 0 else 0
            chosen = found.best
            if found.whole >= 0 and (circle >= 0 or depth > CHAIN_MAX):
                depth, chosen = 0, found.whole
                circle = -1
            elif number == circle:
                circle = -1
            self._depths[number] = depth
            if chosen != number:
                self._chosen[number] = chosen

    def _look_at(self, number: int) -> "_Copies":
        whole, best, base, best_bytes = -1, number, -1, 0
        for copy in self._copies.get(number, (number,)):
            entry = self._entry(copy)
            if entry is None:
                continue
            if entry.base_number < 0:
                whole = copy if whole < 0 else whole
            elif base < 0 or entry.end - entry.offset < best_bytes:
                best, base, best_bytes = copy, entry.base_number, entry.end - entry.offset
        if base < 0 <= whole:
            best = whole
        return _Copies(whole, best, base)


class _Copies(NamedTuple):
    """Numbers of an object's whole copy (-1: none) and of the smallest delta, else the whole one, with its base."""

    whole: int
    best: int
    base: int


def _iter_numbered(pack: PackFile) -> Iterator[tuple[bytes, int]]:
    return zip(pack.index.iter_oids(), itertools.count(pack.first_number), strict=False)


def merge_packs(
    store: ObjectStore,
    packs: Sequence[PackFile],
    objects_dir: str,
    modes: FileModes,
    *,
    fsync: bool = True,
    tick: Callable[[], None] = lambda: None,
    index_version: int = 2,
) -> str:
    """Write one pack of all objects in `packs` (of `store`), make it visible, and return the path of its
    .pack.

    The new pack is read back and every object in it hashed before it gets its name. `tick` is called every
    few milliseconds of work; it may switch, or raise to give up: then nothing is left. The old packs stay:
    see `remove_merged_packs`.
    """
    folder = f"{objects_dir}/pack"
    temporaries: list[str] = []
    try:
        fd, pack_path = create_temporary(folder, "tmp_pack_", 0o444)
        temporaries.append(pack_path)
        with open(fd, "w+b") as file:
            union = _Union(store, packs, tick)
            for chunk in write_pack(union, union.numbers, ofs_delta=True, chunk_bytes=_CHUNK_BYTES, ticks=True):
                file.write(chunk)
                tick()
            file.flush()
            indexed = index_pack(
                fd,
                store.algo,
                progress=lambda phase, done, total: tick(),
                detects=False,  # what is here was accepted, by us or by plain git
            )
            if fsync:
                os.fsync(fd)
        if indexed.count != len(union.numbers):
            raise CorruptPack(f"merged pack has {indexed.count} objects instead of {len(union.numbers)}")
        sources = {".pack": pack_path}
        write_index = partial(indexed.write_index, version=index_version)
        for suffix, write in ((".rev", indexed.write_reverse_index), (".idx", write_index)):
            fd, path = create_temporary(folder, f"tmp_{suffix[1:]}_", 0o444)
            temporaries.append(path)
            with open(fd, "wb") as file:
                write(fd)
                if fsync:
                    os.fsync(fd)
            sources[suffix] = path
        stem = f"{folder}/pack-{indexed.pack_checksum.hex()}"
        for suffix, path in sources.items():
            modes.adjust(path)
            place_file(path, stem + suffix)
        if fsync:
            sync_path(folder)
        return f"{stem}.pack"
    finally:
        for path in temporaries:
            with suppress(FileNotFoundError):
                os.unlink(path)


def remove_merged_packs(
    packs: Sequence[PackFile], merged_path: str, algo: HashAlgorithm, *, precious_objects: bool = False
) -> list[str]:
    """Remove those `packs` whose objects all lie in the pack at `merged_path`; return the paths of what went.

    A pack stays when it got a .keep meanwhile, when it is another file by now, or with `precious_objects`
    (extensions.preciousObjects, which forbids removing any). A multi-pack-index that names one of them goes
    first. None go when the merged pack has gone: then plain git has repacked, and looks after the old ones.
    """
    if precious_objects:
        return []
    try:
        merged = PackFile.open(merged_path, algo)
    except FileNotFoundError:
        return []
    doomed = [pack for pack in packs if pack.path != merged_path and _may_go(pack, merged)]
    if not doomed:
        return []
    _remove_multi_pack_index(os.path.dirname(merged_path), doomed)
    for pack in doomed:
        for suffix in _REMOVAL_ORDER:
            with suppress(FileNotFoundError):
                os.unlink(pack.path.removesuffix(".pack") + suffix)
    return [pack.path for pack in doomed]


def _may_go(pack: PackFile, merged: PackFile) -> bool:
    stem = pack.path.removesuffix(".pack")
    if any(os.path.lexists(stem + suffix) for suffix in _UNTOUCHABLE) or not pack.is_on_disk():
        return False
    missing = next((oid for oid in pack.index.iter_oids() if merged.index.find(oid) < 0), None)
    if missing is not None:
        log.error("%s stays: %s is not in the merged pack", pack.path, missing.hex())
    return missing is None


def _remove_multi_pack_index(folder: str, doomed: Sequence[PackFile]) -> None:
    """Remove git's index over several packs when it names one that goes: git writes it anew when asked to."""
    names = [os.path.basename(pack.path).removesuffix(".pack").encode() for pack in doomed]
    try:
        with open(f"{folder}/multi-pack-index", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    if any(name in data for name in names):
        for name in os.listdir(folder):
            if name == "multi-pack-index" or name.startswith("multi-pack-index-"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{folder}/{name}")
