"""Both passes over a received pack by the compiled kernel, with the interface of the twins.

The kernel works in calls of a few milliseconds, so that progress can be told, and given up, in between. Threads beside
the caller's do nothing but such calls, which hold no GIL.
"""

import os
from array import array
from collections.abc import Callable, Iterator

from govc.errors import CorruptPack, GovcError
from govc.kernels.indexing import Indexing
from govc.kernels.order import reorder_records, sort_by_oid
from govc.objects.types import BLOB
from govc.pack.inflate import inflate_entry
from govc.pack.limits import IndexLimits
from govc.pack.passes import VISITED_TYPES, Visit, collision, entry_equals
from govc.pack.scanner import PackScanner
from govc.pack.tables import NONE, EntryTable, RefChildren
from govc.pack.thin import Reader

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any
else:
    Any = object

KnownAmong = Callable[[bytes], "array[int]"]
"""Takes oids in ascending order; returns the ranks of those that exist already."""

Beside = Callable[[Callable[[], None]], Callable[[], None]]
"""Starts a function in another thread; what it returns waits for its end."""

Call = Callable[..., Any]
"""`call(f, *arguments)` is f(*arguments), wherever it runs: a thread that may compute for some milliseconds, say."""

_BUDGET_BYTES = 1 << 22
_BESIDE_PACK_BYTES_MIN = 4 << 20
_HASH_PIECE_BYTES = 1 << 20


def call_here(function: Callable[..., Any], /, *arguments: Any) -> Any:
    """Make a call where we are."""
    return function(*arguments)


def start_beside(function: Callable[[], None]) -> Callable[[], None]:
    """Start `function` in a thread of the standard library: the `Beside` of a process without gevent."""
    import threading  # by whom threads are wanted: most who index import all they need without it

    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread.join


class _Beside:
    """A function in another thread, whose exception is raised where it is waited for."""

    def __init__(self, function: Callable[[], None], start: Beside) -> None:
        self._function = function
        self._error: BaseException | None = None
        self._join = start(self._run)

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self._error = error

    def join(self) -> BaseException | None:
        """Wait for the end; return what it raised."""
        self._join()
        return self._error


