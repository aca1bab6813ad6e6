"""The second pass over a received pack: the names of what is stored as deltas.

Depth first from every object that is whole through the deltas that hang on it, on a stack of entry numbers,
so that a chain may be as long as it likes. An object's content is kept while deltas wait for it and the
budget lasts, the bottom of the stack going first; what was dropped is rebuilt along its chain when the walk
comes back to it. A cycle is never reached from a whole object, so its members are simply left over.

Source: gitformat-pack "Deltified representation"; git's builtin/index-pack.c fix_unresolved_deltas for thin
packs.
"""

from array import array
from collections.abc import Callable, Iterator

from govc.errors import CorruptDelta, CorruptPack, LimitExceeded
from govc.objects.types import hash_object
from govc.pack.delta import apply_delta, parse_delta_sizes
from govc.pack.inflate import inflate_entry
from govc.pack.limits import Expansion, IndexLimits
from govc.pack.scanner import Record
from govc.pack.tables import NONE, EntryTable, RefChildren

_CONTENT_OVERHEAD_BYTES = 200
_TICK_BYTES = 1 << 19
_TICK_ENTRY_COST_BYTES = 8192


class DeltaResolver:
    """Names the deltas of a scanned pack, handing every object made to `record`."""

    def __init__(
        self,
        fd: int,
        table: EntryTable,
        limits: IndexLimits,
        expansion: Expansion,
        *,
        delta_cache: dict[int, bytes],
        record: Record,
        tick: Callable[[int], None],
    ) -> None:
        self._fd = fd
        self._table = table
        self._limits = limits
        self._expansion = expansion
        self._delta_cache = delta_cache
        self._record = record
        self._tick = tick
        self._work = 0
        self.resolved_count = 0
        self._ref_children = RefChildren(table) if table.ref_entries else None
        self._contents: dict[int, bytes] = {}
        self._contents_bytes = 0

    def resolve_whole(self) -> None:
        """Resolve everything that stands on the objects that the pack holds whole."""
        table = self._table
        for entry in range(table.count):
            if (
                table.types[entry]
                and table.bases[entry] == NONE
                and (self._ref_children is not None or table.first_child[entry] != NONE)
            ):
                self.resolve_from(entry)

    def resolve_from(self, root: int, content: bytes | None = None) -> None:
        """Resolve everything that stands on the whole object of entry `root`."""
        table, algo = self._table, self._table.algo
        first_child, next_sibling = table.first_child, table.next_sibling
        record, contents, adopts = self._record, self._contents, self._ref_children is not None
        self._adopt(root)
        if first_child[root] == NONE:
            return
        type_number = table.types[root]
        stack = array("I", [root])
        if content is not None:
            self._keep(root, content)
        while stack:
            node = stack[-1]
            child = first_child[node]
            base = contents.get(node)
            if base is None:
                base = self._content_of(node)
            following = first_child[node] = next_sibling[child]
            made = self._apply(base, child)
            if following == NONE:
                stack.pop()
                self._drop(node)
            record(child, type_number, hash_object(algo, type_number, made), made)
            self.resolved_count += 1
            if adopts:
                self._adopt(child)
            if first_child[child] != NONE:
                stack.append(child)
                self._keep(child, made)
            self._count_work(len(made))

    def iter_missing_bases(self) -> Iterator[bytes]:
        """Yield the names that unresolved ref-deltas wait for, one by one as they stand in the file.

        Between two of them the caller may resolve; what was resolved by then isn't asked for.
        """
        table = self._table
        size = table.algo.oid_size
        for at, entry in enumerate(table.ref_entries):
            if not table.types[entry]:
                yield bytes(table.ref_base_oids[at * size : at * size + size])

    def _count_work(self, size: int) -> None:
        self._work += size + _TICK_ENTRY_COST_BYTES
        if self._work > _TICK_BYTES:
            self._work = 0
            self._tick(self.resolved_count)

    def _adopt(self, entry: int) -> None:
        """Hang the ref-deltas that wait for this name on the entry, unless a duplicate has them already."""
        if self._ref_children is None:
            return
        table = self._table
        size = table.algo.oid_size
        children = self._ref_children.find(bytes(table.oids[entry * size : entry * size + size]))
        for child in children or ():
            if table.bases[child] == NONE and not table.types[child]:
                table.add_child(entry, child)

    def _keep(self, entry: int, content: bytes) -> None:
        """Remember a content, dropping the oldest ones when the budget is passed; the newest always stays."""
        self._contents[entry] = content
        self._contents_bytes += len(content) + _CONTENT_OVERHEAD_BYTES
        while self._contents_bytes > self._limits.base_cache_bytes and len(self._contents) > 1:
            self._drop(next(iter(self._contents)))

    def _drop(self, entry: int) -> None:
        content = self._contents.pop(entry, None)
        if content is not None:
            self._contents_bytes -= len(content) + _CONTENT_OVERHEAD_BYTES

    def _content_of(self, entry: int) -> bytes:
        """Return the content of an entry on the stack, rebuilding it from the nearest one that is kept."""
        content = self._contents.get(entry)
        if content is not None:
            return content
        table = self._table
        path = array("I")
        while content is None and table.bases[entry] != NONE:
            path.append(entry)
            entry = table.bases[entry]
            content = self._contents.get(entry)
        if content is None:
            content = inflate_entry(self._fd, table, entry, self._limits.delta_result_bytes_max)
            self._expansion.add(len(content))
            if table.first_child[entry] != NONE:
                self._keep(entry, content)
        for step in reversed(path):
            content = self._apply(content, step)
            self._count_work(len(content))
            # The ones below are kept too: the walk will come back to them next.
            if table.first_child[step] != NONE:
                self._keep(step, content)
        return content

    def _apply(self, base: bytes, entry: int) -> bytes:
        delta = self._delta_cache.pop(entry, None)
        if delta is None:
            delta = inflate_entry(self._fd, self._table, entry, self._limits.delta_result_bytes_max)
        expansion, limit = self._expansion, self._limits.delta_result_bytes_max
        try:
            made = apply_delta(base, delta, result_bytes_max=limit if limit < expansion.left else expansion.left)
        except CorruptDelta as error:
            raise CorruptPack(f"failed to apply delta: {error}", self._table.offsets[entry]) from error
        except LimitExceeded:
            expansion.add(parse_delta_sizes(delta)[1])  # if that is the limit that it passes
            raise
        expansion.left -= len(made)
        return made
