"""From wants and haves to pack bytes: the work behind every fetch and clone.

`produce_pack` is one generator wherever it runs. It yields None while it enumerates (its driver looks at the clock
there), `Progress` texts that read like git's, and the bytes of the pack. Small fetches, most of the traffic, run inline
between two ticks of the hub; the clone that takes seconds runs in a helper process (`pack_job`), which inherits the
open packs. Which of the two is `PackProducer`'s decision, taken by trying: the inline attempt has a budget. Lists of
patterns (`sparse:oid`) are matched in a helper only.

Where the index isn't filled yet, the bitmaps that plain git left are asked (`graph/bitmap_closure`).

Before either, `swept_packing` is asked: where the introductions index knows what is wanted, and the kernels were
compiled, the pack is made in this process without the GIL, in a fraction of the time.

Source: git's upload-pack.c (create_pack_file), builtin/pack-objects.c for the progress texts.
"""

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from time import monotonic

from govc.graph.bitmap_closure import ReachabilityBitmaps, find_by_bitmaps
from govc.graph.closure import Closure, find_closure
from govc.graph.commit_graph_file import open_commit_graphs
from govc.graph.commits import CommitTable, History
from govc.graph.ewah import CorruptBitmap
from govc.graph.trees import TREE_DEPTH_MAX
from govc.odb.cache import BaseCache
from govc.odb.packs import PackDescriptor
from govc.odb.store import ObjectStore
from govc.odb.torn import TornWatch
from govc.pack.writer import write_pack
from govc.phases import ENUMERATE, WRITE, Timed, timed_steps
from govc.protocol.oid import find_algorithm
from govc.repo.bitmaps import open_bitmaps
from govc.repo.helper import Emit, HelperSlots, Job, Progress, Quiet, run_helper
from govc.repo.pack_growth import WantsBefore
from govc.repo.pack_plan import PackPlan, tell_counts, tell_total
from govc.repo.runtime import Breather, Runtime
from govc.repo.snapshot import Snapshot, make_history
from govc.repo.stored_packing import StoredPart
from govc.repo.swept_packing import SweptPacking

