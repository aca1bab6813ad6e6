"""The index on disk: filled, extended, damaged, merged, beside plain git; answers against rev-list."""

import fcntl
import os
import random
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from govc.graph.introduce import introduce
from govc.kernels.packread import AVAILABLE
from govc.objects.types import BLOB, COMMIT, REF_DELTA, TREE
from govc.odb.cache import BaseCache
from govc.odb.forward import BadForward, Entry, ForwardDeltas, iter_encoded, parse_forward
from govc.odb.store import ObjectStore
from govc.pack.delta import apply_delta, make_delta
from govc.pack.entry import encode_entry_header
from govc.protocol.oid import SHA1
from govc.repo import introducing, near_deltas
from govc.repo.index_keeper import IndexKeeper
from govc.repo.introducing import IntroduceTask, fill_introductions, is_due
from govc.repo.introductions import INLINE_COMMITS_MAX, SEGMENT_FILES_MAX, Introductions
from govc.repo.pack_plan import PackPlan
from govc.repo.packing import PackProducer, ProducerLimits
from govc.repo.repository import Repository, Surroundings
from govc.repo.runtime import PLAIN
from tests.kernels.both import needs_compiled

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(path: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    environ = {**os.environ, **IDENTITY}
    command = ["git", "-C", str(path), *arguments]
    return subprocess.run(command, input=stdin, env=environ, check=True, capture_output=True).stdout


def fast_import(path: Path, commits: int, *, seed: int, branch: str = "main", start: str = "") -> None:
    """Add commits with renames, reverts, merges of a kind and changes in a few files."""
    rng = random.Random(seed)
    lines: list[bytes] = []
    for n in range(commits):
        when = 1_600_000_000 + seed * 10_000 + n
        lines.append(f"commit refs/heads/{branch}\ncommitter A <a@b> {when} +0000\ndata 1\nx\n".encode())
        if n == 0 and start:
            lines.append(f"from {start}\n".encode())
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(["a", "b", "dir/a", "dir/b", "dir/sub/c", "large"])
            text = b"".join(b"line %d %d\n" % (i, i * i) for i in range(300)) if name == "large" else b""
            text += b"%d\n" % rng.randint(0, 12 if name != "large" else 10**6)
            lines.append(f"M 100644 inline {name}\ndata {len(text)}\n".encode() + text)
        if rng.random() < 0.2:
            lines.append(b"D dir/sub\n")
    git(path, "fast-import", "--quiet", "--force", stdin=b"\n".join([b"".join(lines), b"done\n"]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(where))
    git(where, "config", "gc.auto", "0")
    fast_import(where, 40, seed=1)
    git(where, "repack", "-adq")
    return where


def open_repository(path: Path) -> Repository:
    around = Surroundings(environ={}, base_cache=BaseCache(), object_bytes_max=1 << 30)
    return Repository(str(path), around)


def fill(repository: Repository) -> Introductions:
    snapshot = repository.snapshot()
    fill_introductions(IntroduceTask.of(snapshot))
    index = snapshot.introductions
    assert index is not None
    index.refresh()
    return index


def files(path: Path, suffix: str = ".segment") -> list[Path]:
    return sorted((path / "govc/introductions").glob(f"*{suffix}"))


def pack_of(repository: Repository, plan: PackPlan, wanted: list[str] | None = None) -> bytes:
    def want(snapshot: object) -> None:
        if wanted is not None:
            wanted.append("wanted")

    producer = PackProducer(PLAIN, None, ProducerLimits(), want)
    items = producer.produce(repository.snapshot(), plan, 5.0)
    return b"".join(item for item in items if isinstance(item, bytes))


def names_in(pack: bytes, tmp_path: Path, base: Path | None = None) -> set[str]:
    """The objects that a pack brings; index-pack completes a thin one from `base`."""
    target = tmp_path / f"check{random.random()}"
    git(tmp_path, "init", "-q", "--bare", str(target))
    if base is not None:
        (target / "objects/info/alternates").write_text(f"{base}/objects\n")
    git(target, "index-pack", "--stdin", "--fix-thin", stdin=pack)
    (target / "objects/info/alternates").unlink(missing_ok=True)
    listed = git(target, "cat-file", "--batch-check=%(objectname)", "--batch-all-objects").decode().split()
    return set(listed)


def rev_list(path: Path, *arguments: str) -> set[str]:
    return {line.split()[0] for line in git(path, "rev-list", "--objects", *arguments).decode().splitlines()}


def oid(path: Path, name: str) -> bytes:
    return bytes.fromhex(git(path, "rev-parse", name).decode().strip())


@pytest.mark.parametrize("have", ["", "main~1", "main~7", "main~25", "side~3"])
def test_answers_are_what_rev_list_says(path: Path, tmp_path: Path, have: str) -> None:
    fast_import(path, 12, seed=2, branch="side", start="refs/heads/main~20^0")
    git(path, "tag", "-a", "-m", "t", "v1", "main~2")
    git(path, "repack", "-adq")
    repository = open_repository(path)
    fill(repository)
    haves = (oid(path, have),) if have else ()
    plan = PackPlan(wants=(oid(path, "main"), oid(path, "v1")), haves=haves, thin=True, ofs_delta=True, progress=False)
    pack = pack_of(repository, plan)
    expected = rev_list(path, "main", "v1") - (rev_list(path, have) if have else set())
    count = int.from_bytes(pack[8:12], "big")
    # Without the kernels trees are walked, which may send a little that the client has, as git's own does.
    assert len(expected) == count if AVAILABLE else len(expected) <= count
    assert expected <= names_in(pack, tmp_path, path)


@needs_compiled
@pytest.mark.parametrize("bytes_max", [0, 1 << 20])
def test_only_a_large_index_is_read_in_a_thread(path: Path, monkeypatch: pytest.MonkeyPatch, bytes_max: int) -> None:
    monkeypatch.setattr("govc.repo.swept_packing.SMALL_INDEX_BYTES", bytes_max)
    fill(open_repository(path))
    in_threads = []

    def call_blocking(function: Any, *arguments: Any) -> Any:
        in_threads.append(function)
        return function(*arguments)

    snapshot = open_repository(path).snapshot()
    producer = PackProducer(replace(PLAIN, call_blocking=call_blocking), None, ProducerLimits())
    assert list(producer.produce(snapshot, PackPlan(wants=(oid(path, "main"),), ofs_delta=True), 1.0))
    assert snapshot.introductions is not None
    assert (snapshot.introductions.refresh in in_threads) == (not bytes_max)


def test_a_fetch_writes_nothing_and_says_that_the_index_is_wanted(path: Path, tmp_path: Path) -> None:
    wanted: list[str] = []
    plan = PackPlan(wants=(oid(path, "main"),), ofs_delta=True, progress=False)
    pack = pack_of(open_repository(path), plan, wanted)
    assert rev_list(path, "main") == names_in(pack, tmp_path)
    assert not (path / "govc").exists()
    assert (["wanted"] if AVAILABLE else []) == wanted


@needs_compiled
def test_what_plain_git_adds_is_known_at_once(path: Path, tmp_path: Path) -> None:
    repository = open_repository(path)
    index = fill(repository)
    before = files(path)
    old = oid(path, "main")
    fast_import(path, 3, seed=5, start="refs/heads/main^0")  # its pack has no file of ours
    tree = git(path, "rev-parse", "main^{tree}").decode().strip()
    loose = git(path, "commit-tree", "-p", "main", "-m", "loose", tree).decode().strip()
    git(path, "update-ref", "refs/heads/main", loose)
    wanted: list[str] = []
    plan = PackPlan(wants=(bytes.fromhex(loose),), haves=(old,), thin=True, ofs_delta=True, progress=False)
    pack = pack_of(repository, plan, wanted)
    assert rev_list(path, "main") - rev_list(path, old.hex()) <= names_in(pack, tmp_path, path)
    assert index.view.knows(bytes.fromhex(loose))
    assert not wanted
    assert before == files(path)


def test_a_push_adds_a_file_of_its_own_size(path: Path) -> None:
    repository = open_repository(path)
    index = fill(repository)
    size = files(path)[0].stat().st_size
    fast_import(path, 2, seed=7, start="refs/heads/main^0")
    keeper = IndexKeeper(PLAIN, None)
    keeper.note_push(repository, [oid(path, "main")])
    first, second = files(path)
    assert (size, True) == (first.stat().st_size, second.stat().st_size < size / 4)
    assert index.view.knows(oid(path, "main"))
    # Another worker sees it.
    other = open_repository(path).snapshot().introductions
    assert other is not None
    assert not other.is_current()
    other.refresh()
    assert other.view.knows(oid(path, "main"))


def test_a_file_stands_on_files_only(path: Path) -> None:
    """What one worker knows in memory another one can't build upon."""
    repository = open_repository(path)
    index = fill(repository)
    fast_import(path, 2, seed=8, start="refs/heads/main^0")
    snapshot = repository.snapshot()
    assert index.cover(snapshot.store, [oid(path, "main")])
    fast_import(path, 2, seed=9, start="refs/heads/main^0")
    snapshot = repository.snapshot()
    assert index.extend(snapshot.store, [oid(path, "main")])
    other = Introductions(str(path), SHA1)
    other.refresh()
    assert other.view.knows(oid(path, "main"))
    assert other.view.knows(oid(path, "main~3"))


def test_what_is_known_in_memory_stays_when_files_are_merged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone is as it was mapped: nothing of it, or upon it, has to be forgotten."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    repository = open_repository(path)
    index = fill(repository)
    fast_import(path, 2, seed=8, start="refs/heads/main^0")
    assert index.cover(repository.snapshot().store, [oid(path, "main")])
    (file,) = path.glob("govc/introductions/*.segment")
    file.with_name(f"z{file.name}").write_bytes(file.read_bytes())
    file.unlink()
    assert not index.is_current()
    index.refresh()
    assert index.is_current()
    assert index.view.knows(oid(path, "main"))


def test_too_much_for_a_push_is_left_to_the_helper(path: Path) -> None:
    repository = open_repository(path)
    index = fill(repository)
    fast_import(path, INLINE_COMMITS_MAX + 5, seed=3, start="refs/heads/main^0")
    assert not index.extend(repository.snapshot().store, [oid(path, "main")])
    assert 1 == len(files(path))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "version"])
