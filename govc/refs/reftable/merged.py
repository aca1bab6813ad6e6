"""The tables of a stack as one view: the lower, large ones folded into columns, the upper, small ones by name on top.

A newer table hides what older ones say about a name; a tombstone hides it without saying anything. As the stack is
kept geometric, most refs are in one table, whose columns are used as they are. The fold is kept as long as its tables
are in the stack and what lies on top stays small: a transaction then costs a reader its own table, not the large ones.

Compaction needs records with their update indexes and merges those (`merge_refs`, `merge_logs`).
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from govc.protocol.oid import HashAlgorithm
from govc.refs.loose import LooseRef
from govc.refs.reftable.columns import RefColumns
from govc.refs.reftable.format import LogRecord, RefRecord, encode_log_key
from govc.refs.reftable.table import Table
from govc.refs.table import DELETED

ON_TOP_MAX = 2000
"""So many refs are kept by name on top of a fold; when there are more, a new fold leaves at most half of it."""


class MergedRefs(NamedTuple):
    """The refs of a stack. `folded`: how many tables went into `base`; `on_top` hides what `base` says.

    `peeled`: tag oid -> peeled oid, of the refs on top.
    """

    tables: tuple[Table, ...]
    folded: int
    base: RefColumns
    odd: dict[bytes, LooseRef]
    on_top: dict[bytes, LooseRef]
    peeled: dict[bytes, bytes]
    warnings: tuple[str, ...]

    def get(self, name: bytes) -> LooseRef | None:
        """Return what the stack says about a name, HEAD and root refs included; None when there is no such ref."""
        found = self.on_top.get(name)
        if found is None:
            oid = self.base.get(name)
            return None if oid is None else LooseRef(oid, None)
        return None if found == DELETED else found


def merge_tables(tables: tuple[Table, ...], algo: HashAlgorithm, previous: MergedRefs | None) -> MergedRefs:
    """Return the merged view, with the fold of `previous` if that is still right. Raises CorruptRefs, OSError."""
    counts = [table.refs.name_count for table in tables]
    if previous is not None and _still_folds(previous, tables) and sum(counts[previous.folded :]) <= ON_TOP_MAX:
        folded, base, odd = previous.folded, previous.base, previous.odd
    else:
        folded = _choose_fold(counts)
        base, odd = _fold(tables[:folded], algo)
    on_top = dict(odd)
    peeled: dict[bytes, bytes] = {}
    for table in tables[folded:]:
        on_top.update(table.refs.odd)
        for name, oid, target in table.refs.columns.iter_entries():
            on_top[name] = LooseRef(oid, None)
            if target:
                peeled[oid] = target
    for name in [name for name, ref in on_top.items() if ref == DELETED and base.find(name) < 0]:
        del on_top[name]
    warnings = tuple(dict.fromkeys(text for table in tables for text in table.refs.warnings))
    return MergedRefs(tables, folded, base, odd, on_top, peeled, warnings)


def _still_folds(previous: MergedRefs, tables: tuple[Table, ...]) -> bool:
    count = previous.folded
    return 0 < count <= len(tables) and all(
        old is new for old, new in zip(previous.tables[:count], tables[:count], strict=True)
    )


def _choose_fold(counts: Sequence[int]) -> int:
    """Return how many tables to fold: as few as leave little on top, since compaction works from the top."""
    left = ON_TOP_MAX // 2
    folded = len(counts)
    while folded > 1 and counts[folded - 1] <= left:
        folded -= 1
        left -= counts[folded]
    return folded


def _fold(tables: Sequence[Table], algo: HashAlgorithm) -> tuple[RefColumns, dict[bytes, LooseRef]]:
    """Return the tables as columns and the few refs that don't go there.

    The columns of the largest table are the ground; what the others change is worked in.
    """
    if not tables:
        return RefColumns(b"", b"", b"", algo.oid_size), {}
    ground = max(range(len(tables)), key=lambda number: tables[number].refs.columns.count)
    columns, ground_odd = tables[ground].refs.columns, tables[ground].refs.odd
    odd: dict[bytes, LooseRef] = {}
    changes: dict[bytes, tuple[bytes | None, bytes | None]] = {}
    for table in tables[:ground]:
        _put_on(table, changes, odd)
    for name in [name for name in (*changes, *odd) if name in ground_odd or columns.find(name) >= 0]:
        changes.pop(name, None)
        odd.pop(name, None)
    odd.update(ground_odd)
    for table in tables[ground + 1 :]:
        _put_on(table, changes, odd)
    odd = {name: ref for name, ref in odd.items() if ref != DELETED}
    if not changes:
        return columns, odd
    return columns.replaced((name, *changes[name]) for name in sorted(changes)), odd


def _put_on(table: Table, changes: dict[bytes, tuple[bytes | None, bytes | None]], odd: dict[bytes, LooseRef]) -> None:
    """Put a table on top of what older ones have: direct refs into `changes`, with None for those that go."""
    for name, ref in table.refs.odd.items():
        changes[name] = (None, None)
        odd[name] = ref
    for name, oid, peeled in table.refs.columns.iter_entries():
        changes[name] = (oid, peeled)
        odd.pop(name, None)


def merge_refs(tables: Sequence[Table], *, drop_tombstones: bool) -> Iterator[RefRecord]:
    """Yield the refs of some tables, oldest table first, each name once as the newest of them has it, in order."""
    streams = [_numbered(table.iter_refs(), -number) for number, table in enumerate(tables)]
    last = b""
    for name, _, record in heapq.merge(*streams):
        if name == last:
            continue
        last = name
        if not (drop_tombstones and record.is_tombstone):
            yield record


def _numbered(records: Iterable[RefRecord], rank: int) -> Iterator[tuple[bytes, int, RefRecord]]:
    for record in records:
        yield record.name, rank, record


def merge_logs(tables: Sequence[Table], name: bytes | None = None, *, drop_tombstones: bool) -> Iterator[LogRecord]:
    """Yield the reflog entries of some tables, oldest table first, in order; of one ref, or of all.

    Of two with the same ref and update index the newer table's counts.
    """
    streams = [_keyed(table.iter_logs(name), -number) for number, table in enumerate(tables)]
    last = b""
    for key, _, record in heapq.merge(*streams):
        if key == last:
            continue
        last = key
        if not (drop_tombstones and record.entry is None):
            yield record


def _keyed(records: Iterable[LogRecord], rank: int) -> Iterator[tuple[bytes, int, LogRecord]]:
    for record in records:
        yield encode_log_key(record.name, record.update_index), rank, record


def has_log(tables: Sequence[Table], name: bytes) -> bool:
    """Say whether a ref has a reflog, be it an empty one."""
    tables = [table for table in tables if table.has_logs]
    return next(merge_logs(tables, name, drop_tombstones=True), None) is not None
