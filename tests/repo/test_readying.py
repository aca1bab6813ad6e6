"""Ready entries: made for the tips' trees, sent to clients without history, passed over when they are no good."""

import subprocess
from pathlib import Path

import pytest

import govc.repo.introducing as introducing
from govc.graph.filter import ObjectSelection
from govc.kernels import packcopy
from govc.objects.types import BLOB
from govc.odb.ready import BadReady, ReadyWriter, open_ready
from govc.pack import copying
from govc.protocol.oid import SHA1
from govc.repo.introducing import IntroduceTask, fill_introductions, is_due
from govc.repo.introductions import Introductions
from govc.repo.pack_plan import PackPlan
from tests.kernels.both import needs_compiled
from tests.repo.test_introductions import fast_import, files, fill, git, names_in, oid, open_repository, pack_of

pytestmark = needs_compiled


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose tip is stored as deltas on what a later branch has."""
    monkeypatch.setattr(introducing, "LARGE_PACK_OBJECTS", 10)
    where = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(where))
    fast_import(where, 30, seed=1)
    fast_import(where, 30, seed=2, branch="next", start="refs/heads/main^0")
    git(where, "repack", "-adfq")
    return where


class Counting:
    """Every copier of an answer, to ask it what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[packcopy.PackCopier] = []

        def make(*arguments: object) -> packcopy.PackCopier:
            self.made.append(packcopy.PackCopier(*arguments))  # type: ignore[arg-type]
            return self.made[-1]

        monkeypatch.setattr(copying, "PackCopier", make)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def depth_1(path: Path, name: str = "main") -> PackPlan:
    tip = oid(path, name)
    return PackPlan(wants=(tip,), boundary=frozenset({tip}), ofs_delta=True, progress=False)


def tree_of(path: Path, name: str) -> set[str]:
    listed = git(path, "rev-list", "--objects", "--no-walk", name).decode().splitlines()
    return {line.split()[0] for line in listed}


def test_a_clone_without_history_is_sent_what_is_ready(path: Path, tmp_path: Path, counting: Counting) -> None:
    repository = open_repository(path)
    pack_of(repository, depth_1(path))
    index = fill(repository)
    assert index.ready is not None
    assert index.ready.count
    pack = pack_of(repository, depth_1(path))
    assert counting.made[-1].taken_ready > 0
    assert counting.made[-1].expanded == 0
    assert names_in(pack, tmp_path) == tree_of(path, "main")


def test_lazily_fetched_blobs_are_sent_ready(path: Path, tmp_path: Path, counting: Counting) -> None:
    repository = open_repository(path)
    fill(repository)
    blobs = {line.split()[2] for line in git(path, "ls-tree", "-r", "main").decode().splitlines()}
    wants = tuple(map(bytes.fromhex, sorted(blobs)))
    selection = ObjectSelection(blob_limit=0)
    pack = pack_of(repository, PackPlan(wants=wants, selection=selection, ofs_delta=True, progress=False))
    assert counting.made[-1].taken_ready > 0
    assert counting.made[-1].expanded == 0
    assert names_in(pack, tmp_path) == blobs


@pytest.mark.parametrize("what", ["streams", "cut short"])
def test_damaged_streams_are_not_sent(path: Path, tmp_path: Path, counting: Counting, what: str) -> None:
    repository = open_repository(path)
    fill(repository)
    file = files(path, ".ready")[0]
    file.chmod(0o600)
    with file.open("r+b") as opened:
        if what == "streams":
            opened.seek(16)
            opened.write(bytes(64))
        else:
            opened.truncate(20)
    pack = pack_of(repository, depth_1(path))
    assert counting.made[-1].expanded > 0
    assert names_in(pack, tmp_path) == tree_of(path, "main")


def test_a_file_that_is_no_good_is_made_again(path: Path, tmp_path: Path) -> None:
    fill(open_repository(path))
    file = files(path, ".ready")[0]
    data = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    assert names_in(pack_of(repository, depth_1(path)), tmp_path) == tree_of(path, "main")
    assert index.ready is None
    assert is_due(snapshot, index)
    index = fill(repository)
    assert index.ready is not None
    assert not is_due(snapshot, index)
    assert [one.read_bytes() for one in files(path, ".ready")] == [data]


def test_another_large_pack_makes_another_file(path: Path) -> None:
    repository = open_repository(path)
    index = fill(repository)
    before = files(path, ".ready")
    fill(repository)
    assert files(path, ".ready") == before
    fast_import(path, 20, seed=3, start="refs/heads/main^0")
    git(path, "repack", "-adfq")
    snapshot = repository.snapshot()
    assert is_due(snapshot, index)
    assert fill_introductions(IntroduceTask.of(snapshot)).entries_ready
    index.refresh()
    assert not is_due(snapshot, index)
    assert len(files(path, ".ready")) == 1
    assert files(path, ".ready") != before


def test_an_object_that_lies_under_a_wrong_name_gets_no_entry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govc.repo.readying.hash_object", lambda *_arguments: bytes(20))
    index = fill(open_repository(path))
    assert index.ready is not None
    assert index.ready.count == 0


def test_a_branch_that_is_no_commit_and_one_that_is_gone_are_passed_over(path: Path) -> None:
    task = IntroduceTask.of(open_repository(path).snapshot())
    blob = bytes.fromhex(git(path, "rev-parse", "main:a").decode().strip())
    (path / "probe").mkdir()
    heads = (blob, b"\x11" * 20, *task.heads)
    report = fill_introductions(
        IntroduceTask(
            commondir=task.commondir,
            identity=task.identity,
            objects_dir=task.objects_dir,
            algo_name=task.algo_name,
            shared_bits=task.shared_bits,
            tips=task.tips,
            heads=heads,
        )
    )
    assert report.entries_ready


def test_what_was_written_is_read(tmp_path: Path) -> None:
    where = tmp_path / "one.ready"
    with where.open("wb") as file:
        writer = ReadyWriter(file, SHA1)
        writer.add(b"\x02" * 20, BLOB, 3, b"later")
        writer.add(b"\x01" * 20, BLOB, 2, b"earlier")
        writer.finish([b"\x07" * 20])
    opened = open_ready(str(where), SHA1)
    source = opened.source()
    assert (opened.count, opened.packs) == (2, {b"\x07" * 20})
    assert source.columns[42:82] == b"\x01" * 20 + b"\x02" * 20
    assert where.read_bytes()[16:28] == b"laterearlier"
    data = where.read_bytes()
    for at in (0, 4, 8, len(data) // 2, len(data) - 30, len(data) - 1):
        broken = bytearray(data)
        broken[at] ^= 0x41
        where.write_bytes(bytes(broken))
        with pytest.raises(BadReady):
            open_ready(str(where), SHA1)
    for size in (0, 15, 40, len(data) - 1):
        where.write_bytes(data[:size])
        with pytest.raises(BadReady):
            open_ready(str(where), SHA1)


def test_a_repository_without_commits_needs_none(tmp_path: Path) -> None:
    where = tmp_path / "empty.git"
    subprocess.run(["git", "init", "-q", "--bare", str(where)], check=True)
    snapshot = open_repository(where).snapshot()
    fill_introductions(IntroduceTask.of(snapshot))
    index = Introductions(str(where), SHA1)
    index.refresh()
    assert not is_due(snapshot, index)
