"""The refs of a reftable repository, read: the shared stack, and a linked worktree's own beside it.

    <commondir>/reftable/        the shared refs, and HEAD and the per-worktree refs of the main worktree
    <gitdir>/reftable/           in a linked worktree: its HEAD, refs/bisect, refs/worktree, refs/rewritten

The files HEAD (`ref: refs/heads/.invalid`) and refs/heads (a file with a sentence in it) are only there to make old
programs keep away; nothing is read from them.

As in the files backend a state is immutable, loading with the last one at hand reads what is new, and a table of refs
that would be the same is the same object.

Source: git's technical/reftable "Layout", "Backward compatibility"; git-worktree "REFS".
"""

import os
import time
from dataclasses import dataclass
from itertools import takewhile

from govc.protocol.oid import HashAlgorithm
from govc.refs.backend_state import PEELED_KEPT_MAX, RefMark, RefState, is_per_worktree
from govc.refs.loose import LooseRef
from govc.refs.reftable.compaction import choose_segment
from govc.refs.reftable.merged import MergedRefs, merge_refs
from govc.refs.reftable.stack import LIST_BYTES_MAX, Stack, StackState, parse_tables_list
from govc.refs.reftable.table import open_table
from govc.refs.reftable.writer import GEOMETRIC_FACTOR
from govc.refs.table import DELETED, SYMREF_DEPTH_MAX, RefTable
from govc.watch import GRAIN_NS, ClockNs, StatFunction, WatchedFile, read_regular

HEAD_STUB = b"ref: refs/heads/.invalid\n"
HEADS_STUB = b"this repository uses the reftable format\n"

MARK_BYTES_MAX = 32 << 10
"""Hundreds of tables: a stack that is compacted has a few dozen."""

_NO_TABLES = b"\n"


@dataclass(frozen=True, slots=True, eq=False)
class ReftableState(RefState):
    """The refs at one moment. `stacks`: the shared one, then the linked worktree's own if there is one."""

    stacks: tuple[StackState, ...]

    def get(self, name: bytes) -> LooseRef | None:
        """Return what a ref (or HEAD) says, unresolved; None when there is none."""
        own = self.stacks[-1] if is_per_worktree(name) else self.stacks[0]
        return own.refs.get(name)

    def follow(self, name: bytes) -> tuple[bytes, LooseRef | None] | None:
        """Return (ref at the end of the symref chain, what it says).

        None when the chain is deeper than SYMREF_DEPTH_MAX or leaves refs/.
        """
        for _ in range(SYMREF_DEPTH_MAX):
            if name != b"HEAD" and not name.startswith(b"refs/"):
                return None
            found = self.get(name)
            if found is None or found.target is None:
                return name, found
            name = found.target
        return None


