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
from govc.objects.types import HEADER_FORMATS, JOINED_BYTES_MAX, hash_object
from govc.pack.delta import apply_delta, parse_delta_sizes
from govc.pack.inflate import inflate_entry
from govc.pack.limits import Expansion, IndexLimits
from govc.pack.scanner import Look
from govc.pack.tables import NONE, EntryTable, RefChildren

_CONTENT_OVERHEAD_BYTES = 200
_TICK_BYTES = 1 << 19
_TICK_ENTRY_COST_BYTES = 8192


class DeltaResolver:
    """Names the deltas of a scanned pack in its table, showing every object made to `look`."""

    def __init__(
        self,
        fd: int,
        table: EntryTable,
        limits: IndexLimits,
        expansion: Expansion,
        *,
        delta_cache: dict[int, bytes],
        look: Look | None,
        tick: Callable[[int], None],
    ) -> None:
        self._fd = fd
        self._table = table
        self._limits = limits
        self._expansion = expansion
        self._delta_cache = delta_cache
        self._look = look
        self._tick = tick
        self._work = 0
        self.resolved_count = 0
        self._ref_children = RefChildren(table) if table.ref_entries else None
        self._contents: dict[int, bytes] = {}
        self._contents_bytes = 0

    def resolve_whole(self) -> None:
        """Resolve everything that stands on the objects that the pack holds whole."""
        table = self._table
        types, bases, first_child = table.types, table.bases, table.first_child
        waiting, oids, oid_size = self._ref_children, table.oids, table.algo.oid_size
        for entry in range(table.count):
            if (
                (first_child[entry] != NONE or (waiting is not None and waiting.may_wait(oids, entry * oid_size)))
                and types[entry]
                and bases[entry] == NONE
            ):
                self.resolve_from(entry)

    def resolve_from(self, root: int, content: bytes | None = None) -> None:
        """Resolve everything that stands on the whole object of entry `root`.

        One frame for all of it, on local names: a small delta costs a few microseconds, of which each call is a part.
        """
        table, algo, look = self._table, self._table.algo, self._look
        first_child, next_sibling, types, oids = table.first_child, table.next_sibling, table.types, table.oids
        contents, expansion, result_limit = self._contents, self._expansion, self._limits.delta_result_bytes_max
        oid_size, new_hasher, take_delta = algo.oid_size, algo.new, self._delta_cache.pop
        waiting = self._ref_children
        if waiting is not None:
            self._adopt(root)
        if first_child[root] == NONE:
            return
        type_number = types[root]
        header = HEADER_FORMATS[type_number]
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
            delta = take_delta(child, None)
            size_max = expansion.left
            if size_max > result_limit:
                size_max = result_limit
            try:
                if delta is None:
                    delta = inflate_entry(self._fd, table, child, result_limit)
                made = apply_delta(base, delta, result_bytes_max=size_max)
            except CorruptDelta as error:
                raise self._corrupt(error, child) from error
            except LimitExceeded:
                self._count_refused(delta)
                raise
            size = len(made)
            expansion.left -= size
            if following == NONE:
                stack.pop()
                self._drop(node)
            if size <= JOINED_BYTES_MAX:
                oid = new_hasher(header % size + made).digest()
            else:
                oid = hash_object(algo, type_number, made)
            types[child] = type_number
            oids[child * oid_size : child * oid_size + oid_size] = oid
            if look is not None:
                look(child, type_number, oid, made)
            self.resolved_count += 1
            if waiting is not None and waiting.may_wait(oid, 0):
                self._adopt(child)
            if first_child[child] != NONE:
                stack.append(child)
                self._keep(child, made)
            self._work += size + _TICK_ENTRY_COST_BYTES
            if self._work > _TICK_BYTES:
                self._work = 0
                self._tick(self.resolved_count)

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
        assert self._ref_children is not None
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
        """Make an object once more."""
        limit = self._limits.delta_result_bytes_max
        delta = inflate_entry(self._fd, self._table, entry, limit)
        try:
            made = apply_delta(base, delta, result_bytes_max=min(limit, self._expansion.left))
        except CorruptDelta as error:
            raise self._corrupt(error, entry) from error
        except LimitExceeded:
            self._count_refused(delta)
            raise
        self._expansion.left -= len(made)
        return made

    def _corrupt(self, error: CorruptDelta, entry: int) -> CorruptPack:
        return CorruptPack(f"failed to apply delta: {error}", self._table.offsets[entry])

    def _count_refused(self, delta: bytes | None) -> None:
        """Raise LimitExceeded if it is the pack's expansion that a delta's result passes, or nothing."""
        if delta is not None:
            self._expansion.add(parse_delta_sizes(delta)[1])
