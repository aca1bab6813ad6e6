"""Where a repository's refs lie on disk, and how a `RefTable` is loaded and kept valid.

Loose refs are read before packed-refs, always: `git pack-refs` writes the packed file before it removes the
loose ones, so in that order a ref can be seen twice but never not at all. Shared refs lie in the common
directory; HEAD and refs/bisect, refs/worktree, refs/rewritten of a linked worktree lie in its own
directory.

A `RefState` is immutable. Loading again with the previous state at hand reads what changed, and returns the
very same table when nothing that matters did, so that a caller can compare tables by identity.

Source: gitrepository-layout, git-worktree "REFS".
"""

import os
import time
from dataclasses import dataclass

from govc.protocol.oid import HashAlgorithm
from govc.protocol.refname import check_refname_format
from govc.refs.backend_state import PEELED_KEPT_MAX, PER_WORKTREE, RefMark, RefState, is_per_worktree
from govc.refs.loose import (
    LOOSE_BYTES_MAX,
    LooseRef,
    LooseScan,
    parse_loose_ref,
    read_loose_ref,
    read_symref_link,
    scan_loose,
)
from govc.refs.packed import PACKED_REFS_BYTES_MAX, PackedRefs
from govc.refs.table import SYMREF_DEPTH_MAX, RefTable
from govc.watch import (
    GRAIN_NS,
    ClockNs,
    HeldInode,
    StatFunction,
    StatSignature,
    WatchedFile,
    read_watched,
    signature_of,
)

LOOSE_REFS_MAX = 1000
"""From so many loose refs on, packing them is worth while."""

