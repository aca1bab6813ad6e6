"""Contents by oid: a cache with a budget over the object store of a repository.

`objects[oid]` costs about as much as looking into a dictionary when the object is in the cache (`kernels.objectcache`
says who is dropped), and some microseconds when it is read from a pack. What an oid names never changes, so a hit
asks the disk nothing; what isn't there is looked for each time, as in git, with the pack folders listed again.

The budget is shared out: a quarter is the pack reader's, for what it inflated (`kernels.chainread`). Listings of trees
and `paths` take what they need, up to shares of their own, and contents have all that is left. An object larger than an
eighth of that is read, and not kept.

One lock stands around everything below the cache: the store and the reader serve one thread at a time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from govc.errors import Corrupt, CorruptObject, ObjectMissing
from govc.graph.treelist import find_entry, list_files, parse_entries
from govc.kernels.chainread import ChainReader
from govc.kernels.objectcache import ObjectCache
from govc.kernels.packread import PackReader, PackTable
from govc.library.values import FileEntry, RawObject, TreeEntry
from govc.objects.commit import CommitLinks, parse_commit_links
from govc.objects.errors import MalformedObject
from govc.objects.types import COMMIT, TREE, TYPE_NAMES
from govc.odb.loose import iter_loose_oids
from govc.odb.store import LOOSE_NUMBER_FIRST, ObjectStore

KINDS = {number: name.decode("ascii") for number, name in TYPE_NAMES.items()}

BASES_SHARE, LISTINGS_SHARE, PATHS_SHARE = 1 / 4, 1 / 8, 1 / 4
"""Of the budget, at most; contents have the rest."""

TREE_DEPTH_MAX = 2048
"""core.maxTreeDepth's default."""

FILES_MAX = 50_000_000

_IN_HAND_SHARE = 1 / 4
"""Of the budget: what was read ahead because it lies there, and wasn't asked for yet."""

_RAW_OVERHEAD = 160
"""A RawObject and its bytes, beyond their content; measured with the allocator's rounding."""

_KIND_NAMES = ("", *(KINDS[number] for number in sorted(KINDS)))
"""By type number."""

_T = TypeVar("_T")


class ObjectStatistics(NamedTuple):
    """`used_bytes` of `budget_bytes` are in the cache right now; hits and misses since it was opened."""

    hits: int
    misses: int
    entries: int
    used_bytes: int
    budget_bytes: int
    listing_bytes: int


class _Listings(ObjectCache):
    """Entries of trees by oid, and all files below one by its oid and one byte more."""