def test_a_damaged_file_is_passed_over_and_made_again(path: Path, tmp_path: Path, damage: str) -> None:
    repository = open_repository(path)
    fill(repository)
    file = files(path)[0]
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 4
    elif damage == "empty":
        data.clear()
    else:
        data[4] = 9
    file.unlink()
    file.write_bytes(bytes(data))
    repository = open_repository(path)
    plan = PackPlan(wants=(oid(path, "main"),), ofs_delta=True, progress=False)
    assert rev_list(path, "main") == names_in(pack_of(repository, plan), tmp_path)
    index = fill(repository)
    assert index.view.knows(oid(path, "main"))
    assert not file.exists() or file.read_bytes() != bytes(data)


def test_the_index_outlives_git_gc(path: Path, tmp_path: Path) -> None:
    repository = open_repository(path)
    fill(repository)
    fast_import(path, 3, seed=11, start="refs/heads/main^0")
    before = files(path)
    git(path, "gc", "-q", "--prune=now")
    assert before == files(path)
    git(path, "fsck", "--strict")
    repository = open_repository(path)
    index = fill(repository)
    assert before[0] in files(path) or len(files(path)) == 1
    plan = PackPlan(wants=(oid(path, "main"),), haves=(oid(path, "main~2"),), thin=True, ofs_delta=True, progress=False)
    expected = rev_list(path, "main") - rev_list(path, "main~2")
    assert expected <= names_in(pack_of(repository, plan), tmp_path, path)
    assert index.view.knows(oid(path, "main"))


