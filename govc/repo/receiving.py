"""From a received pack in quarantine to "it is whole": indexing and the connectivity check.

`receive_pack_file` is one function wherever it runs: inline for the small push that is most of the traffic (under
tight limits, with pauses), in a helper process for the rest. It reads the repository as git's own hooks would: the
quarantine folder is the object directory, the repository its alternate.

Source: git's builtin/receive-pack.c (unpack, set_connectivity_errors), connected.c; storage rule 29.
"""

import os
import posix  # see govc.watch
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from govc.errors import Corrupt, LimitExceeded, ObjectMissing
from govc.graph.commits import CommitTable
from govc.graph.connectivity import Problem, check_connectivity, check_links
from govc.graph.interface import Work
from govc.graph.marks import NumberMarks
from govc.graph.small_push import OBJECTS_MAX, is_plainly_whole
from govc.graph.trees import TREE_DEPTH_MAX
from govc.objects.fsck import PushFsck
from govc.objects.fsck_messages import FsckPolicy
from govc.odb.explode import explode_pack
from govc.odb.lone_pack import open_lone_pack, temporary_names
from govc.odb.packs import PackFile
from govc.odb.quarantine import end_pack_file
from govc.odb.store import ObjectStore
from govc.pack.compiled import Call, call_here
from govc.pack.indexer import PHASE_RESOLVING, IndexedPack, index_pack
from govc.pack.limits import IndexLimits
from govc.phases import CONNECTIVITY, INDEX, Timed
from govc.protocol.oid import find_algorithm
from govc.repo.fsck_push import push_fsck_policy
from govc.repo.helper import Emit, Progress
from govc.repo.object_options import read_big_file_bytes, read_index_version, read_loose_level, read_tree_depth_max
from govc.repo.snapshot import Snapshot, make_history

PROGRESS_SECONDS = 0.2
FSCK_BLOB_BYTES_MAX = 100 << 20
"""A .gitmodules or .gitattributes beyond this is an error of its own, as in git."""

INLINE_LIMITS = IndexLimits(
    object_bytes_max=16 << 20,
    delta_result_bytes_max=4 << 20,
    expansion_bytes_base=32 << 20,
    expansion_ratio_max=0,
)
"""What the hub's own process takes on; a pack that passes them is started again in a helper."""

POOL_LIMITS = IndexLimits(
    object_bytes_max=256 << 20,
    delta_result_bytes_max=32 << 20,
    expansion_bytes_base=512 << 20,
    expansion_ratio_max=0,
)
"""The same where the kernel's calls are made in a pool of threads."""

