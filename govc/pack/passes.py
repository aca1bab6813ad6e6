"""Both passes over a received pack in pure Python: the twins of the compiled kernel, put together.

Every object is looked at as soon as it is made, if somebody asks: whether it exists already, with other content
perhaps, and whether somebody wants to see it. The compiled passes (`compiled`) do that afterwards.
"""

from array import array
from collections.abc import Callable, Iterator

from govc.errors import CorruptPack
from govc.objects.types import COMMIT, TAG, TREE
from govc.pack.inflate import iter_inflated
from govc.pack.limits import IndexLimits
from govc.pack.resolver import DeltaResolver
from govc.pack.scanner import Look, PackScanner
from govc.pack.tables import EntryTable
from govc.pack.thin import Reader
from govc.protocol.oid import HashAlgorithm

Visit = Callable[[bytes, int, bytes], None]
"""Takes oid, type and content of a commit, tree or tag."""

VISITED_TYPES = frozenset((COMMIT, TREE, TAG))


def collision(algo: HashAlgorithm, oid: bytes) -> CorruptPack:
    """Return the error for an object that exists with other content."""
    return CorruptPack(f"{algo.name.upper()} COLLISION FOUND WITH {oid.hex()} !")


def entry_equals(fd: int, table: EntryTable, entry: int, type_number: int, content: bytes) -> bool:
    """Tell whether the whole object of an entry is this one, without holding it."""
    if type_number != table.types[entry]:
        return False
    view = memoryview(content)
    at = 0
    for piece in iter_inflated(fd, table, entry):
        if view[at : at + len(piece)] != piece:
            return False
        at += len(piece)
    return at == len(content)


class Examiner:
    """Looks at every object once its name is known: compares with what exists, visits."""

    def __init__(
        self,
        fd: int,
        table: EntryTable,
        *,
        known: Callable[[bytes], bool] | None,
        existing_reader: Reader | None,
        visit: Visit | None,
    ) -> None:
        self._fd = fd
        self._table = table
        self._known = known
        self._existing_reader = existing_reader
        self._visit = visit
        self._streamed: array[int] = array("I")
        self.known_entries: array[int] = array("I")

    @property
    def look(self) -> Look | None:
        """What every object is to be shown to; None where nobody asks."""
        return self._look if self._known is not None or self._visit is not None else None

    def _look(self, entry: int, type_number: int, oid: bytes, content: bytes | None) -> None:
        if self._known is not None and self._known(oid):
            self.known_entries.append(entry)
            if content is None:
                self._streamed.append(entry)  # where it ends is known after the scan only
            elif self._existing_reader is not None:
                existing = self._existing_reader(oid)
                if existing is not None and existing != (type_number, content):
                    raise collision(self._table.algo, oid)
        if self._visit is not None and content is not None and type_number in VISITED_TYPES:
            self._visit(oid, type_number, content)

    def check_streamed(self) -> None:
        """Compare the large blobs that exist already, piece by piece, once the scan is over."""
        if self._existing_reader is None:
            return
        size = self._table.algo.oid_size
        for entry in self._streamed:
            oid = bytes(self._table.oids[entry * size : entry * size + size])
            existing = self._existing_reader(oid)
            if existing is not None and not entry_equals(self._fd, self._table, entry, *existing):
                raise collision(self._table.algo, oid)


class TwinPasses:
    """The passes over one pack, in pure Python."""

    def __init__(self, fd: int, scanner: PackScanner, limits: IndexLimits, examiner: Examiner) -> None:
        self._fd = fd
        self._scanner = scanner
        self._limits = limits
        self._examiner = examiner
        self._resolver: DeltaResolver | None = None

    def scan(self, tick: Callable[[int], None]) -> None:
        """Read every entry and the trailer."""
        self._scanner.set_tick(tick)
        self._scanner.scan(self._examiner.look)
        self._examiner.check_streamed()

    def resolve_whole(self, tick: Callable[[int], None]) -> None:
        """Resolve everything that stands on the objects that the pack holds whole."""
        self._resolver = DeltaResolver(
            self._fd,
            self._scanner.table,
            self._limits,
            self._scanner.expansion,
            delta_cache=self._scanner.delta_cache,
            look=self._examiner.look,
            tick=tick,
        )
        self._resolver.resolve_whole()

    @property
    def resolved_count(self) -> int:
        """How many deltas have become objects."""
        return self._resolver.resolved_count if self._resolver is not None else 0

    def resolve_from(self, root: int, content: bytes) -> None:
        """Resolve everything that stands on a whole object that was appended."""
        assert self._resolver is not None
        self._resolver.resolve_from(root, content)

    def iter_missing_bases(self) -> Iterator[bytes]:
        """Yield the names that unresolved ref-deltas wait for; see DeltaResolver."""
        assert self._resolver is not None
        return self._resolver.iter_missing_bases()

    def finish(self, tick: Callable[[int], None]) -> "array[int]":
        """Return the entries of objects that exist already."""
        self._resolver = None  # what it holds is free before the index is sorted
        return self._examiner.known_entries