def test_many_small_segments_become_few(path: Path) -> None:
    repository = open_repository(path)
    index = fill(repository)
    for step in range(15):
        fast_import(path, 1, seed=20 + step, start="refs/heads/main^0")
        assert index.extend(repository.snapshot().store, [oid(path, "main")])
    assert index.is_crowded
    assert 16 == len(files(path))
    index = fill(repository)
    assert len(files(path)) <= 3
    assert all(index.view.knows(oid(path, f"main~{n}")) for n in range(50))
    fresh = introduce(repository.snapshot().store, [oid(path, "main")], lambda _oid: False)
    assert len(fresh.times) // 8 == index.view.sweep.commit_count


def test_small_files_of_pushes_are_merged_without_a_helper(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = open_repository(path)
    index = fill(repository)
    large = files(path)[0]
    started: list[object] = []
    monkeypatch.setattr("govc.repo.index_keeper.start_detached", started.append)
    keeper = IndexKeeper(PLAIN, None)
    counts = []
    for step in range(SEGMENT_FILES_MAX + 2):
        fast_import(path, 1, seed=20 + step, start="refs/heads/main^0")
        keeper.note_push(repository, [oid(path, "main")])
        counts.append(len(files(path)))
    assert [*range(2, SEGMENT_FILES_MAX + 1), 2, 3, 4] == counts
    assert large in files(path)
    assert not started
    assert all(index.view.knows(oid(path, f"main~{n}")) for n in range(40))
    fresh = introduce(repository.snapshot().store, [oid(path, "main")], lambda _oid: False)
    assert len(fresh.times) // 8 == index.view.sweep.commit_count


def test_while_somebody_else_merges_no_helper_is_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers meet the same many files: one of them merges them."""
    repository = open_repository(path)
    fill(repository)
    started: list[object] = []
    monkeypatch.setattr("govc.repo.index_keeper.start_detached", started.append)
    keeper = IndexKeeper(PLAIN, None)
    descriptor = os.open(path / "govc/introductions", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for step in range(SEGMENT_FILES_MAX + 2):
            fast_import(path, 1, seed=20 + step, start="refs/heads/main^0")
            keeper.note_push(repository, [oid(path, "main")])
    finally:
        os.close(descriptor)
    assert len(files(path)) > SEGMENT_FILES_MAX
    assert not started
    fast_import(path, 1, seed=99, start="refs/heads/main^0")
    keeper.note_push(repository, [oid(path, "main")])
    assert len(files(path)) <= SEGMENT_FILES_MAX // 2
    assert not started


@pytest.mark.parametrize(
    ("sizes", "entries_max", "merged"),
    [
        ([1 << 20, 27, 9, 3, 1], None, 0),
        ([1 << 20, 8, 3, 2, 1], None, 4),
        ([1 << 20, 8, 3, 2, 1], 10, 3),
        # A file for each doubling, and one more than there may be.
        ([3**n for n in range(SEGMENT_FILES_MAX, 0, -1)], None, 0),
        ([3**n for n in range(SEGMENT_FILES_MAX + 1, 0, -1)], None, SEGMENT_FILES_MAX + 2 - SEGMENT_FILES_MAX // 2),
        ([3**n for n in range(SEGMENT_FILES_MAX + 1, 0, -1)], 1100, 6),
        ([3**n for n in range(SEGMENT_FILES_MAX + 1, 0, -1)], 3, 0),
    ],
)
def test_which_segments_are_merged(
    sizes: list[int], entries_max: int | None, merged: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = [SimpleNamespace(commit_count=size, intro_count=0, introduced=lambda size=size: size) for size in sizes]
    written: list[object] = []
    index = SimpleNamespace(
        folder=str(tmp_path),
        algo=SHA1,
        is_crowded=len(sizes) > SEGMENT_FILES_MAX,
        segment_files=lambda: [(f"{number}", segment) for number, segment in enumerate(segments)],
        write_segment=written.append,
        refresh=lambda: None,
    )
    monkeypatch.setattr(introducing, "merge", lambda introduced, _size: list(introduced))
    assert introducing._merge_segments(index, entries_max) == merged
    assert written == ([sizes[-merged:]] if merged else [])


def test_one_process_fills_at_a_time(path: Path) -> None:
    repository = open_repository(path)
    fill(repository)
    descriptor = os.open(path / "govc/introductions", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert fill_introductions(IntroduceTask.of(repository.snapshot())).skipped
    finally:
        os.close(descriptor)


def test_what_was_to_be_filled_late_is_not_done_to_a_successor(path: Path) -> None:
    task = IntroduceTask.of(open_repository(path).snapshot())
    aside = path.rename(path.with_name("aside.git"))
    assert fill_introductions(task).skipped
    git(path.parent, "init", "-q", "--bare", "-b", "main", str(path))
    assert fill_introductions(task).skipped
    assert not (path / "govc").exists()
    path.rename(path.with_name("successor.git"))
    aside.rename(path)
    assert fill_introductions(task).commits_added == 40


def test_a_helper_makes_no_folder_in_a_repository_that_has_left_us(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`govc retire` while one is at it: what it has made has no place any more."""
    monkeypatch.setattr(introducing, "_remove_leftovers", lambda _index: shutil.rmtree(path / "govc"))
    with pytest.raises(FileNotFoundError):
        fill_introductions(IntroduceTask.of(open_repository(path).snapshot()))
    assert not (path / "govc").exists()


@pytest.mark.parametrize("how", ["shallow", "grafts", "partial"])
def test_history_that_is_cut_has_no_index(path: Path, tmp_path: Path, how: str) -> None:
    repository = open_repository(path)
    fill(repository)
    tip = git(path, "rev-parse", "main").decode().strip()
    if how == "shallow":
        (path / "shallow").write_text(f"{tip}\n")
    elif how == "grafts":
        (path / "info/grafts").write_text(f"{tip}\n")
    else:
        git(path, "config", "remote.origin.promisor", "true")
    snapshot = repository.snapshot()
    assert snapshot.introductions is None
    if how != "partial":
        pack = pack_of(repository, PackPlan(wants=(bytes.fromhex(tip),), ofs_delta=True, progress=False))
        tree = {line.split()[0] for line in git(path, "rev-list", "--objects", "--no-walk", tip).decode().splitlines()}
        assert tree == names_in(pack, tmp_path)


def test_an_incomplete_repository_gets_no_segment(path: Path) -> None:
    repository = open_repository(path)
    snapshot = repository.snapshot()
    store: ObjectStore = snapshot.store
    numbers = [n for n in range(store.packs[0].count) if store.type_of(n) in (TREE, BLOB)]
    lost = store.oid_of(numbers[0]).hex()
    left = b"".join(store.oid_of(n).hex().encode() + b"\n" for n in range(store.packs[0].count) if n != numbers[0])
    pack = git(path, "pack-objects", "--stdout", stdin=left)
    for file in (path / "objects/pack").iterdir():
        file.unlink()
    git(path, "index-pack", "--stdin", stdin=pack)
    report = fill_introductions(IntroduceTask.of(open_repository(path).snapshot()))
    assert lost in report.skipped
    assert not files(path)


@needs_compiled
def test_forward_deltas_make_answers_small(path: Path, tmp_path: Path) -> None:
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    tips = (oid(path, "main"),)
    plan = PackPlan(wants=tips, haves=(oid(path, "main~9"),), thin=True, ofs_delta=True, progress=False)
    import govc.repo.introducing as introducing

    large, introducing.LARGE_PACK_OBJECTS = introducing.LARGE_PACK_OBJECTS, 10
    try:
        index.make_folder()
        index.extend(snapshot.store, tips)
        without = pack_of(repository, plan)
        assert is_due(snapshot, index)
        fill(repository)
        assert not is_due(snapshot, index)
        pack = pack_of(repository, plan)
    finally:
        introducing.LARGE_PACK_OBJECTS = large
    assert list(index.forward.entries())
    for entry in index.forward.entries():
        if entry.stream:
            kind, base = snapshot.store.read_oid(entry.base)
            delta = zlib.decompress(entry.stream)
            assert entry.size == len(delta)
            assert (kind, apply_delta(base, delta, result_bytes_max=1 << 20)) == snapshot.store.read_oid(entry.target)
    assert len(pack) < len(without)
    expected = rev_list(path, "main") - rev_list(path, "main~9")
    assert expected <= names_in(pack, tmp_path, path)


@needs_compiled
def test_what_was_replaced_lately_is_a_small_step_for_who_is_not_sent_the_newest(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(11)
    text = rng.randbytes(8000)
    for n in range(12):
        text = text[: 500 * n] + rng.randbytes(40) + text[500 * n + 40 :]
        stream = b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nx\n" % (1_600_100_000 + n)
        stream += b"from refs/heads/main^0\nM 100644 inline file\ndata %d\n" % len(text) + text
        git(path, "fast-import", "--quiet", stdin=stream + b"\ndone\n")
    git(path, "repack", "-adfq", "--depth=50")
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    # What would be made on the spot is not, so that only what was made ahead counts.
    monkeypatch.setattr(near_deltas, "OBJECTS_MAX", 0)
    monkeypatch.setattr(introducing, "LARGE_PACK_OBJECTS", 10)
    plan = PackPlan(
        wants=(oid(path, "main~4"),), haves=(oid(path, "main~7"),), thin=True, ofs_delta=True, progress=False
    )
    index.make_folder()
    index.extend(snapshot.store, plan.wants)
    assert len(pack_of(repository, plan)) > 7000, "its stored delta stands on what isn't sent"
    fill(repository)
    pack = pack_of(repository, plan)
    replaced, before = (oid(path, f"main~{n}:file") for n in (4, 5))
    assert (replaced, before) in {(entry.target, entry.base) for entry in index.forward.entries() if entry.stream}
    assert rev_list(path, "main~4") - rev_list(path, "main~7") <= names_in(pack, tmp_path, path)
    assert len(pack) < 2000


@needs_compiled
def test_damaged_forward_deltas_are_not_used_and_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone doesn't read them; who needs them finds out, and has them made again."""
    monkeypatch.setattr("govc.repo.introducing.LARGE_PACK_OBJECTS", 10)
    fill(open_repository(path))
    (file,) = path.glob("govc/introductions/*.forward")
    good = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    plan = PackPlan(wants=(oid(path, "main"),), haves=(), thin=True, ofs_delta=True, progress=False)
    pack_of(repository, plan)
    assert not index.has_read_forward
    assert not is_due(snapshot, index)
    pack_of(repository, replace(plan, haves=(oid(path, "main~9"),)))
    assert index.has_read_forward
    assert not list(index.forward.entries())
    assert is_due(snapshot, index)
    fill(repository)
    index.refresh()
    assert list(index.forward.entries())
    assert not is_due(snapshot, index)


@needs_compiled
def test_a_large_delta_on_something_old_becomes_small_steps(path: Path, tmp_path: Path) -> None:
    """Each version is stored as a large delta on the first one, as packs of grown repositories have it."""
    git(path, "update-ref", "-d", "refs/heads/main")
    rng = random.Random(7)
    texts = [rng.randbytes(9000)]
    for n in range(12):  # what is new stays: the way from the first version gets longer and longer
        texts.append(texts[-1][: 700 * n] + rng.randbytes(600) + texts[-1][700 * n + 600 :])
    blobs = [git(path, "hash-object", "-w", "--stdin", stdin=text).strip() for text in texts]
    lines = []
    for n, blob in enumerate(blobs):
        lines.append(b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nx\n" % (1_600_000_000 + n))
        lines.append(b"M 100644 %s file\n" % blob)
    git(path, "fast-import", "--quiet", "--force", stdin=b"".join([*lines, b"done\n"]))
    names = git(path, "rev-list", "--objects", "--no-object-names", "main").split()
    body = bytearray(b"PACK" + (2).to_bytes(4, "big") + len(names).to_bytes(4, "big"))
    body += encode_entry_header(BLOB, len(texts[0])) + zlib.compress(texts[0])
    kinds = {b"commit": COMMIT, b"tree": TREE}
    for name in names:
        kind = git(path, "cat-file", "-t", name.decode()).strip()
        if name in blobs[1:]:
            delta = make_delta(texts[0], texts[blobs.index(name)])
            body += encode_entry_header(REF_DELTA, len(delta)) + bytes.fromhex(blobs[0].decode()) + zlib.compress(delta)
        elif name != blobs[0]:
            content = git(path, "cat-file", kind.decode(), name.decode())
            body += encode_entry_header(kinds[kind], len(content)) + zlib.compress(content)
    git(path, "prune-packed")
    for file in path.glob("objects/pack/*"):
        file.unlink()
    for folder in path.glob("objects/??"):
        shutil.rmtree(folder)
    git(path, "index-pack", "--stdin", stdin=bytes(body) + SHA1.new(bytes(body)).digest())
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    plan = PackPlan(
        wants=(oid(path, "main"),), haves=(oid(path, "main~11"),), thin=True, ofs_delta=True, progress=False
    )
    import govc.repo.introducing as introducing

    large, introducing.LARGE_PACK_OBJECTS = introducing.LARGE_PACK_OBJECTS, 10
    try:
        index.make_folder()
        index.extend(snapshot.store, plan.wants)
        without = pack_of(repository, plan)
        fill(repository)
        pack = pack_of(repository, plan)
    finally:
        introducing.LARGE_PACK_OBJECTS = large
    assert {bytes.fromhex(blob.decode()) for blob in blobs[2:]} <= {
        entry.target for entry in index.forward.entries() if entry.stream
    }
    assert rev_list(path, "main") - rev_list(path, "main~11") <= names_in(pack, tmp_path, path)
    assert len(pack) < 11 * 1000 < 3 * 11 * 1000 < len(without)


def test_a_file_of_forward_deltas_says_what_was_put_in() -> None:
    target, one, other = bytes([1]) * 20, bytes([2]) * 20, bytes([3]) * 20
    entries = [Entry(target, one, 5, b"near"), Entry(target, other, 6, b"far"), Entry(one, SHA1.zero, 0, b"")]
    data = b"".join(iter_encoded(entries, [bytes(20)], SHA1))
    found = ForwardDeltas([parse_forward(data, SHA1)])
    assert entries == sorted(found.entries(), key=lambda entry: entry.target)
    streams = len(b"nearfar")
    for at in range(0, len(data), 3):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if len(data) - 20 - streams <= at < len(data) - 20:
            left = list(parse_forward(damaged, SHA1).entries())
            assert len(left) == 2, "it is the stream's own checksum that is wrong"
        else:
            with pytest.raises(BadForward):
                parse_forward(damaged, SHA1)
    for cut in (1, 20, 21, 30, len(data) - 1):
        with pytest.raises(BadForward):
            parse_forward(data[:-cut], SHA1)
