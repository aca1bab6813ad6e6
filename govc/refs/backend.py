"""The seam between the backends of refs: whoever reads or changes refs doesn't ask how they are stored.

`open_ref_backend` is the only place that knows which backend `extensions.refStorage` names. What the rooms above use
is `RefBackend`: states for readers (`load`, `is_current`), transactions for writers (`begin`), upkeep (`tidy` in
passing after a change, `pack` as `git pack-refs` does it), and `set_symref`.

Source: git-config "extensions.refStorage".
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from govc.errors import RefUpdateRefused
from govc.protocol.oid import HashAlgorithm
from govc.refs.backend_state import RefMark, RefState
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    PACKED_LOCK_TIMEOUT_MS,
    REF_LOCK_TIMEOUT_MS,
    FileModes,
    HeldLocks,
    LockOwner,
    PlainModes,
    Sleep,
)
from govc.refs.loose import LooseRef
from govc.refs.pack_refs import pack_refs
from govc.refs.plan import RefUpdate
from govc.refs.reflog import LogUpdates
from govc.refs.reftable.compaction import Compactor, remove_leftovers
from govc.refs.reftable.database import ReftableDatabase
from govc.refs.reftable.stack import TABLES_LIST
from govc.refs.reftable.symref import set_symref as set_reftable_symref
from govc.refs.reftable.transaction import ReftableTransaction
from govc.refs.reftable.writer import ReftableOptions
from govc.refs.symref import set_symref
from govc.refs.table import Peel
from govc.refs.transaction import RefTransaction
from govc.watch import GRAIN_NS, ClockNs, StatFunction, WatchedFile

FILES = "files"
REFTABLE = "reftable"

TIDY_BYTES_MAX = 256 << 10
"""Tables of so many bytes together are merged in passing: some ten milliseconds. Larger ones wait for `pack`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How refs are written: waiting, permissions, durability, whose the locks are, and the settings of each backend.

    Time-outs in milliseconds, negative: wait for ever; for `packed_queue_ms` see `lock`. `owner` makes the locks
    recognisable after a crash.
    """

    sleep: Sleep = time.sleep
    modes: FileModes = field(default_factory=PlainModes)
    fsync: bool = True
    lock_timeout_ms: int = REF_LOCK_TIMEOUT_MS
    packed_timeout_ms: int = PACKED_LOCK_TIMEOUT_MS
    packed_queue_ms: int = 0
    reftable: ReftableOptions = field(default_factory=ReftableOptions)
    owner: LockOwner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflogging:
    """What reflogs get: `committer` is `name <email>`, `clock` gives seconds since 1970, `updates` says who has one."""

    committer: bytes
    message: bytes
    clock: Callable[[], float] = time.time
    updates: LogUpdates = LogUpdates.NONE


class Transaction(Protocol):
    """Some ref updates that are prepared together: `add` all, `prepare`, then `commit` or `rollback`."""

    def add(self, update: RefUpdate) -> None:
        """Add one update; HEAD and names below refs/ are accepted."""

    def prepare(self) -> dict[bytes, RefUpdateRefused]:
        """Do all that can fail; return the refusals by name. The updates not named there are ready."""

    def prepared(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return (ref, old, new) of each ref whose value `commit` will change; zeros for a ref that isn't there."""

    def commit(self, *, keep_failed: bool = False, time_seconds: int | None = None) -> dict[bytes, RefUpdateRefused]:
        """Publish what was prepared; return what failed even so, by name.

        With `keep_failed`, locks stay when something failed: `rollback` is the caller's then. `time_seconds` is for
        reflogs that are written only now.
        """

    def held_locks(self) -> HeldLocks:
        """Return the locks that `commit` left: what somebody else finishes is known by them."""

    def release_packed(self) -> None:
        """Let go of what another can't do without who finishes this transaction."""

    def abandon(self) -> None:
        """Forget the transaction without letting go of its locks: somebody else finishes what they stand for."""

    def hand_over(self) -> Callable[[], None]:
        """Forget the transaction; what lets go of its locks is returned, for later."""

    def rollback(self) -> None:
        """Let go of every lock; what wasn't committed never was. Harmless after `commit`."""

    def __enter__(self) -> "Transaction":
        """Roll back at the end of the `with` block."""

    def __exit__(self, *exception: object) -> None:
        """Roll back what wasn't committed."""


