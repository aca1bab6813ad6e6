"""Packs from the introductions index: sweeps for the objects, copied entries for the bytes, both without the GIL.

`prepare` finds out whether it can be done, and does the enumeration; what it returns yields progress and chunks. Small
answers are made where they are asked for, in well under a millisecond each step; of large ones the kernels' calls go
to a thread, so that the hub is free. No helper process is started, and nothing is held but some integers per object,
while a clone is copied only what the copying needs. What a large answer has read of maps and freed in the heap is given
back when its objects are listed, and again when it was made.

None means that the slow way has to be taken: history that is cut, grafted or partial; a filter by path; commits that
the index doesn't know and that are too many to add at once (whoever fills it is told); no compiled kernels.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from govc.errors import Corrupt, ObjectMissing
from govc.graph.commits import follow_tags
from govc.graph.filter import ALL
from govc.graph.sweep_closure import ClientHas, HasNumber, Swept, call, sweep_closure
from govc.graph.trees import TREE_DEPTH_MAX
from govc.graph.view import View
from govc.kernels.chains import ForwardColumns
from govc.kernels.packcheck import PackCheck
from govc.kernels.packcopy import AVAILABLE
from govc.kernels.packread import PackReader, PackTable
from govc.kernels.packrows import sort_numbers
from govc.kernels.thin import ThinFile
from govc.objects.types import COMMIT
from govc.odb.packs import PackFile
from govc.odb.store import KERNEL_CACHE_BYTES, ObjectStore
from govc.odb.torn import TornWatch
from govc.pack.copying import CopiedPack
from govc.repo import introducing
from govc.repo.give_back import GiveBack, give_back
from govc.repo.helper import Progress
from govc.repo.introductions import Introductions
from govc.repo.near_deltas import MadeDeltas, NearDeltas
from govc.repo.pack_growth import WantsBefore, brings_all_tags, can_grow, plan_addition, reaches_all
from govc.repo.pack_plan import PackPlan, tell_counts, tell_total
from govc.repo.runtime import Breather, Runtime
from govc.repo.snapshot import Snapshot
from govc.repo.stored_packing import StoredPart, find_base, iter_extended

INLINE_OBJECTS_MAX = 6000
"""Answers of up to so many objects are written on the hub, in steps of about a millisecond: threads cost more."""

SMALL_VIEW_OBJECTS = 50_000
"""A clone from a view of up to so many objects is swept on the hub, in steps of less than a millisecond each: threads
would take as much again to be woken, and for the GIL."""

SMALL_INDEX_BYTES = 2 << 20
"""So much of an index is read on the hub, in about two milliseconds."""

SWEPT_MANY = 500_000
"""To list so many objects leaves so much behind that it is given back before they are copied."""

SMALL_CHUNK_BYTES = 64 << 10
LARGE_CHUNK_BYTES = 512 << 10
COMPRESSION_LEVEL = 1
"""For what must be expanded: a few objects of an answer, whose time counts more than their size."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The picture that an answer is made from: packs and index may have grown before its last byte."""

    index: Introductions
    view: View
    table: PackTable
    swept: Swept
    torn: TornWatch