class ReftableDatabase:
    """The refs of one repository on disk (the "reftable" backend). Keeps the last state that it has read."""

    def __init__(
        self,
        gitdir: str,
        commondir: str,
        algo: HashAlgorithm,
        *,
        stat: StatFunction = os.stat,
        clock_ns: ClockNs = time.time_ns,
        grain_ns: int = GRAIN_NS,
    ) -> None:
        """Take the repository's folder, and the common one (the same but for linked worktrees)."""
        self.gitdir = gitdir
        self.commondir = commondir
        self.algo = algo
        folders = (commondir,) if gitdir == commondir else (commondir, gitdir)
        self.stacks = tuple(
            Stack(f"{folder}/reftable", algo, stat=stat, clock_ns=clock_ns, grain_ns=grain_ns) for folder in folders
        )
        self.latest: ReftableState | None = None

    def stack_number_of(self, name: bytes) -> int:
        """Return which of `stacks` a ref belongs to."""
        return len(self.stacks) - 1 if is_per_worktree(name) else 0

    def load(self, previous: RefState | None = None) -> ReftableState:
        """Return the refs as they are now. Raises CorruptRefs, OSError."""
        old = previous if isinstance(previous, ReftableState) else self.latest
        stacks = (
            stack.load(old.stacks[number] if old is not None else None) for number, stack in enumerate(self.stacks)
        )
        return self.state_of(tuple(stacks), old)

    def state_of(self, stacks: tuple[StackState, ...], old: ReftableState | None = None) -> ReftableState:
        """Return the state that these stacks make up: `old`, or one with its table, where nothing has changed."""
        old = old if old is not None else self.latest
        if old is not None and all(new is known for new, known in zip(stacks, old.stacks, strict=True)):
            state = old
        elif old is not None and all(new.refs is known.refs for new, known in zip(stacks, old.stacks, strict=True)):
            state = ReftableState(old.table, stacks)
        else:
            state = ReftableState(self._table(stacks, old), stacks)
        self.latest = state
        return state

    def is_current(self, state: RefState) -> bool:
        """Say whether `load` would return the same refs. One stat for each stack; no while a stamp is unsettled."""
        return isinstance(state, ReftableState) and all(
            stack.is_current(known) for stack, known in zip(self.stacks, state.stacks, strict=True)
        )

    def watched(self, state: RefState) -> list[WatchedFile] | None:
        """Return None: the stacks look at their lists themselves."""
        return None

    def mark_of(self, state: RefState) -> RefMark | None:
        """Return the list of tables; None in a linked worktree, which has two, and when it is too long."""
        if not isinstance(state, ReftableState) or len(state.stacks) > 1:
            return None
        return _mark(state.stacks[0].content)

    def changed_since(self, mark: RefMark) -> tuple[dict[bytes, LooseRef | None], RefMark] | None:
        """Return what the tables say that aren't in the mark, and the next mark.

        A compaction keeps tombstones unless it takes the oldest table, so the tables from the first new one on name
        every ref that has changed. None when the oldest table is another one.
        """
        if len(self.stacks) > 1:
            return None
        stack = self.stacks[0]
        content = read_regular(stack.list_path, LIST_BYTES_MAX) or b""
        names, before = parse_tables_list(content), parse_tables_list(mark.base)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(names, before, strict=False)))
        following = _mark(content)
        if (before and not kept) or following is None:
            return None
        try:
            tables = [open_table(stack.folder, name, self.algo) for name in names[kept:]]
        except FileNotFoundError:
            return None  # compacted since the list was read
        found: dict[bytes, LooseRef | None] = {
            record.name: DELETED if record.is_tombstone else LooseRef(record.oid, record.target)
            for record in merge_refs(tables, drop_tombstones=False)
            if record.name.startswith(b"refs/")
        }
        return found, following

    def is_packing_due(self, state: RefState) -> bool:
        """Say whether there are tables to be merged (`git pack-refs --auto` would)."""
        return isinstance(state, ReftableState) and any(
            choose_segment(stack.tables, GEOMETRIC_FACTOR, None) is not None for stack in state.stacks
        )

    def read_head(self) -> LooseRef | None:
        """Return what HEAD says now, None when there is none."""
        record = self.stacks[-1].find_ref(b"HEAD")
        return None if record is None else LooseRef(record.oid, record.target)

    def read_raw(self, name: bytes) -> LooseRef | None:
        """Return what a ref says now."""
        return self.load().get(name)

    def follow(self, name: bytes) -> tuple[bytes, LooseRef | None] | None:
        """Return (ref at the end of the symref chain, what it says), now; None as `ReftableState.follow`."""
        return self.load().follow(name)

    def _table(self, stacks: tuple[StackState, ...], old: ReftableState | None) -> RefTable:
        shared, own = stacks[0].refs, stacks[-1].refs
        on_top = {name: ref for name, ref in shared.on_top.items() if name.startswith(b"refs/")}
        warnings = shared.warnings
        if own is not shared:
            _put_own(on_top, shared, own)
            warnings = tuple(dict.fromkeys((*warnings, *own.warnings)))
        peeled = old.table.peeled_so_far if old is not None else {}
        if len(peeled) > PEELED_KEPT_MAX:
            peeled = {}
        peeled.update(shared.peeled)
        return RefTable(shared.base, on_top, own.get(b"HEAD"), self.algo, warnings=warnings, peeled=peeled)


def _mark(content: bytes) -> RefMark | None:
    return RefMark(content or _NO_TABLES) if len(content) <= MARK_BYTES_MAX else None


def _put_own(on_top: dict[bytes, LooseRef], shared: MergedRefs, own: MergedRefs) -> None:
    """Replace the main worktree's per-worktree refs by a linked worktree's own."""
    for name in [name for name in on_top if is_per_worktree(name)]:
        del on_top[name]
    for name in shared.base.iter_names(*shared.base.range_of_prefix(b"refs/")):
        if is_per_worktree(name):
            on_top[name] = DELETED
    for name, oid, _ in own.base.iter_entries():
        if is_per_worktree(name):
            on_top[name] = LooseRef(oid, None)
    on_top.update((name, ref) for name, ref in own.on_top.items() if name != b"HEAD" and is_per_worktree(name))
