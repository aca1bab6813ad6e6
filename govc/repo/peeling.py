"""Peeling for whoever writes packed-refs, which happens outside the hub: in a thread or a helper process.

A snapshot's object store belongs to the hub's thread: it gives numbers to loose objects, lists folders again and keeps
a cache, all without locks. A thread that asked it at the same time could make two objects share a number. So a thread
peels by a store of its own, which shares the packs that are open already.
"""

from collections.abc import Callable

from govc.errors import ObjectMissing
from govc.graph.commits import follow_tags, never
from govc.odb.cache import BaseCache
from govc.odb.store import ObjectStore
from govc.repo.snapshot import Snapshot

_CACHE_BYTES = 1 << 20


class StorePeeler:
    """Peels by a store: what pack-refs writes behind an annotated tag."""

    def __init__(self, store: ObjectStore, may_be_missing: Callable[[bytes], bool] = never) -> None:
        self._store = store
        self._may_be_missing = may_be_missing

    def __call__(self, oid: bytes) -> bytes | None:
        """Return what a tag finally names, None for no tag. Raises ObjectMissing."""
        number = self._store.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        tags, target, _type = follow_tags(self._store, number, self._may_be_missing)
        return self._store.oid_of(target) if tags and target >= 0 else None


class ThreadPeeler:
    """Peels what a snapshot has without touching the snapshot's store; opens its own when first asked."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._peeler: StorePeeler | None = None

    def __call__(self, oid: bytes) -> bytes | None:
        """Peel as `StorePeeler` does."""
        if self._peeler is None:
            self._peeler = StorePeeler(self._open_store(), self._snapshot.may_be_missing)
        return self._peeler(oid)

    def _open_store(self) -> ObjectStore:
        shared = self._snapshot.store
        own, *alternates = shared.directories
        return ObjectStore.open(
            own, shared.algo, reuse=shared, extra_alternates=alternates, cache=BaseCache(_CACHE_BYTES)
        )