POOL_OBJECTS_MAX = 1000
"""Of more objects the check of what they need, which is Python, would be felt by others: a helper does all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveTask:
    """A pack that lies complete in quarantine, and what it has to be whole for. Picklable.

    `new_tips`: the new values of the push's commands. `ref_tips`: values of existing refs, alternates' included.
    `shallow`: the repository's boundary. `client_shallow`: the pusher's own, as far as it isn't ours. `unpacks`: the
    objects shall be kept one by one (receive.unpackLimit), compressed at `loose_level`. `is_lone`: the pack has no
    folder to itself (`odb.lone_pack`). `special_bytes_max`: a .gitmodules or .gitattributes in the pack beyond this is
    an error (with the check on).
    """

    quarantine_dir: str
    pack_path: str
    objects_dir: str
    algo_name: str
    new_tips: tuple[bytes, ...]
    ref_tips: Set[bytes]
    shallow: frozenset[bytes] = frozenset()
    client_shallow: frozenset[bytes] = frozenset()
    grafts: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    is_partial: bool = False
    limits: IndexLimits = field(default_factory=IndexLimits)
    fsck: FsckPolicy | None = None
    detects: bool = True
    threads: int = 1
    progress: bool = True
    fsync: bool = True
    write_reverse: bool = True
    index_version: int = 2
    unpacks: bool = False
    is_lone: bool = False
    loose_level: int = 1
    special_bytes_max: int = FSCK_BLOB_BYTES_MAX
    tree_depth_max: int = TREE_DEPTH_MAX

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        *,
        quarantine_dir: str,
        pack_path: str,
        new_tips: tuple[bytes, ...],
        ref_tips: Set[bytes],
        client_shallow: frozenset[bytes],
        limits: IndexLimits,
        detects: bool,
        threads: int,
        progress: bool,
        unpacks: bool,
        is_lone: bool,
        git_unpacks: bool,
    ) -> "ReceiveTask":
        """Take what the snapshot knows. `git_unpacks`: git would keep the objects one by one, whatever we do."""
        special_bytes_max, remembered = FSCK_BLOB_BYTES_MAX, snapshot.config.remembered
        if not git_unpacks:  # else it holds them as a whole
            special_bytes_max = min(special_bytes_max, remembered(read_big_file_bytes))
        return cls(
            quarantine_dir=quarantine_dir,
            pack_path=pack_path,
            objects_dir=snapshot.layout.objects_dir,
            algo_name=snapshot.algo.name,
            new_tips=new_tips,
            ref_tips=ref_tips,
            shallow=snapshot.shallow,
            client_shallow=client_shallow,
            grafts=dict(snapshot.grafts),
            is_partial=snapshot.is_partial,
            limits=limits,
            fsck=push_fsck_policy(snapshot.config, snapshot.algo, snapshot.layout.gitdir),
            detects=detects,
            threads=threads,
            progress=progress,
            # As git: of what it would keep one by one there is none, and of so few objects nobody needs one.
            write_reverse=not git_unpacks and snapshot.config.get_bool("pack.writereverseindex", True),
            index_version=remembered(read_index_version),
            unpacks=unpacks,
            is_lone=is_lone,
            loose_level=remembered(read_loose_level),
            special_bytes_max=special_bytes_max,
            tree_depth_max=remembered(read_tree_depth_max),
        )


Look = Callable[[], tuple[ReceiveTask, ObjectStore]]
"""Returns the task, and an open store, by what the repository is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveResult:
    """What came of it: the objects in the pack, and the tips that are not whole with the first reason for each.

    `shallow_tips` are whole only if history may end where the pusher's does; `new_shallow` are the commits where it
    then would (to be recorded when receive.shallowUpdate allows it). `missing_tips` are not there at all.
    `is_unpacked`: the objects lie in the quarantine one by one. `pack_checksum` names the pack, b"" when it is empty.
    `store`: the one they were looked at by, with the repository's own numbers; None from another process. `pack` is the
    received one, open, as far as it lies alone.
    """

    object_count: int
    is_unpacked: bool = False
    pack_checksum: bytes = b""
    broken_tips: Mapping[bytes, Problem]
    shallow_tips: frozenset[bytes]
    new_shallow: frozenset[bytes]
    missing_tips: frozenset[bytes]
    store: ObjectStore | None = field(default=None, repr=False, compare=False)
    pack: PackFile | None = field(default=None, repr=False, compare=False)


class FsckRefused(Corrupt):
    """receive.fsckObjects found an error; what exactly was emitted line by line before."""


def receive_job(task: ReceiveTask, emit: Emit) -> ReceiveResult:
    """The helper's "receive" job."""
    return receive_pack_file(task, emit, lambda: None)


def receive_pack_file(
    task: ReceiveTask,
    emit: Emit,
    pause: Callable[[], None],
    *,
    reuse: ObjectStore | None = None,
    call: Call = call_here,
    look: Look | None = None,
) -> ReceiveResult:
    """Index the pack, put its index beside it, and check connectivity.

    `pause` is called every few milliseconds. `reuse`: an open store of the repository. `call` makes the calls of the
    indexing kernel. `look` looks at the repository, of which the task and `reuse` may tell what was; only what is plain
    by these is not looked at again. Raises Corrupt, LimitExceeded, and what `look` does.
    """
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    base = reuse or ObjectStore.open(task.objects_dir, algo)
    fsck = PushFsck(task.fsck, algo) if task.fsck is not None else None
    with Timed(INDEX):
        indexed, stem = _index_file(task, base, reuse is None, emit, pause, fsck, call)
        pack: PackFile | None = None
        if task.is_lone and stem is not None:
            pack = open_lone_pack(task.pack_path, indexed.pack_checksum, algo)
        store = _with_what_came(base, task, pack)
        if fsck is not None:
            _finish_fsck(fsck, store, task, emit)
    is_unpacked = stem is not None and task.unpacks
    is_kept_here = reuse is not None and not is_unpacked
    with Timed(CONNECTIVITY):
        is_plain = _is_plain(indexed, store, task)
        if not is_plain and look is not None:
            task, base = look()
            store = _with_what_came(base, task, pack)
            is_plain = _is_plain(indexed, store, task)
        checked = _WHOLE if is_plain else _check(store, task, pause)
    if stem is not None and is_unpacked:
        explode_pack(stem, task.quarantine_dir, store, base, level=task.loose_level)
    return ReceiveResult(
        object_count=indexed.object_count_received,
        is_unpacked=is_unpacked,
        pack_checksum=indexed.pack_checksum if stem is not None and not is_unpacked else b"",
        broken_tips=checked.broken_tips,
        shallow_tips=checked.shallow_tips,
        new_shallow=checked.new_shallow,
        missing_tips=checked.missing_tips,
        store=store if is_kept_here else None,
        pack=pack if is_kept_here else None,
    )


