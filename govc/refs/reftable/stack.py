"""A stack of tables: `tables.list` names them, oldest first, and `tables.list.lock` is the lock of all writers.

    reftable/tables.list                                    one file name a line
    reftable/0x000000000001-0x00000000000a-4e2f9c01.ref     update indexes in hexadecimal, and a random number

tables.list is only ever replaced by a rename; tables never change. A reader takes the list, then opens the tables that
it doesn't know yet. One that has gone meanwhile was compacted away: then the list has changed, and is read again.

Source: git's technical/reftable "Layout", "Readers", "Update transactions".
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from govc.errors import CorruptRefs
from govc.protocol.oid import HashAlgorithm
from govc.refs.lock import FileModes, LockFile, LockOwner, Sleep, acquire_lock
from govc.refs.reftable.format import RefRecord
from govc.refs.reftable.merged import MergedRefs, merge_tables
from govc.refs.reftable.table import Table, open_table
from govc.watch import GRAIN_NS, ClockNs, HeldInode, StatFunction, WatchedFile, read_regular, read_watched

LIST_BYTES_MAX = 1 << 20
"""Twenty thousand tables. A stack that is compacted has a few dozen."""

TABLES_LIST = "tables.list"
_LOAD_TRIES = 100
_NAME = re.compile(r"[^/\0]+")


@dataclass(frozen=True, slots=True, eq=False)
class StackState:
    """A stack as it was read, and what proves that it still is."""

    content: bytes
    refs: MergedRefs
    watch: WatchedFile
    held: HeldInode

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables, oldest first."""
        return self.refs.tables

    @property
    def next_update_index(self) -> int:
        """The update index of the next transaction."""
        return max((table.header.max_update_index for table in self.tables), default=0) + 1


class Stack:
    """The stack in one folder."""

    def __init__(
        self,
        folder: str,
        algo: HashAlgorithm,
        *,
        stat: StatFunction = os.stat,
        clock_ns: ClockNs = time.time_ns,
        grain_ns: int = GRAIN_NS,
    ) -> None:
        self.folder = folder
        self.algo = algo
        self.list_path = f"{folder}/{TABLES_LIST}"
        self._stat = stat
        self._clock_ns = clock_ns
        self._grain_ns = grain_ns

    def load(self, previous: StackState | None = None) -> StackState:
        """Return the stack as it is now; tables that `previous` has are not read again.

        A folder without a list is an empty stack. Raises CorruptRefs, OSError.
        """
        if previous is not None and previous.watch.is_current(self._stat):
            return previous
        before = b""
        for attempt in range(_LOAD_TRIES):
            held = HeldInode(self.list_path)
            read, watch = read_watched(
                self.list_path,
                bytes_max=LIST_BYTES_MAX,
                stat=self._stat,
                clock_ns=self._clock_ns,
                grain_ns=self._grain_ns,
            )
            content = read or b""
            if previous is not None and previous.content == content:
                return StackState(previous.content, previous.refs, watch, held)
            try:
                refs = self._merge(content, previous)
            except FileNotFoundError as error:
                if attempt and content == before:
                    name = os.path.basename(str(error.filename))
                    raise CorruptRefs(f"reftable {name}: it is listed, but not there") from error
                before = content
                continue
            return StackState(content, refs, watch, held)
        raise CorruptRefs("the list of reftables keeps changing")

    def _merge(self, content: bytes, previous: StackState | None) -> MergedRefs:
        known = {table.name: table for table in previous.tables} if previous is not None else {}
        tables = tuple(
            known.get(name) or open_table(self.folder, name, self.algo) for name in parse_tables_list(content)
        )
        return merge_tables(tables, self.algo, previous.refs if previous is not None else None)

    def is_current(self, state: StackState) -> bool:
        """Say whether `load` would return the same. One stat; no while a stamp is unsettled."""
        return state.watch.is_current(self._stat)

    def find_ref(self, name: bytes) -> RefRecord | None:
        """Return what the newest table that knows a name says, reading no more than the blocks that lead there.

        For those who need one ref of a stack and keep none of it: HEAD of a worktree. Raises CorruptRefs, OSError.
        """
        for _ in range(_LOAD_TRIES):
            try:
                found = (table.find_ref(name) for table in reversed(self.open_tables()))
                record = next((record for record in found if record is not None), None)
            except FileNotFoundError:
                continue  # compacted away since the list was read
            return None if record is None or record.is_tombstone else record
        raise CorruptRefs("a listed reftable is not there")

    def read_names(self) -> list[str]:
        """Return the names in the list, oldest first; none when there is no list. Raises CorruptRefs, OSError."""
        return parse_tables_list(read_regular(self.list_path, LIST_BYTES_MAX) or b"")

    def open_tables(self) -> tuple[Table, ...]:
        """Open what is listed now. Under the lock that can't fail; else FileNotFoundError says that it has changed."""
        return tuple(open_table(self.folder, name, self.algo) for name in self.read_names())

    def lock(
        self,
        *,
        timeout_ms: int,
        sleep: Sleep,
        modes: FileModes,
        owner: LockOwner | None,
        name: str = TABLES_LIST,
        queue_ms: int = 0,
    ) -> LockFile:
        """Take the lock of the list, or that of a table. Raises LockFailed."""
        return acquire_lock(
            f"{self.folder}/{name}",
            f"reftable/{name}",
            timeout_ms=timeout_ms,
            sleep=sleep,
            modes=modes,
            owner=owner,
            queue_ms=queue_ms,
        )


def parse_tables_list(content: bytes) -> list[str]:
    """Return the table names in a list. Raises CorruptRefs for one that could lead out of the folder."""
    names = [os.fsdecode(line) for line in content.split(b"\n") if line]
    for name in names:
        if _NAME.fullmatch(name) is None or name.startswith("."):
            raise CorruptRefs(f"ill-formed name of a reftable: {name[:255]!r}")
    if len(set(names)) < len(names):
        raise CorruptRefs("a reftable is listed twice")
    return names


def encode_tables_list(names: Sequence[str]) -> bytes:
    """Return the content of a list."""
    return b"".join(os.fsencode(name) + b"\n" for name in names)


def new_table_name(low: int, high: int) -> str:
    """Return an unused name for a table of these update indexes, as git makes them."""
    return f"0x{low:012x}-0x{high:012x}-{os.urandom(4).hex()}.ref"
