"""A fetch in the very words of an earlier one comes from the cache without being read, as long as nothing changed."""

import hashlib
import random
import shutil
import zlib
from pathlib import Path

import pytest

from bench.inprocess import Application
from bench.wire import Request, fetch, is_acknowledged, packets, push, push_body
from bench.world import fill_index
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.service import fetch as fetch_room
from govc.service import words
from tests.simulation.pushes import make_commit, make_pack, oid_of
from tests.timeless import let_no_time_pass
from tests.waiting import wait_until

NAME = "a.git"
REF = "refs/heads/large"


class World:
    """A repository with one ref whose clone is worth keeping, and how often a request was read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "served"
        self.root.mkdir()
        self.path = self.root / NAME
        create_repository(str(self.path), SHA1, export=True, allow_push=True)
        first = create_first_commit(str(self.path), SHA1, now_seconds=1_700_000_000).hex()
        content = random.Random(1).randbytes(400_000)
        commit = make_commit(first, "large", content)
        self.oid = commit.oid
        self.cache = folder / "cache"
        self.application = Application(self.root, cache_bytes_max=1 << 30, cache_dir=str(self.cache))
        body = push_body(REF, None, commit.oid, make_pack(commit.objects))
        assert is_acknowledged(self.application.ask(push(NAME, body)))
        self.read = 0
        make = fetch_room.FetchSession.__init__

        def count(*arguments: object, **options: object) -> None:
            self.read += 1
            make(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(fetch_room.FetchSession, "__init__", count)

    def request_v0(self) -> Request:
        body = packets(f"want {self.oid} side-band-64k ofs-delta no-progress\n", "0000", "done\n")
        return Request(f"/{NAME}/git-upload-pack", body, {"Content-Type": "application/x-git-upload-pack-request"})

    def let_land(self) -> None:
        """Wait for what a clone leaves in the cache behind its last byte."""
        flights = self.application._application._backend.fetch_tools.bodies._flights  # type: ignore[attr-defined]
        wait_until(lambda: not flights, "its flight ends")

    def request_v2(self) -> Request:
        return fetch(NAME, [self.oid])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    let_no_time_pass(monkeypatch)
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize("version", [0, 2])
def test_the_second_time_the_words_are_not_read(version: int, world: World) -> None:
    request = world.request_v2() if version else world.request_v0()
    first = world.application.ask(request)
    assert len(first) > 400_000
    read = world.read
    assert world.application.ask(request) == first
    assert world.read == read


def test_other_words_are_read(world: World) -> None:
    world.application.ask(world.request_v2())
    read = world.read
    assert b"PACK" in world.application.ask(world.request_v0())
    assert world.read == read + 1


def test_where_the_cache_was_emptied_the_words_are_read_again(world: World) -> None:
    first = world.application.ask(world.request_v2())
    world.let_land()
    shutil.rmtree(world.cache)
    read = world.read
    assert world.application.ask(world.request_v2()) == first
    assert world.read == read + 1


def test_what_is_hidden_meanwhile_is_not_given_to_old_words(world: World) -> None:
    request = world.request_v0()
    world.application.ask(request)
    with (world.path / "config").open("a") as file:
        file.write(f"[transfer]\n\thideRefs = {REF}\n")
    answer = world.application.ask(request)
    assert b"not our ref" in answer
    assert b"PACK" not in answer


def test_what_no_ref_names_any_more_is_not_given_to_old_words(world: World) -> None:
    request = world.request_v0()
    world.application.ask(request)
    zero = "0" * 40
    body = packets(f"{world.oid} {zero} {REF}\0 report-status delete-refs", "0000")
    assert is_acknowledged(world.application.ask(push(NAME, body)))
    answer = world.application.ask(request)
    assert b"not our ref" in answer
    assert b"PACK" not in answer


def small_push(world: World, text: bytes, old: str | None = None) -> str:
    commit = make_commit(old or world.oid, "small", text)
    body = push_body("refs/heads/small", old, commit.oid, make_pack(commit.objects))
    assert is_acknowledged(world.application.ask(push(NAME, body)))
    return commit.oid


@pytest.mark.parametrize("version", [0, 2])
def test_a_little_answer_is_kept_in_memory_until_something_changes(version: int, world: World) -> None:
    small = small_push(world, b"one")
    lines = [f"want {small} side-band-64k ofs-delta no-progress\n", "0000", f"have {world.oid}\n", "done\n"]
    kind = {"Content-Type": "application/x-git-upload-pack-request"}
    request = Request(f"/{NAME}/git-upload-pack", packets(*lines), kind)
    if version:
        request = fetch(NAME, [small], [world.oid])
    answers = {world.application.ask(request) for _ in range(3)}
    assert len(answers) == 1
    assert world.read == 1
    assert not list(world.cache.glob("*/*.body"))
    small_push(world, b"two", small)
    assert {world.application.ask(request)} == answers
    assert world.read == 2, "another snapshot knows nothing"


def test_a_larger_answer_is_kept_when_it_is_asked_for_again(world: World) -> None:
    small = small_push(world, random.Random(2).randbytes(400_000))
    request = fetch(NAME, [small], [world.oid])
    first = world.application.ask(request)
    assert not list(world.cache.glob("*/*.body")), "most of what is asked for once is never asked for again"
    assert world.application.ask(request) == first
    assert len(list(world.cache.glob("*/*.body"))) == 1
    read = world.read
    assert world.application.ask(request) == first
    assert world.read == read


def test_blobs_that_a_partial_clone_lacks_are_sent_without_a_file_the_first_time(world: World) -> None:
    fill_index(world.path)
    content = random.Random(1).randbytes(400_000)
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    request = fetch(NAME, [blob])
    first = world.application.ask(request)
    assert b"PACK" in first and len(first) > 400_000
    assert not list(world.cache.glob("*/*.body"))
    assert world.application.ask(request) == first
    assert len(list(world.cache.glob("*/*.body"))) == 1
    assert world.application.ask(fetch(NAME, [blob, world.oid]))
    assert len(list(world.cache.glob("*/*.body"))) == 2, "a commit is wanted, too, with all its history"


def test_that_a_fetch_was_asked_for_is_remembered_of_some(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "ASKED_KEPT_MAX", 2)
    small = small_push(world, random.Random(2).randbytes(400_000))
    requests = [fetch(NAME, [small], [world.oid] * count) for count in (1, 2, 3)]
    for request in (*requests, requests[0]):
        world.application.ask(request)
    assert not list(world.cache.glob("*/*.body")), "the first was forgotten"
    world.application.ask(requests[2])
    assert len(list(world.cache.glob("*/*.body"))) == 1


def test_little_answers_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_push(world, b"one")
    requests = [fetch(NAME, [small], [world.oid] * count) for count in (1, 2)]
    size = len(world.application.ask(requests[0]))
    monkeypatch.setattr(words, "LITTLE_BYTES_KEPT_MAX", size + len(requests[0].body) + 100)
    world.application.ask(requests[1])  # there is room for one of them
    world.application.ask(requests[1])
    world.application.ask(requests[0])
    assert world.read == 3
    monkeypatch.setattr(words, "LITTLE_BYTES_MAX", 10)
    small = small_push(world, b"three", small)
    for _ in range(2):
        world.application.ask(fetch(NAME, [small], [world.oid]))
    assert world.read == 5


def add_loose(world: World, text: bytes) -> tuple[str, list[Path]]:
    """A commit on the large one, as plain git adds objects one by one; its id and its files."""
    commit = make_commit(world.oid, "loose", text)
    paths = []
    for kind, content in commit.objects:
        name = oid_of((kind, content)).hex()
        path = world.path / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(b"%b %d\0%b" % (kind, len(content), content), 1))
        paths.append(path)
    return commit.oid, paths


@pytest.mark.parametrize("haves", [True, False], ids=["little", "body"])
def test_what_was_pruned_is_not_given_to_old_words(haves: bool, world: World) -> None:
    oid, paths = add_loose(world, b"secret")
    request = fetch(NAME, [oid], [world.oid] if haves else [])
    assert b"PACK" in world.application.ask(request)
    assert b"PACK" in world.application.ask(request)
    for path in paths:
        path.unlink()
    answer = world.application.ask(request)
    assert b"not our ref" in answer
    assert b"PACK" not in answer


@pytest.mark.parametrize("haves", [True, False], ids=["little", "body"])
def test_what_a_ref_names_is_given_to_old_words_though_it_is_loose(haves: bool, world: World) -> None:
    oid, _paths = add_loose(world, b"branch")
    (world.path / "refs/heads/loose").write_text(f"{oid}\n")
    request = fetch(NAME, [oid], [world.oid] if haves else [])
    answers = {world.application.ask(request) for _ in range(3)}
    assert len(answers) == 1
    assert world.read == 1