class CompiledPasses:
    """The passes over one pack; `scanner` has read its header and says what is wrong with an entry."""

    def __init__(
        self,
        kernel: Any,
        fd: int,
        scanner: PackScanner,
        limits: IndexLimits,
        *,
        detects: bool,
        threads: int,
        beside: Beside,
        call: Call,
    ) -> None:
        self._kernel = kernel
        self._fd = fd
        self._scanner = scanner
        self._limits = limits
        self._beside = beside
        self._call = call
        self._threads = threads if scanner.pack_size >= _BESIDE_PACK_BYTES_MIN else 1
        self._table: EntryTable = scanner.table
        self._checksum = b""
        self._indexing: Indexing = kernel.Indexing(
            fd, self._table, limits, pack_size=scanner.pack_size, detects=detects, threads=self._threads
        )

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error to raise: the twin's where the kernel only knows which entry is wrong."""
        if not isinstance(error, self._kernel.EntryAtFault):
            return error
        entry: int = error.entry
        try:
            self._scanner.explain(entry)
            inflate_entry(self._fd, self._table, entry, self._limits.delta_result_bytes_max)
        except GovcError as explained:
            return explained
        return CorruptPack("unreadable entry", self._table.offsets[entry])

    def scan(self, tick: Callable[[int], None]) -> None:
        """Read every entry and the trailer."""
        table = self._table
        checksum = _Beside(self._hash_all, self._beside) if self._threads > 1 else None
        try:
            done = -1
            while done < table.count:
                done = self._call(self._indexing.scan, _BUDGET_BYTES)
                tick(done)
        except self._kernel.EntryAtFault as fault:
            raise self._explain(fault) from fault
        finally:
            error = checksum.join() if checksum is not None else None
        if error is not None:
            raise error
        if checksum is None:
            self._call(self._hash_all)
        self._scanner.check_trailer(table.offsets[table.count], self._checksum)
        entries, oids = self._indexing.waiting_refs()
        table.ref_entries.frombytes(entries)
        table.ref_base_oids += oids

    def _hash_all(self) -> None:
        """Hash everything before the trailer."""
        end = self._scanner.pack_size - self._table.algo.oid_size
        hasher = self._table.algo.new()
        for at in range(0, end, _HASH_PIECE_BYTES):
            hasher.update(os.pread(self._fd, min(_HASH_PIECE_BYTES, end - at), at))
        self._checksum = hasher.digest()

    @property
    def resolved_count(self) -> int:
        """How many deltas have become objects."""
        return self._indexing.resolved_count

    def resolve_whole(self, tick: Callable[[int], None]) -> None:
        """Resolve everything that stands on the objects that the pack holds whole."""
        table = self._table
        self._indexing.prepare(RefChildren(table) if table.ref_entries else None, self._limits.base_cache_bytes)
        others = [_Beside(self._worker(number), self._beside) for number in range(1, self._threads)]
        failures: list[BaseException | None] = []
        try:
            self._work(0, tick)
        except BaseException as error:
            self._indexing.stop()
            failures.append(error)
        failures += [other.join() for other in others]
        for failure in failures:
            if failure is not None:
                raise self._explain(failure)

    def _worker(self, thread: int) -> Callable[[], None]:
        return lambda: self._work(thread)

    def _work(self, thread: int, tick: Callable[[int], None] | None = None) -> None:
        # Only the first one runs where the caller is, and may have its calls done elsewhere.
        call = self._call if tick is not None else call_here
        while call(self._indexing.resolve, thread, _BUDGET_BYTES):
            if tick is not None:
                tick(self.resolved_count)

    def resolve_from(self, root: int, content: bytes) -> None:
        """Resolve everything that stands on a whole object that was appended."""
        self._indexing.push_root(root, content)
        try:
            self._work(0, lambda _: None)
        except self._kernel.EntryAtFault as fault:
            raise self._explain(fault) from fault

    def iter_missing_bases(self) -> Iterator[bytes]:
        """Yield the names that unresolved ref-deltas wait for; see DeltaResolver."""
        table = self._table
        size = table.algo.oid_size
        for at, entry in enumerate(table.ref_entries):
            if not table.types[entry]:
                yield bytes(table.ref_base_oids[at * size : at * size + size])

    def examine(
        self,
        *,
        received: int,
        known: Callable[[bytes], bool] | None,
        known_among: KnownAmong | None,
        existing_reader: Reader | None,
        visit: Visit | None,
        tick: Callable[[int], None],
    ) -> "array[int]":
        """Compare the objects that exist already, show those that somebody wants to see.

        Only the `received` entries that the peer sent: bases that were appended are the repository's own. Return the
        entries of the former.
        """
        table = self._table
        size = table.algo.oid_size
        entries = self._find_known(received, known, known_among)
        flags = bytearray(table.count)
        for done, entry in enumerate(entries if existing_reader is not None else ()):
            if table.types[entry] == BLOB and table.bases[entry] == NONE:
                oid = bytes(table.oids[entry * size : entry * size + size])
                existing = existing_reader(oid) if existing_reader is not None else None
                if existing is not None and not entry_equals(self._fd, table, entry, *existing):
                    raise collision(table.algo, oid)
                tick(done)
            else:
                flags[entry] = 1
        compared = bytes(flags)
        if visit is not None:
            for entry in range(received):
                flags[entry] |= table.types[entry] in VISITED_TYPES
        for entry, content in self._iter_contents(flags, tick):
            oid = bytes(table.oids[entry * size : entry * size + size])
            if compared[entry] and existing_reader is not None:
                existing = existing_reader(oid)
                if existing is not None and existing != (table.types[entry], content):
                    raise collision(table.algo, oid)
            if visit is not None and table.types[entry] in VISITED_TYPES:
                visit(oid, table.types[entry], content)
        return entries

    def _find_known(
        self, received: int, known: Callable[[bytes], bool] | None, known_among: KnownAmong | None
    ) -> "array[int]":
        size = self._table.algo.oid_size
        oids = bytes(self._table.oids[: received * size])
        if known_among is not None:
            order = sort_by_oid(oids, size)
            return array("I", sorted(order[rank] for rank in known_among(reorder_records(oids, order, size))))
        if known is not None:
            return array("I", (e for e in range(received) if known(oids[e * size : e * size + size])))
        return array("I")

    def _iter_contents(self, flags: bytearray, tick: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
        """Yield the contents of the flagged entries, a delta's after its base's, in no other promised order."""
        if not any(flags):
            return
        self._indexing.want(flags, self._limits.base_cache_bytes)
        done = 0
        try:
            while (made := self._call(self._indexing.contents, _BUDGET_BYTES)) is not None:
                yield from made
                done += len(made)
                tick(done)
        except self._kernel.EntryAtFault as fault:
            raise self._explain(fault) from fault