__all__ = ["PackPlan", "PackProducer", "ProducerLimits", "StoreHandle", "pack_job"]

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.2
INLINE_CHUNK_BYTES = 64 << 10
HELPER_CHUNK_BYTES = 256 << 10
HELPER_CACHE_BYTES = 24 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHandle:
    """A picklable description of a snapshot's objects: a helper opens the same store from it.

    Packed objects have the same numbers there; the pack descriptors must be inherited.
    """

    directories: tuple[str, ...]
    algo_name: str
    descriptors: tuple[PackDescriptor, ...]
    shallow: frozenset[bytes]
    grafts: Mapping[bytes, tuple[bytes, ...]]
    is_partial: bool
    uses_commit_graph: bool = False
    uses_bitmaps: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot) -> "StoreHandle":
        """Describe the store of a snapshot."""
        return cls(
            directories=snapshot.store.directories,
            algo_name=snapshot.algo.name,
            descriptors=tuple(snapshot.store.descriptors()),
            shallow=snapshot.shallow,
            grafts=dict(snapshot.grafts),
            is_partial=snapshot.is_partial,
            uses_commit_graph=bool(snapshot.commits.graphs),
            uses_bitmaps=snapshot.config.get_bool("pack.usebitmaps", True),
        )

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that the helper needs."""
        return tuple(fd for descriptor in self.descriptors for fd in (descriptor.pack_fd, descriptor.idx_fd))

    def open_store(self) -> ObjectStore:
        """Open the store, in the helper."""
        algo = find_algorithm(self.algo_name)
        assert algo is not None
        return ObjectStore.from_descriptors(
            self.directories, algo, self.descriptors, cache=BaseCache(HELPER_CACHE_BYTES)
        )

    def make_history(self, store: ObjectStore) -> History:
        """Return the commit graph as the snapshot has it."""
        commits = CommitTable(store)
        if self.uses_commit_graph:
            commits.graphs = open_commit_graphs(store.directories, store.algo)
        return make_history(commits, self.shallow, self.grafts, is_partial=self.is_partial)


def enumerate_objects(
    history: History, plan: PackPlan, bitmaps: ReachabilityBitmaps | None = None
) -> Generator[Progress | None, None, Closure]:
    """List the objects that `plan` asks for. Raises ObjectMissing, Corrupt, LimitExceeded."""
    closure: Closure | None = None
    if bitmaps is not None and plan.tree_depth_max >= TREE_DEPTH_MAX:  # bitmaps know nothing of depths
        try:
            closure = yield from find_by_bitmaps(history, plan.closure_request(), bitmaps)
        except CorruptBitmap as error:
            log.warning("bitmaps are not used: %s", error)
    if closure is None:
        closure = yield from find_closure(history, plan.closure_request())
    yield from tell_counts(plan, len(closure.numbers))
    return closure


def write_objects(
    store: ObjectStore, closure: Closure, plan: PackPlan, chunk_bytes: int, torn: TornWatch
) -> Generator[bytes | Progress | None, None, None]:
    """Yield the pack's bytes, then git's closing line. `torn` began to watch before the objects were enumerated."""
    chunks = write_pack(
        store,
        closure.numbers,
        ofs_delta=plan.ofs_delta,
        thin_bases=closure.client_has.__contains__ if plan.thin else None,
        chunk_bytes=chunk_bytes,
        ticks=True,
    )
    for chunk in chunks:
        torn.check()
        yield chunk or None
    yield from tell_total(plan, len(closure.numbers))


def pack_job(argument: tuple[StoreHandle, PackPlan], emit: Emit) -> int:
    """The helper's "pack" job; the result is the number of objects."""
    handle, plan = argument
    store = handle.open_store()
    torn = TornWatch(store.directories)
    said = monotonic()
    bitmaps = open_bitmaps(store, plan.wants) if handle.uses_bitmaps else None
    work = timed_steps(ENUMERATE, enumerate_objects(handle.make_history(store), plan, bitmaps))
    while True:
        try:
            item = next(work)
        except StopIteration as stop:
            closure: Closure = stop.value
            break
        if item is not None:
            emit(item)
        elif plan.progress and monotonic() - said > PROGRESS_SECONDS:
            said = monotonic()
            emit(Progress("Enumerating objects...\r"))
    for product in timed_steps(WRITE, write_objects(store, closure, plan, HELPER_CHUNK_BYTES, torn)):
        if product is not None:
            emit(product)
    return len(closure.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerLimits:
    """When a pack is made in a helper: enumeration took longer than `inline_seconds` of CPU, or found more than
    `inline_objects_max` objects. `quiet_seconds`: silence after which QUIET is yielded.
    """

    inline_seconds: float = 0.010
    inline_objects_max: int = 3000
    quiet_seconds: float = 5.0


class PackProducer:
    """Makes packs, inline or in helpers."""

    def __init__(
        self,
        runtime: Runtime,
        slots: HelperSlots | None,
        limits: ProducerLimits,
        want_index: Callable[[Snapshot], None] = lambda _snapshot: None,
    ) -> None:
        """`slots` None: everything is done inline (a process that serves one request).

        `want_index` is told of repositories whose introductions index should be filled.
        """
        self._runtime = runtime
        self._sweeper = SweptPacking(runtime, want_index)
        self._slots = slots
        self._limits = limits

    def produce(
        self, snapshot: Snapshot, plan: PackPlan, quiet_seconds: float
    ) -> Generator[bytes | Progress | Quiet, None, None]:
        """Yield the pack, progress and silences. Closing the generator stops the work. May switch.

        Raises GovcError; HelperFailed when a helper died.
        """
        with Timed(ENUMERATE):
            swept = self._sweeper.prepare(snapshot, plan)
        if swept is not None:
            yield from timed_steps(WRITE, swept)
            return
        spoken: list[Progress] = []
        torn = TornWatch((snapshot.layout.commondir, *snapshot.store.directories))
        with Timed(ENUMERATE):
            closure = self._try_inline(snapshot, plan, spoken)
        if closure is not None:
            yield from spoken
            breathe = Breather(self._runtime)
            for item in timed_steps(WRITE, write_objects(snapshot.store, closure, plan, INLINE_CHUNK_BYTES, torn)):
                breathe()
                if item is not None:
                    yield item
            return
        assert self._slots is not None
        handle = StoreHandle.of(snapshot)
        yield from run_helper(
            Job("pack", (handle, plan)),
            descriptors=handle.inherited,
            slots=self._slots,
            quiet_seconds=quiet_seconds,
        )

    def produce_stored(
        self, snapshot: Snapshot, plan: PackPlan
    ) -> Generator[bytes | Progress | StoredPart, None, None] | None:
        """Yield the pack, as parts of a stored one where it can be; None when that takes `produce`. May switch."""
        with Timed(ENUMERATE):
            stored = self._sweeper.prepare_stored(snapshot, plan)
        return timed_steps(WRITE, stored) if stored is not None else None

    def produce_added(
        self, snapshot: Snapshot, plan: PackPlan, before: WantsBefore
    ) -> Generator[bytes | Progress, None, None] | None:
        """Yield a pack of what one made for `before` lacks; None when that one can't be extended. May switch."""
        with Timed(ENUMERATE):
            added = self._sweeper.prepare_added(snapshot, plan, before)
        return timed_steps(WRITE, added) if added is not None else None

    def _try_inline(self, snapshot: Snapshot, plan: PackPlan, spoken: list[Progress]) -> Closure | None:
        """Enumerate within the budget; None when a helper should do it."""
        if self._slots is not None and plan.selection.sparse:
            return None  # to match one path with all patterns may take longer than the budget, without a tick
        bitmaps = None
        if self._slots is None and snapshot.config.get_bool("pack.usebitmaps", True):  # no helper will do it better
            bitmaps = open_bitmaps(snapshot.store, plan.wants)
        work = enumerate_objects(snapshot.history(), plan, bitmaps)
        spent = 0.0
        while True:
            started = monotonic()
            try:
                item = next(work)
            except StopIteration as stop:
                closure: Closure = stop.value
                break
            spent += monotonic() - started
            if item is not None:
                spoken.append(item)
            elif self._slots is not None and spent > self._limits.inline_seconds:
                work.close()
                return None
            self._runtime.pause()
        if self._slots is not None and len(closure.numbers) > self._limits.inline_objects_max:
            return None
        return closure