MARKED_LOOSE_MAX = 10_000
"""With more loose refs than this there is no mark: their names would be most of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _PackedState:
    """packed-refs as read: its bytes (shared with `refs`), and what proves that it is still so."""

    refs: PackedRefs
    content: bytes
    watch: WatchedFile
    held: HeldInode


@dataclass(frozen=True, slots=True, eq=False)
class FilesState(RefState):
    """The refs at one moment, with what is needed to tell whether they still are the refs."""

    loose: LooseScan
    head: LooseRef | None
    head_watch: WatchedFile
    packed: _PackedState


class RefDatabase:
    """The refs of one repository on disk (the "files" backend). Keeps the last packed-refs it has parsed."""

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
        self.stat = stat
        self.clock_ns = clock_ns
        self.grain_ns = grain_ns
        self.packed_path = f"{commondir}/packed-refs"
        self._packed: _PackedState | None = None
        own = PER_WORKTREE if gitdir != commondir else ()
        self._excluded = frozenset(own)
        self._roots = (
            (f"{commondir}/refs", b"refs/"),
            *((f"{gitdir}/{os.fsdecode(prefix[:-1])}", prefix) for prefix in own),
        )

    # Where things are

    def path_of(self, name: bytes) -> str:
        """Return the disk path of a loose ref or HEAD. ValueError for a name that could lead elsewhere."""
        self._check_name(name)
        return f"{self._base_of(name)}/{os.fsdecode(name)}"

    def log_path_of(self, name: bytes) -> str:
        """Return the disk path of a ref's reflog; ValueError as `path_of`."""
        self._check_name(name)
        return f"{self._base_of(name)}/logs/{os.fsdecode(name)}"

    def has_reflogs(self) -> bool:
        """Say whether some ref may have a reflog."""
        return any(os.path.isdir(f"{base}/logs") for base in {self.gitdir, self.commondir})

    def kept_folder_of(self, name: bytes, *, logs: bool = False) -> str:
        """Return the folder that stays when empty ones are pruned: refs/heads, refs/tags and their like."""
        parts = os.fsdecode(name).split("/")[:-1][:2]
        return "/".join((self._base_of(name), *(("logs",) if logs else ()), *parts))

    def _check_name(self, name: bytes) -> None:
        if name != b"HEAD" and not (name.startswith(b"refs/") and check_refname_format(name)):
            raise ValueError(f"not a refname: {name!r}")

    def _base_of(self, name: bytes) -> str:
        return self.commondir if self.is_shared(name) else self.gitdir

    def is_shared(self, name: bytes) -> bool:
        """Say whether a ref belongs to all worktrees; only such refs are packed."""
        return not is_per_worktree(name)

    # Reading

    def load(self, previous: RefState | None = None) -> FilesState:
        """Return the refs as they are now. Raises CorruptRefs, or OSError when packed-refs can't be read.

        HEAD first, then loose refs, then packed-refs: a branch that HEAD names is found if it was there.
        """
        old = previous if isinstance(previous, FilesState) else None
        if old is not None and old.head_watch.is_current(self.stat):
            head, head_watch = old.head, old.head_watch
        else:
            head, head_watch = self._read_head()
        loose = scan_loose(
            self._roots,
            self.algo,
            previous=old.loose if old is not None else None,
            excluded=self._excluded,
            stat=self.stat,
            clock_ns=self.clock_ns,
            grain_ns=self.grain_ns,
        )
        packed = self._load_packed(old.packed if old is not None else None)
        table = self._table(old, head, loose, packed)
        return FilesState(table, loose, head, head_watch, packed)

    def is_current(self, state: RefState) -> bool:
        """Say whether `load` would return the same refs. Only stat calls; no while a stamp is unsettled."""
        return (
            isinstance(state, FilesState)
            and state.head_watch.is_current(self.stat)
            and state.loose.is_current(self.stat, self.clock_ns, self.grain_ns)
            and state.packed.watch.is_current(self.stat)
        )

    def is_packing_due(self, state: RefState) -> bool:
        """Say whether there are so many loose refs that they should be packed."""
        return isinstance(state, FilesState) and len(state.loose.refs) > LOOSE_REFS_MAX

    def watched(self, state: RefState) -> list[WatchedFile] | None:
        """Return the files that `is_current` asks; None when stat can't tell of all of them."""
        if not isinstance(state, FilesState):
            return None
        loose = state.loose.watched()
        return None if loose is None else [state.head_watch, *loose, state.packed.watch]

    def mark_of(self, state: RefState) -> RefMark | None:
        """Return what shows later that packed-refs is still what it is in `state`; None when nothing does."""
        if not isinstance(state, FilesState) or not state.packed.watch.is_settled:
            return None
        if len(state.loose.refs) > MARKED_LOOSE_MAX:
            return None
        return RefMark(_encode_signature(state.packed.watch.signature), tuple(sorted(state.loose.refs)))

    def changed_since(self, mark: RefMark) -> tuple[dict[bytes, LooseRef | None], RefMark] | None:
        """Return what the loose refs of now say, None for those that were loose at the mark; and the next mark.

        None when packed-refs isn't the one of the mark any more. It isn't read. Loose refs first: one that is being
        packed in between is met as a packed-refs that has changed.
        """
        loose = scan_loose(
            self._roots,
            self.algo,
            excluded=self._excluded,
            stat=self.stat,
            clock_ns=self.clock_ns,
            grain_ns=self.grain_ns,
        ).refs
        now = _encode_signature(signature_of(self.packed_path, self.stat))
        if now != mark.base or len(loose) > MARKED_LOOSE_MAX:
            return None
        return dict.fromkeys(mark.loose) | loose, RefMark(mark.base, tuple(sorted(loose)))

    def _table(
        self, previous: FilesState | None, head: LooseRef | None, loose: LooseScan, packed: _PackedState
    ) -> RefTable:
        if previous is not None:
            is_same = (
                previous.packed.refs is packed.refs
                and previous.head == head
                and previous.loose.warnings == loose.warnings
                and previous.loose.refs == loose.refs
            )
            if is_same:
                return previous.table
        peeled = previous.table.peeled_so_far if previous is not None else None
        if peeled is not None and len(peeled) > PEELED_KEPT_MAX:
            peeled = None
        return RefTable(packed.refs, loose.refs, head, self.algo, warnings=loose.warnings, peeled=peeled)

    def _read_head(self) -> tuple[LooseRef | None, WatchedFile]:
        path = f"{self.gitdir}/HEAD"
        target = read_symref_link(path)
        if target is not None:
            return LooseRef(None, target), WatchedFile(path=path, signature=None, is_settled=False)
        content, watch = self._read(path, LOOSE_BYTES_MAX)
        return (None if content is None else parse_loose_ref(content, self.algo)), watch

    def _read(self, path: str, bytes_max: int) -> tuple[bytes | None, WatchedFile]:
        return read_watched(path, bytes_max=bytes_max, stat=self.stat, clock_ns=self.clock_ns, grain_ns=self.grain_ns)

    def _load_packed(self, known: _PackedState | None) -> _PackedState:
        """Return packed-refs as it is now; parsed again only when its bytes differ."""
        known = self._packed or known
        if known is not None and known.watch.is_current(self.stat):
            return known
        held = HeldInode(self.packed_path)
        read, watch = self._read(self.packed_path, PACKED_REFS_BYTES_MAX)
        content = read or b""
        refs = known.refs if known is not None and known.content == content else PackedRefs(content, self.algo)
        self._packed = _PackedState(refs, known.content if known and refs is known.refs else content, watch, held)
        return self._packed

    def read_head(self) -> LooseRef | None:
        """Return what HEAD says now, None when there is none."""
        return self._read_head()[0]

    def read_packed(self) -> PackedRefs:
        """Return packed-refs as it is now (one stat when it is unchanged)."""
        return self._load_packed(None).refs

    def read_loose(self, name: bytes) -> LooseRef | None:
        """Return what the loose file of a ref says now, None when there is none."""
        return read_loose_ref(self.path_of(name), self.algo)

    def read_raw(self, name: bytes) -> LooseRef | None:
        """Return what a ref's loose file, else its packed line, says now. Under its lock it stays so."""
        found = self.read_loose(name)
        if found is not None:
            return found
        oid = self.read_packed().get(name)
        return None if oid is None else LooseRef(oid, None)

    def follow(self, name: bytes) -> tuple[bytes, LooseRef | None] | None:
        """Return (ref at the end of the symref chain, what it says), as they are now.

        None when the chain is deeper than SYMREF_DEPTH_MAX or leaves refs/.
        """
        for _ in range(SYMREF_DEPTH_MAX):
            try:
                found = self.read_raw(name)
            except ValueError:
                return None
            if found is None or found.target is None:
                return name, found
            name = found.target
        return None


def _encode_signature(signature: StatSignature | None) -> bytes:
    """Return it as bytes, for a file that outlives this process."""
    return b"absent" if signature is None else " ".join(map(str, signature)).encode("ascii")
