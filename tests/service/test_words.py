"""A fetch in the very words of an earlier one comes from the cache without being read, as long as nothing changed."""

import random
import shutil
from pathlib import Path

import pytest

from bench.inprocess import Application
from bench.wire import Request, fetch, is_acknowledged, packets, push, push_body
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.service import fetch as fetch_room
from tests.simulation.pushes import make_commit, make_pack

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

    def request_v2(self) -> Request:
        return fetch(NAME, [self.oid])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
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
