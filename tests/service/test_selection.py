"""Filters that name lists of patterns: each list is read once, in bounds, and matched by a helper."""

from pathlib import Path

import pytest

from bench.fetching import split_pack
from bench.inprocess import Application
from bench.wire import Request, packets
from compat.gitclient import Git
from govc.errors import LimitExceeded
from govc.graph.filter import ObjectSelection
from govc.graph.interface import Ticker, drain
from govc.graph.sparse import PATTERNS_BYTES_MAX, SparsePatterns
from govc.odb.store import ObjectStore
from govc.protocol.object_filter import parse_filter
from govc.repo.runtime import PLAIN
from govc.repo.snapshot import Snapshot
from govc.service import fetch as fetch_room
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.selection import SPARSE_PARTS_MAX, FilterUnusable, select_objects
from govc.settings import Settings

NAME = "a.git"


class World:
    """A bare repository with two folders and blobs of patterns."""

    def __init__(self, folder: Path) -> None:
        self.git = Git(folder / "home", folder)
        self.root = folder / "served"
        self.path = self.root / NAME
        self.git("init", "-q", "--bare", self.path)
        lines = [b"commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 2\nm\n\n"]
        for name, text in ((b"d/one", b"1\n"), (b"e/two", b"2\n"), (b"lists/d", b"/d/\n")):
            lines.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name, len(text), text))
        self.git("fast-import", "--quiet", cwd=self.path, input=b"".join(lines))
        self.git("config", "uploadpack.allowFilter", "true", cwd=self.path)

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", cwd=self.path, input=data).stdout.strip()

    def snapshot(self) -> Snapshot:
        backend = Backend(Settings(root=str(self.root), export_all=True, helper_processes_max=0), PLAIN)
        context = RequestContext(service=UPLOAD_PACK, protocol_version=2)
        return backend.open(f"/{NAME}", context=context).snapshot

    def request(self, *lines: str) -> Request:
        want = self.git.rev(self.path, "main")
        said = ["ofs-delta\n", "no-progress\n", f"want {want}\n", *(f"{line}\n" for line in lines), "done\n"]
        body = packets("command=fetch\n", "object-format=sha1", "0001", *said, "0000")
        headers = {"Git-Protocol": "version=2", "Content-Type": "application/x-git-upload-pack-request"}
        return Request(f"/{NAME}/git-upload-pack", body, headers)

    def blobs_of(self, pack: bytes) -> set[str]:
        """The blobs in a pack, by what they hold."""
        target = self.root.parent / "target.git"
        self.git("init", "-q", "--bare", target)
        self.git("index-pack", "--stdin", cwd=target, input=pack)
        shown = self.git("cat-file", "--batch-all-objects", "--batch-check", cwd=target).stdout
        names = [line.split()[0] for line in shown.splitlines() if " blob " in line]
        return {self.git("cat-file", "blob", name, cwd=target).stdout for name in names}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def select(snapshot: Snapshot, *names: str) -> ObjectSelection:
    spec = "combine:" + "+".join(f"sparse:oid={name}" for name in names)
    return drain(select_objects(parse_filter(spec.encode()), snapshot))


def test_a_list_that_is_named_often_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    oid = world.blob(b"x\n" * (PATTERNS_BYTES_MAX // 3))
    snapshot = world.snapshot()
    number = snapshot.store.find(bytes.fromhex(oid))
    numbers = []
    read = ObjectStore.read

    def note(store: ObjectStore, number: int) -> tuple[int, bytes]:
        numbers.append(number)
        return read(store, number)

    monkeypatch.setattr(ObjectStore, "read", note)
    assert len(select(snapshot, *[oid] * SPARSE_PARTS_MAX).sparse) == 1
    assert numbers.count(number) == 1
    other = world.blob(b"/d/\n")
    sparse = select(snapshot, oid, "main:lists/d", other, "refs/heads/main:lists/d", oid).sparse
    assert [len(patterns.canonical_form) for patterns in sparse] == [PATTERNS_BYTES_MAX // 3 * 2, 4]


def test_all_lists_of_a_filter_are_bounded_together(world: World) -> None:
    half = PATTERNS_BYTES_MAX // 2
    lists = [world.blob(text * half) for text in (b"a", b"b", b"c")]
    snapshot = world.snapshot()
    assert len(select(snapshot, *lists[:2]).sparse) == 2
    with pytest.raises(LimitExceeded, match="sparse patterns"):
        select(snapshot, *lists)


def test_how_often_patterns_are_named_is_bounded(world: World) -> None:
    snapshot = world.snapshot()
    with pytest.raises(LimitExceeded, match="sparse filters"):
        select(snapshot, *["main:lists/d"] * (SPARSE_PARTS_MAX + 1))


def test_a_list_that_is_too_long_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    oid = world.blob(b"x" * (PATTERNS_BYTES_MAX + 1))
    snapshot = world.snapshot()
    monkeypatch.setattr(ObjectStore, "read", None)
    with pytest.raises(LimitExceeded, match="sparse patterns"):
        select(snapshot, oid)


@pytest.mark.parametrize("name", ["main", "main:lists", "main:lists/none", "main:none/d", "nosuch", "1" * 40])
def test_what_is_no_blob_is_no_list(name: str, world: World) -> None:
    with pytest.raises(FilterUnusable, match=f"unable to access sparse blob in '{name}'"):
        select(world.snapshot(), name)


def test_others_run_between_the_parts_of_a_filter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = world.snapshot()
    monkeypatch.setattr(Ticker, "due", lambda _ticker: True)
    parts = b"+".join([b"sparse:oid=main:lists/d"] * 5)
    assert len(list(select_objects(parse_filter(b"combine:" + parts), snapshot))) == 5


@pytest.mark.parametrize("options", [(), ("sideband-all", "packfile-uris https")], ids=["plain", "uris"])
def test_patterns_are_read_and_matched_by_a_helper(
    options: tuple[str, ...], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SparsePatterns, "find_choice", None)  # in this process
    if options:
        monkeypatch.setattr(fetch_room, "send_with_uris", None)
        elsewhere = f"{world.git.rev(world.path, 'main:d/one')} {'ab' * 20} https://cdn.example/x"
        for key, value in (("blobPackfileUri", elsewhere), ("allowSidebandAll", "true")):
            world.git("config", f"uploadpack.{key}", value, cwd=world.path)
    application = Application(world.root, helper_processes_max=1)
    answer = application.ask(world.request("filter sparse:oid=main:lists/d", *options))
    data = split_pack(answer)  # over sideband-all the line before it, too
    assert world.blobs_of(data[data.index(b"PACK") :]) == {"1\n"}