class SweptPacking:
    """Makes packs the quick way, where that is possible."""

    def __init__(self, runtime: Runtime, want_index: Callable[[Snapshot], None]) -> None:
        """`want_index` is told of repositories whose index should be filled."""
        self._runtime = runtime
        self._want_index = want_index
        self._made = MadeDeltas()
        self._give_back = GiveBack(runtime)

    def prepare(self, snapshot: Snapshot, plan: PackPlan) -> Generator[bytes | Progress, None, None] | None:
        """Return what yields the pack, None when it can't be done this way. May switch.

        Raises ObjectMissing, Corrupt.
        """
        found = self._find(snapshot, plan)
        return self._produce(snapshot.store, plan, found) if found is not None else None

    def prepare_stored(
        self, snapshot: Snapshot, plan: PackPlan
    ) -> Generator[bytes | Progress | StoredPart, None, None] | None:
        """The same, but what lies in a large stored pack is yielded as parts of its file (`stored_packing`)."""
        found = self._find(snapshot, plan)
        return self._produce_stored(snapshot.store, plan, found) if found is not None else None

    def _find(self, snapshot: Snapshot, plan: PackPlan) -> _Found | None:
        """List what is to be sent, None when it can't be done this way. May switch. Raises ObjectMissing, Corrupt."""
        index = snapshot.introductions
        table = snapshot.store.pack_table() if AVAILABLE and index is not None else None
        if index is None or table is None or not plan.ofs_delta or plan.tree_depth_max < TREE_DEPTH_MAX:
            return None  # the index knows only that no tree is nested deeper than TREE_DEPTH_MAX
        torn = TornWatch((snapshot.layout.commondir, *snapshot.store.directories))
        if not self._is_covered(snapshot, index, plan):
            self._want_index(snapshot)
            return None
        if index.is_crowded or introducing.is_due(snapshot, index):
            self._want_index(snapshot)
        # One view for the whole answer: the index may get another one while this waits, with other ranks.
        view = index.view
        is_large = not plan.haves and view.sweep.object_count > SMALL_VIEW_OBJECTS
        run = self._runtime.call_blocking if is_large else call
        swept = self._sweep(snapshot, view, plan, table, run)
        return _Found(index, view, table, swept, torn) if swept is not None else None

    def prepare_added(
        self, snapshot: Snapshot, plan: PackPlan, before: WantsBefore
    ) -> Generator[bytes | Progress, None, None] | None:
        """Return what yields a pack of the objects that one made for `before` lacks, each once, with deltas on what it
        has; None when that one holds too much, or nobody knows. May switch.
        """
        index = snapshot.introductions
        table = snapshot.store.pack_table() if AVAILABLE and index is not None else None
        if index is None or table is None or not can_grow(plan) or plan.tree_depth_max < TREE_DEPTH_MAX:
            return None
        torn = TornWatch((snapshot.layout.commondir, *snapshot.store.directories))
        if not self._is_covered(snapshot, index, plan):
            return None
        more = plan_addition(snapshot, plan, before)
        view = index.view
        if more is None or not reaches_all(snapshot, view, before, plan):
            return None
        try:
            swept = self._sweep(snapshot, view, more, table, call)
        except (ObjectMissing, Corrupt):
            return None  # making it anew says what is wrong
        if swept is None or not brings_all_tags(snapshot, view, before, plan, swept.closure):
            return None
        return self._produce(snapshot.store, more, _Found(index, view, table, swept, torn))

    def _is_covered(self, snapshot: Snapshot, index: Introductions, plan: PackPlan) -> bool:
        if not index.is_current():
            run = call if index.news_bytes() <= SMALL_INDEX_BYTES else self._runtime.call_blocking
            run(index.refresh)
        return self._cover(snapshot, index, plan)

    def _cover(self, snapshot: Snapshot, index: Introductions, plan: PackPlan) -> bool:
        """Have the index know what is wanted and what is had; False when that is too much for now."""
        names = (*plan.wants, *plan.haves)
        kinds = index.view.sweep.kinds_of(b"".join(names))
        knows, peeled = index.view.knows, plan.include_tags.get
        commits = []
        breathe = Breather(self._runtime)
        for oid, kind in zip(names, kinds, strict=True):
            if kind or ((target := peeled(oid)) is not None and knows(target)):  # of a clone that is all, mostly
                continue
            commit = _find_commit(snapshot.store, oid)
            if commit is not None:
                commits.append(commit)
            breathe()
        return index.cover(snapshot.store, commits)

    def _sweep(
        self,
        snapshot: Snapshot,
        view: View,
        plan: PackPlan,
        table: PackTable,
        run: Callable[..., Any],
    ) -> Swept | None:
        work = sweep_closure(snapshot.history(), view, plan.closure_request(), table, run)
        breathe = Breather(self._runtime)
        while True:
            try:
                next(work)
            except StopIteration as stop:
                found: Swept | None = stop.value
                return found
            breathe()

    def _produce_stored(
        self, store: ObjectStore, plan: PackPlan, found: _Found
    ) -> Generator[bytes | Progress | StoredPart, None, None]:
        numbers, run = found.swept.closure.numbers, self._runtime.call_blocking
        packed, loose = _canonical(store, found.table, *run(sort_numbers, found.table, numbers))
        base = find_base(store.packs, found.table, packed)
        if base is None:
            yield from self._produce(store, plan, found)
            return
        pack, rest = base
        check = PackCheck(found.table, pack.first_number)
        count = pack.count + len(rest) + len(loose)
        yield from tell_counts(plan, count)
        found.torn.check()
        if rest or loose:
            added = self._iter_added(store, found, pack, rest, loose)
            yield from iter_extended(pack, check, count, added, store.algo, run)
        else:
            yield StoredPart(pack, 0, pack.size, check)
        yield from tell_total(plan, count)

    def _iter_added(
        self, store: ObjectStore, found: _Found, pack: PackFile, packed: "array[int]", loose: "array[int]"
    ) -> Iterator[bytes]:
        """Yield a pack of some objects, with deltas on what lies in another."""
        run = self._runtime.call_blocking
        held = range(pack.first_number, pack.first_number + pack.count)
        reader = PackReader(found.table, KERNEL_CACHE_BYTES, store.object_bytes_max)
        make = partial(CopiedPack, store, reader, packed, loose, at_peer=held.__contains__, level=COMPRESSION_LEVEL)
        added: CopiedPack = run(make)
        in_thread = call if added.has_loose else run
        while chunk := in_thread(added.next_chunk):
            found.torn.check()
            yield chunk

    def _produce(self, store: ObjectStore, plan: PackPlan, found: _Found) -> Generator[bytes | Progress, None, None]:
        count, torn = len(found.swept.closure.numbers), found.torn
        yield from tell_counts(plan, count)
        is_small = count <= INLINE_OBJECTS_MAX
        run: Callable[..., Any] = call if is_small else self._runtime.call_blocking
        pack = self._begin(store, plan, found, run)
        del found  # what is needed from here on, the pack has
        if count > SWEPT_MANY and not plan.haves:
            run(give_back)  # what a fetch has read, it reads again while it copies
        # Reading a file from the page cache is no work for a thread; loose objects are the store's to read, and it
        # belongs to the hub.
        in_thread = run if not (pack.is_verbatim or pack.has_loose) else call
        breathe = Breather(self._runtime)
        while chunk := in_thread(pack.next_chunk):
            torn.check()
            yield chunk
            breathe()
        yield from tell_total(plan, count)
        del chunk, pack
        if not is_small:
            self._give_back.soon(count)

    def _begin(self, store: ObjectStore, plan: PackPlan, found: _Found, run: Callable[..., Any]) -> CopiedPack:
        """Return the pack in the making. May switch."""
        closure, table = found.swept.closure, found.table
        packed, loose = _canonical(store, table, *run(sort_numbers, table, closure.numbers))
        is_thin = plan.thin and plan.selection == ALL
        is_incremental = is_thin and bool(plan.haves)
        is_ahead = is_incremental and _has_large_pack(store, packed)
        reader = PackReader(table, KERNEL_CACHE_BYTES, store.object_bytes_max)
        make = partial(
            CopiedPack,
            store,
            reader,
            packed,
            loose,
            at_peer=_at_peer(closure.client_has, table) if is_thin and closure.client_has else None,
            forward=self._forward_columns(found.index) if is_ahead else (),
            level=COMPRESSION_LEVEL,
            chunk_bytes=SMALL_CHUNK_BYTES if run is call else LARGE_CHUNK_BYTES,
            whole_pack=store.pack_of(packed[0]) if packed else None,
            make_delta=self._near_deltas(store, reader, found) if is_incremental else None,
            ready=found.index.ready.source() if found.index.ready is not None else None,
            thin=self._thin_file(found) if is_ahead else None,
        )
        pack: CopiedPack = run(make)
        return pack

    def _forward_columns(self, index: Introductions) -> Sequence[ForwardColumns]:
        """Return the deltas that were made ahead; whoever asks first has them read. May switch."""
        if not index.has_read_forward:
            self._runtime.call_blocking(index.read_forward)
        return index.forward.columns

    def _thin_file(self, found: _Found) -> ThinFile | None:
        """Return what was made ready for who has the rest, if the client's objects can be asked for by the kernel."""
        if not isinstance(found.swept.closure.client_has, ClientHas):
            return None
        if not found.index.has_read_thin:
            self._runtime.call_blocking(found.index.read_thin)
        entries = found.index.read_thin()
        return entries.file if entries is not None else None

    def _near_deltas(self, store: ObjectStore, reader: PackReader, found: _Found) -> NearDeltas:
        # An object's name stands for its content in one repository; in another it may be somebody's collision.
        return NearDeltas(found.view, found.table, reader, found.swept.painting, self._made, store.directories[0])