class RefBackend(Protocol):
    """The refs of one repository on disk."""

    @property
    def algo(self) -> HashAlgorithm:
        """The hash of the repository."""

    def load(self, previous: RefState | None = None) -> RefState:
        """Return the refs as they are now, reading what `previous` doesn't have. Raises CorruptRefs, OSError."""

    def is_current(self, state: RefState) -> bool:
        """Say whether `load` would return the same refs. Only stat calls; no while a stamp is unsettled."""

    def watched(self, state: RefState) -> list[WatchedFile] | None:
        """Return the files whose stamps say the same as `is_current`; None when these aren't all there is to it."""

    def is_packing_due(self, state: RefState) -> bool:
        """Say whether `pack` would have something to do."""

    def read_head(self) -> LooseRef | None:
        """Return what HEAD says now, None when there is none."""

    def read_raw(self, name: bytes) -> LooseRef | None:
        """Return what a ref says now, unresolved."""

    def follow(self, name: bytes) -> tuple[bytes, LooseRef | None] | None:
        """Return (ref at the end of the symref chain, what it says), now; None for a chain that leads away."""

    def begin(self, options: WriteOptions, reflogging: Reflogging, peel: Peel | None) -> Transaction:
        """Begin a transaction. Without `peel` nothing is said about tags."""

    def tidy(self, options: WriteOptions) -> None:
        """Do the little upkeep that a change leaves behind. Raises CorruptRefs, OSError."""

    def pack(self, peel: Peel, options: WriteOptions) -> int:
        """Move refs to where many of them are cheap; return how many files went. Raises LockFailed, OSError."""

    def set_symref(
        self,
        name: bytes,
        target: bytes,
        options: WriteOptions,
        *,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Make `name` (HEAD, or a ref) a symref to `target`, which needn't exist. Raises RefUpdateRefused.

        `before_commit` is called when all is staged; what it raises leaves the symref as it was.
        """

    def mark_of(self, state: RefState) -> RefMark | None:
        """Return what `changed_since` takes later; None when all refs have to be looked at then."""

    def changed_since(self, mark: RefMark) -> tuple[dict[bytes, LooseRef | None], RefMark] | None:
        """Return what the refs that can have changed since the mark say now, and the next mark.

        None for one that is to be looked up; DELETED for one that is gone. None in place of all that when any ref can
        have changed. Costs what changed, and what loose refs cost.
        """

    def durable_files(self, names: Iterable[bytes]) -> list[str]:
        """Return the paths that make these refs, their reflogs and HEAD durable; some may not exist."""


class FilesBackend(RefDatabase):
    """Loose refs and packed-refs."""

    def begin(self, options: WriteOptions, reflogging: Reflogging, peel: Peel | None) -> Transaction:
        """Begin a transaction."""
        return RefTransaction(
            self,
            committer=reflogging.committer,
            message=reflogging.message,
            clock=reflogging.clock,
            log_updates=reflogging.updates,
            sleep=options.sleep,
            fsync=options.fsync,
            modes=options.modes,
            peel=peel,
            lock_timeout_ms=options.lock_timeout_ms,
            packed_timeout_ms=options.packed_timeout_ms,
            packed_queue_ms=options.packed_queue_ms,
            owner=options.owner,
        )

    def tidy(self, options: WriteOptions) -> None:
        """Do nothing: a change leaves nothing behind."""

    def pack(self, peel: Peel, options: WriteOptions) -> int:
        """Move loose refs into packed-refs, as `pack_refs` does; return how many loose files went."""
        return pack_refs(self, peel, sleep=options.sleep, modes=options.modes, fsync=options.fsync, owner=options.owner)

    def set_symref(
        self,
        name: bytes,
        target: bytes,
        options: WriteOptions,
        *,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Make `name` a symref."""
        set_symref(
            self,
            name,
            target,
            sleep=options.sleep,
            modes=options.modes,
            fsync=options.fsync,
            timeout_ms=options.lock_timeout_ms,
            owner=options.owner,
            before_commit=before_commit,
        )

    def durable_files(self, names: Iterable[bytes]) -> list[str]:
        """Return packed-refs, HEAD, the refs and their reflogs."""
        files = [self.packed_path, self.path_of(b"HEAD"), self.log_path_of(b"HEAD")]
        for name in names:
            files += [self.path_of(name), self.log_path_of(name)]
        return files


class ReftableBackend(ReftableDatabase):
    """A stack of reftables."""

    def begin(self, options: WriteOptions, reflogging: Reflogging, peel: Peel | None) -> Transaction:
        """Begin a transaction."""
        return ReftableTransaction(
            self,
            committer=reflogging.committer,
            message=reflogging.message,
            clock=reflogging.clock,
            log_updates=reflogging.updates,
            sleep=options.sleep,
            fsync=options.fsync,
            modes=options.modes,
            peel=peel,
            options=options.reftable,
            owner=options.owner,
        )

    def tidy(self, options: WriteOptions) -> None:
        """Merge small tables when the sizes aren't geometric any more, as git does after each transaction."""
        for compactor in self._compactors(options):
            compactor.compact(bytes_max=TIDY_BYTES_MAX)

    def pack(self, peel: Peel, options: WriteOptions) -> int:
        """Make the sizes geometric, and remove what dead writers left; return how many tables went."""
        merged = sum(compactor.compact() for compactor in self._compactors(options))
        return merged + sum(remove_leftovers(stack, now=time.time()) for stack in self.stacks)

    def _compactors(self, options: WriteOptions) -> list[Compactor]:
        return [
            Compactor(
                stack,
                options.reftable,
                sleep=options.sleep,
                modes=options.modes,
                fsync=options.fsync,
                owner=options.owner,
            )
            for stack in self.stacks
        ]

    def set_symref(
        self,
        name: bytes,
        target: bytes,
        options: WriteOptions,
        *,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Make `name` a symref."""
        set_reftable_symref(
            self,
            name,
            target,
            sleep=options.sleep,
            modes=options.modes,
            fsync=options.fsync,
            options=options.reftable,
            owner=options.owner,
            before_commit=before_commit,
        )

    def durable_files(self, names: Iterable[bytes]) -> list[str]:
        """Return the lists and the tables: whatever the refs are, they are in there."""
        return [f"{stack.folder}/{name}" for stack in self.stacks for name in (TABLES_LIST, *stack.read_names())]


def open_ref_backend(
    storage: str,
    gitdir: str,
    commondir: str,
    algo: HashAlgorithm,
    *,
    stat: StatFunction = os.stat,
    clock_ns: ClockNs = time.time_ns,
    grain_ns: int = GRAIN_NS,
) -> RefBackend:
    """Return the backend of a repository. `storage` is FILES or REFTABLE.

    `gitdir` and `commondir` are the folders of refs: the repository's, and the common one (the same but for linked
    worktrees).
    """
    kind = ReftableBackend if storage == REFTABLE else FilesBackend
    return kind(gitdir, commondir, algo, stat=stat, clock_ns=clock_ns, grain_ns=grain_ns)