class Objects(ObjectCache):
    """The objects of one repository. `objects[oid]` is a RawObject; raises ObjectMissing, Corrupt, LimitExceeded."""

    def __init__(
        self, budget_bytes: int, lock: threading.RLock, store: Callable[[], ObjectStore], renew: Callable[[], None]
    ) -> None:
        """`store` returns the current store, under `lock`;

        `renew` looks at the disk again, when an object is nowhere.
        """
        contents = int(budget_bytes * (1 - BASES_SHARE))
        super().__init__(contents)
        self._contents_max = contents
        self._paths_bytes = 0
        self._lock = lock
        self._store = store
        self._renew = renew
        self._listings = _Listings(int(budget_bytes * LISTINGS_SHARE), int(budget_bytes * LISTINGS_SHARE) // 2)
        self.known_entries: Callable[[bytes], tuple[TreeEntry, ...] | None] = self._listings.peek
        """Return the entries of a tree that was listed before; None for anything else."""
        self._bases_bytes = int(budget_bytes * BASES_SHARE)
        self._in_hand_max = int(budget_bytes * _IN_HAND_SHARE)
        self._reader: ChainReader | None = None
        self._reader_table: PackTable | None = None

    @property
    def lock(self) -> threading.RLock:
        """What stands around the store."""
        return self._lock

    # Contents

    def missing(self, name: bytes) -> RawObject:
        """Read an object that isn't in the cache, and keep it."""
        with self._lock:
            # What the packs that we know hold is right whatever came since: packs never change.
            found = self._reader.find_raw(name, RawObject, _KIND_NAMES) if self._reader is not None else None
            if found is None:
                if not isinstance(name, bytes):
                    raise TypeError(f"an oid is bytes, not {type(name).__name__}")
                type_number, data = self.read(name)
                found = RawObject(KINDS[type_number], data)
            self.put(name, found, len(found.data) + _RAW_OVERHEAD)
            return found

    def read_many(self, oids: Iterable[bytes]) -> Iterator[RawObject]:
        """Yield the objects of many oids, in their order; raise what `[]` raises when it comes to such an object.

        For who has many to ask for: what is in the cache takes no call from Python, the rest is read in the order in
        which it lies in the packs, a thousand at a time. Of what was read and not yielded yet about a quarter of the
        budget is held, beside the cache.
        """
        return self.iter_many(oids)

    def read_ahead(self, names: list[bytes]) -> dict[bytes, tuple[RawObject, int]]:
        """Read of these objects what the packs have, until that is much; with what each costs in the cache."""
        with self._lock:
            reader = self._reader if self._reader is not None else self._reader_for(self._store())
            found = reader.find_many_raw(names, RawObject, _KIND_NAMES, self._in_hand_max) if reader is not None else []
        return {
            name: (raw, len(raw.data) + _RAW_OVERHEAD)
            for name, raw in zip(names, found, strict=False)
            if raw is not None
        }

    def read(self, oid: bytes) -> tuple[int, bytes]:
        """Return type (1-4) and content, past the cache. Raises ObjectMissing, Corrupt, LimitExceeded."""
        with self._lock:
            store, number = self._find(oid)
            reader = self._reader_for(store)
            if reader is not None and number < LOOSE_NUMBER_FIRST:
                try:
                    return reader.read(number)
                except (Corrupt, OSError):
                    pass  # the store looks for another copy, and says what is wrong
            return store.read(number)

    def get(self, oid: bytes, default: _T) -> "RawObject | _T":
        """Return an object, or `default` when it isn't there."""
        try:
            found: RawObject = self[oid]
        except ObjectMissing:
            return default
        return found

    def header(self, oid: bytes) -> tuple[str, int]:
        """Return kind and size in bytes, without reading the content. Raises as reading does."""
        known: RawObject | None = self.peek(oid)
        if known is not None:
            return known.kind, len(known.data)
        with self._lock:
            store, number = self._find(oid)
            reader = self._reader_for(store) if number < LOOSE_NUMBER_FIRST else None
            try:
                if reader is None:
                    return KINDS[store.type_of(number)], store.size_of(number)
                type_number, size = reader.type_and_size(number)
                return KINDS[type_number], size
            except (Corrupt, OSError):
                type_number, data = store.read(number)  # perhaps there is another copy
                return KINDS[type_number], len(data)

    def stream(self, oid: bytes, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield the content in pieces: for objects that should not be in memory at once. Kept nowhere."""
        with self._lock:
            store, number = self._find(oid)
            chunks = store.iter_content(number, chunk_bytes)
            try:
                chunk = next(chunks, None)
            except Corrupt:
                data = store.read(number)[1]  # perhaps there is another copy
                chunks = (data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes))
                chunk = next(chunks, None)
        while chunk is not None:
            yield chunk
            with self._lock:
                chunk = next(chunks, None)

    def __contains__(self, oid: object) -> bool:
        if not isinstance(oid, bytes):
            return False
        with self._lock:
            try:
                self._find(oid)
            except ObjectMissing:
                return False
        return True

    def __iter__(self) -> Iterator[bytes]:
        """Yield the oids of all objects, alternates' included, each once. Holds them all, 55 bytes each."""
        return iter(self._all())

    def __len__(self) -> int:
        """Count the objects, alternates' included, each once."""
        with self._lock:
            store = self._store()
            if len(store.packs) == 1 and next(_iter_loose(store), None) is None:
                return store.packs[0].count
        return len(self._all())

    def __bool__(self) -> bool:
        return True

    def _all(self) -> set[bytes]:
        with self._lock:
            return set(self._store().iter_oids())

    # Trees

    def entries(self, tree_oid: bytes) -> tuple[TreeEntry, ...]:
        """Return the entries of a tree. Raises CorruptObject when it is none."""
        known = self.known_entries(tree_oid)
        if known is not None:
            return known
        data = self._tree_data(tree_oid)
        try:
            found = tuple(parse_entries(data, len(tree_oid), TreeEntry))
        except Corrupt as error:
            raise CorruptObject(tree_oid, str(error)) from error
        self._listings.put(tree_oid, found, 100 + 2 * len(data) + 170 * len(found))
        self._share()
        return found

    def files(self, tree_oid: bytes) -> tuple[FileEntry, ...]:
        """Return everything below a tree that is no tree itself. Raises CorruptObject, ObjectMissing, LimitExceeded."""
        key = tree_oid + b"f"
        known: tuple[FileEntry, ...] | None = self._listings.peek(key)
        if known is not None:
            return known
        with self._lock:
            reader = self._reader_for(self._store())
            found = list_files(reader, self.read, tree_oid, FileEntry, TREE_DEPTH_MAX, FILES_MAX)
        self._listings.put(key, found, 100 + 240 * len(found))
        self._share()
        return found

    def find_entry(self, tree_oid: bytes, name: bytes) -> tuple[int, bytes] | None:
        """Return mode and oid of an entry of a tree, None when there is none of that name."""
        try:
            return find_entry(self._tree_data(tree_oid), len(tree_oid), name)
        except Corrupt as error:
            raise CorruptObject(tree_oid, str(error)) from error

    def _tree_data(self, oid: bytes) -> bytes:
        raw: RawObject = self[oid]
        if raw.kind != KINDS[TREE]:
            raise CorruptObject(oid, f"is a {raw.kind}, not a tree")
        return raw.data

    # For the other parts of the library

    def read_links(self, oid: bytes) -> CommitLinks:
        """Return tree, parents and time of a commit, past the cache. Raises CorruptObject when it is none."""
        type_number, data = self.read(oid)
        if type_number != COMMIT:
            raise CorruptObject(oid, f"is a {KINDS[type_number]}, not a commit")
        try:
            return parse_commit_links(data, self._store().algo)
        except MalformedObject as error:
            raise CorruptObject(oid, str(error)) from error

    def pack_reader(self) -> PackReader | None:
        """Return the reader of the packs, None where there is none to be had. Under the lock."""
        return self._reader_for(self._store())

    def make_way(self, paths_bytes: int) -> None:
        """Give up as much of the budget as histories of paths take now."""
        self._paths_bytes = paths_bytes
        self._share()

    def _share(self) -> None:
        taken = self._listings.used_bytes + self._paths_bytes
        self.resize(max(0, self._contents_max - taken))

    def statistics(self) -> ObjectStatistics:
        """Return what the cache holds and how it did."""
        return ObjectStatistics(
            self.hits,
            self.misses,
            self.entry_count,
            self.used_bytes,
            self.budget_bytes,
            self._listings.used_bytes,
        )

    def forget(self) -> None:
        """Empty the caches."""
        with self._lock:
            self.clear()
            self._listings.clear()
            self._reader = self._reader_table = None
            self._share()

    def _find(self, oid: bytes) -> tuple[ObjectStore, int]:
        store = self._store()
        number = store.find(oid) if len(oid) == store.algo.oid_size else -1
        if number < 0:
            self._renew()
            store = self._store()
            number = store.find(oid) if len(oid) == store.algo.oid_size else -1
        if number < 0:
            raise ObjectMissing(oid)
        return store, number

    def _reader_for(self, store: ObjectStore) -> ChainReader | None:
        table = store.pack_table()
        if table is not self._reader_table:
            self._reader_table = table
            self._reader = store.chain_reader(self._bases_bytes)
        return self._reader


def _iter_loose(store: ObjectStore) -> Iterator[bytes]:
    for directory in store.directories:
        yield from iter_loose_oids(directory, store.algo)