def _with_what_came(base: ObjectStore, task: ReceiveTask, pack: PackFile | None) -> ObjectStore:
    return base.overlaid_by(pack) if task.is_lone else base.overlaid(task.quarantine_dir)


def _index_file(
    task: ReceiveTask,
    base: ObjectStore,
    is_helper: bool,
    emit: Emit,
    pause: Callable[[], None],
    fsck: PushFsck | None,
    call: Call,
) -> tuple[IndexedPack, str | None]:
    """Index the pack and give it and its index their names, which are temporary ones where it lies alone.

    Returns what came, and the path of the named pack without its suffix, None for an empty one.
    """
    descriptor = os.open(task.pack_path, os.O_RDWR | os.O_CLOEXEC)
    try:
        indexed = _index(descriptor, base, task, emit, pause, fsck, call)
        if not task.is_lone:
            end_pack_file(descriptor)
        if task.fsync and is_helper:
            os.fsync(descriptor)  # here, where nobody waits for it, rather than when the files move
    finally:
        posix.close(descriptor)
    has_pack = indexed.count > 0
    stem = f"{os.path.dirname(task.pack_path)}/pack-{indexed.pack_checksum.hex()}"
    if has_pack:  # a push of nothing but names brings an empty pack, which isn't worth keeping
        names = temporary_names(task.pack_path) if task.is_lone else {s: stem + s for s in (".pack", ".rev", ".idx")}
        if not task.is_lone:
            os.rename(task.pack_path, names[".pack"])
        if task.write_reverse:
            indexed.write_reverse_index(names[".rev"])
        indexed.write_index(names[".idx"], task.index_version)
        return indexed, stem
    return indexed, None


def _finish_fsck(fsck: PushFsck, store: ObjectStore, task: ReceiveTask, emit: Emit) -> None:
    """Check the special blobs, say what was found, and raise FsckRefused when it is too bad."""

    def read(oid: bytes) -> tuple[int, bytes | None] | None:
        number = store.find(oid)
        if number < 0:
            return None
        if store.size_of(number) > (task.special_bytes_max if store.is_overlaid(number) else FSCK_BLOB_BYTES_MAX):
            return store.type_of(number), None
        return store.read(number)

    fsck.finish(read, missing_ok=task.is_partial)
    for line in fsck.iter_lines():
        if not line.startswith("fatal: "):
            emit(Progress(f"{line}\n"))
    if fsck.refusal is not None:
        raise FsckRefused(fsck.refusal)


def _index(
    descriptor: int,
    base: ObjectStore,
    task: ReceiveTask,
    emit: Emit,
    pause: Callable[[], None],
    fsck: PushFsck | None,
    call: Call,
) -> IndexedPack:
    said = monotonic()

    def read_base(oid: bytes) -> tuple[int, bytes] | None:
        number = base.find(oid)
        return base.read(number) if number >= 0 else None

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal said
        is_last = done == total
        if task.progress and phase == PHASE_RESOLVING and total and (is_last or monotonic() - said > PROGRESS_SECONDS):
            said = monotonic()
            end = ", done.\n" if is_last else "\r"
            emit(Progress(f"{phase}: {100 * done // total:3d}% ({done}/{total}){end}"))
        pause()

    return index_pack(
        descriptor,
        base.algo,
        base_reader=read_base,
        limits=task.limits,
        progress=tell,
        known=lambda oid: base.find(oid, rescan=False) >= 0,
        known_among=base.find_among,
        existing_reader=read_base,
        visit=fsck.visit if fsck is not None else None,
        detects=task.detects,
        threads=task.threads,
        call=call,
    )