def _find_commit(store: ObjectStore, oid: bytes) -> bytes | None:
    """Return the commit that an object is or peels to, None when there is none."""
    number = store.find(oid)
    if number < 0:
        return None
    try:
        _tags, target, type_number = follow_tags(store, number)
    except (ObjectMissing, Corrupt):
        return None  # whoever asks for it gets the error
    return store.oid_of(target) if type_number == COMMIT else None


def _has_large_pack(store: ObjectStore, packed: "array[int]") -> bool:
    """Tell whether any of these (ascending) lies in a pack that entries are made ahead for (`introducing`).

    What was pushed since lies in small ones, mostly as deltas on what was there: files of many megabytes that hold
    nothing of it are not read for a fetch, or a body that grows, by a few of such objects.
    """
    for pack in store.packs:
        if pack.count >= introducing.LARGE_PACK_OBJECTS:
            rank = bisect_left(packed, pack.first_number)
            if rank < len(packed) and packed[rank] < pack.first_number + pack.count:
                return True
    return False


def _at_peer(client_has: HasNumber, table: PackTable) -> Callable[[int], bool]:
    """Return what tells of a packed object whether the client has it: asked for each delta on what isn't sent."""
    return client_has.of_packed(table) if isinstance(client_has, ClientHas) else client_has.__contains__


def _canonical(
    store: ObjectStore, table: PackTable, packed: "array[int]", loose: "array[int]"
) -> tuple["array[int]", "array[int]"]:
    """Give loose objects that lie in a pack as well their number there: none must be sent twice."""
    if not loose:
        return packed, loose
    rest, more = array("q"), array("q", packed)
    for number in loose:
        found = table.find(store.oid_of(number))
        if found >= 0:
            more.append(found)
        else:
            rest.append(number)
    return sort_numbers(table, more)[0], rest