class _Checked(NamedTuple):
    """What `ReceiveResult` says of the tips."""

    broken_tips: Mapping[bytes, Problem]
    shallow_tips: frozenset[bytes]
    new_shallow: frozenset[bytes]
    missing_tips: frozenset[bytes]


_WHOLE = _Checked({}, frozenset(), frozenset(), frozenset())


def _is_plain(indexed: IndexedPack, store: ObjectStore, task: ReceiveTask) -> bool:
    """Tell whether the push is one that is seen to be whole with a few reads. What came lies on top of the store."""
    objects_max = min(OBJECTS_MAX, task.tree_depth_max)  # so few can't be nested too deeply
    if store.top is None or indexed.count > objects_max or task.fsck is not None or task.is_partial:
        return False
    if task.shallow or task.client_shallow or task.grafts:
        return False
    oids = [indexed.oid_at(position) for position in range(indexed.count)]
    numbers = dict(zip(oids, store.top, strict=False))  # none, of an empty pack

    def read(oid: bytes) -> tuple[int, bytes]:
        number = numbers.get(oid, -1)
        if number < 0 and (number := store.find(oid, rescan=False)) < 0:
            raise ObjectMissing(oid)
        return store.read(number)

    came = dict(zip(oids, indexed.types, strict=True))
    return is_plainly_whole(task.new_tips, came, read, ref_tips=task.ref_tips, algo=store.algo)


def _check(store: ObjectStore, task: ReceiveTask, pause: Callable[[], None]) -> _Checked:
    commits = CommitTable(store)
    met = NumberMarks() if task.fsck is not None else None

    def drive(work: Work[list[Problem]]) -> list[Problem]:
        while True:
            try:
                next(work)
            except StopIteration as stop:
                problems: list[Problem] = stop.value
                return problems
            pause()

    def find_problems(
        tips: tuple[bytes, ...], shallow: frozenset[bytes], marks: NumberMarks | None = None
    ) -> list[Problem]:
        history = make_history(commits, shallow, task.grafts, is_partial=task.is_partial)
        try:
            return drive(
                check_connectivity(
                    history,
                    tips,
                    ref_tips=task.ref_tips,
                    is_new=store.is_overlaid,
                    tree_depth_max=task.tree_depth_max,
                    marks=marks,
                )
            )
        except LimitExceeded as error:
            if error.limit_name != "core.maxTreeDepth":
                raise
            return [Problem(tips[0], "object", b"", "exceeds the maximum allowed tree depth")]

    broken: dict[bytes, Problem] = {}
    shallow_tips: set[bytes] = set()
    if find_problems(task.new_tips, task.shallow, met):
        # Some tip isn't whole: tell which, one by one, as git does.
        for tip in task.new_tips:
            problems = find_problems((tip,), task.shallow)
            if problems and task.client_shallow and not find_problems((tip,), task.shallow | task.client_shallow):
                shallow_tips.add(tip)
            elif problems:
                broken[tip] = problems[0]
    elif met is not None:
        history = make_history(commits, task.shallow | task.client_shallow, task.grafts, is_partial=task.is_partial)
        for problem in drive(check_links(history, _received_numbers(store), met)):
            raise FsckRefused(f"did not receive expected object {problem.oid.hex()}")
    new_shallow = frozenset(oid for oid in task.client_shallow if shallow_tips and store.find(oid) >= 0)
    missing = frozenset(tip for tip in task.new_tips if store.find(tip) < 0)
    return _Checked(broken, frozenset(shallow_tips), new_shallow, missing)


def _received_numbers(store: ObjectStore) -> Iterator[int]:
    """Yield the objects of the packs in quarantine."""
    for pack in store.packs:
        if pack.count and store.is_overlaid(pack.first_number):
            yield from range(pack.first_number, pack.first_number + pack.count)
