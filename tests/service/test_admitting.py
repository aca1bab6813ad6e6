"""A fetch and its place: taken when its pack is begun, given back however that ends; none for what is no pack."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from govc.cache.bodies import BodyCache
from govc.cache.folder import CacheFolder
from govc.errors import ClientGone, CorruptPack, Refused
from govc.limits.admission import Admission, AdmissionLimits, Wish
from govc.limits.places import Places
from govc.limits.watch import NO_WATCH
from govc.odb.cache import BaseCache
from govc.protocol.pktline import FLUSH
from govc.repo.repository import Repository, Surroundings
from govc.repo.runtime import PLAIN
from govc.service.admitting import admitted
from govc.service.begun import UNDER_WAY_MAX, Begun
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.fetch import FetchTools, serve_upload_pack
from tests.timeless import let_no_time_pass

SECONDS = 60


class Producer:
    """Makes one piece, and another when it may."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.may_end = threading.Event()

    def produce(self, _snapshot, _plan, _quiet_seconds):
        yield b"PACK"
        if self.error is not None:
            raise self.error
        while not self.may_end.is_set():
            yield b"more"
        yield b"end"


class World:
    """One repository, one place."""

    def __init__(self, path: Path, cache: BodyCache, producer: Producer) -> None:
        environ = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        around = Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
        self.snapshot = Repository(str(path), around).snapshot()
        self.admission = Admission(AdmissionLimits(operations_max=1), Places(None), watch=NO_WATCH)
        self.tools = FetchTools(
            runtime=PLAIN,
            producer=producer,  # type: ignore[arg-type]
            environ=environ,
            bodies=cache,
            admission=self.admission,
        )

    def ask(self, command: bytes, *arguments: bytes):
        lines = [b"command=" + command, b"0001", *arguments, FLUSH]
        body = b"".join(line if line in (FLUSH, b"0001") else b"%04x%b\n" % (len(line) + 5, line) for line in lines)
        context = RequestContext(service=UPLOAD_PACK, protocol_version=2)
        return serve_upload_pack(self.snapshot, context, body, self.tools)

    def clone(self, *more: bytes, have: bool = False):
        oid = self.snapshot.table.resolve(b"refs/heads/main")
        assert oid is not None
        haves = [b"have " + oid.hex().encode()] if have else []
        return self.ask(b"fetch", b"want " + oid.hex().encode(), *haves, *more, b"done")

    def is_free(self) -> bool:
        try:
            self.admission.line_up(Wish("clone", "/x", "ann")).leave()
        except Refused:
            return False
        return True

    def wait_until_free(self) -> None:
        """A production of its own thread ends soon after its last reader."""
        for _ in range(SECONDS * 100):
            if self.is_free():
                return
            threading.Event().wait(0.01)
        raise AssertionError("the place is never given back")


@pytest.fixture(autouse=True)
def little_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    let_no_time_pass(monkeypatch)


@pytest.fixture(params=["direct", "shared"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> BodyCache:
    return BodyCache(CacheFolder(str(tmp_path / "cache"), 1 << 30) if request.param == "shared" else None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "r.git"
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    script = "commit refs/heads/main\ncommitter C <c@d> 1600000000 +0000\ndata 1\nx\n"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], env=env, check=True)
    subprocess.run(["git", "fast-import", "--quiet"], input=script.encode(), cwd=path, env=env, check=True)
    return path


def test_a_clone_holds_a_place_while_its_pack_is_made(path: Path, cache: BodyCache) -> None:
    producer = Producer()
    world = World(path, cache, producer)
    answer = world.clone()
    assert world.is_free()  # nothing has begun: whoever drops it now leaves nothing behind
    next(answer)
    assert not world.is_free()
    producer.may_end.set()
    for _ in answer:
        continue
    world.wait_until_free()


def test_a_reader_who_leaves_gives_the_place_back(path: Path, cache: BodyCache) -> None:
    world = World(path, cache, Producer())
    answer = world.clone()
    next(answer)
    answer.close()
    world.wait_until_free()


def test_a_production_that_fails_gives_the_place_back(path: Path, cache: BodyCache) -> None:
    world = World(path, cache, Producer(CorruptPack("broken")))
    with pytest.raises(Exception, match=r"broken|shared production failed"):
        for _ in world.clone():
            continue
    world.wait_until_free()


def test_who_finds_no_place_is_told_before_anything_else(path: Path, cache: BodyCache) -> None:
    world = World(path, cache, Producer())
    turn = world.admission.line_up(Wish("push", "/x", "ann"))
    with pytest.raises(Refused):
        next(world.clone())
    # Listings and questions that need no pack are answered.
    assert b"refs/heads/main" in b"".join(world.ask(b"ls-refs"))
    have = world.ask(b"fetch", b"want " + b"1" * 40, b"have " + b"2" * 40)
    assert b"not our ref" in b"".join(have)
    turn.leave()
    assert world.is_free()


def test_a_fetch_that_costs_nearly_nothing_needs_no_place(path: Path, cache: BodyCache) -> None:
    """Whoever finds out that it costs more holds nothing while somebody else makes the same."""
    producer = Producer()
    producer.may_end.set()
    world = World(path, cache, producer)
    turn = world.admission.line_up(Wish("push", "/x", "ann"))
    assert b"".join(world.clone(have=True)).endswith(b"end" + FLUSH)
    producer.may_end.clear()
    with pytest.raises(Refused):
        next(world.clone(b"ofs-delta", have=True))  # in other words: what was answered is kept by its words
    turn.leave()
    answer = world.clone(b"no-progress", have=True)
    next(answer)
    assert not world.is_free()
    answer.close()
    world.wait_until_free()


def test_where_many_are_being_begun_the_next_one_lines_up(path: Path, cache: BodyCache, monkeypatch) -> None:
    """What a fetch chooses before its first byte is work as well: a crowd may not do it without a turn."""
    producer = Producer()
    producer.may_end.set()
    world = World(path, cache, producer)
    turn = world.admission.line_up(Wish("push", "/x", "ann"))
    monkeypatch.setattr(Begun, "under_way", UNDER_WAY_MAX)
    with pytest.raises(Refused):
        next(world.clone(have=True))
    monkeypatch.setattr(Begun, "under_way", UNDER_WAY_MAX - 1)
    assert b"".join(world.clone(have=True)).endswith(b"end" + FLUSH)
    turn.leave()


def test_a_fetch_without_a_place_is_refused_too_where_the_machine_is_short(
    path: Path, cache: BodyCache, monkeypatch
) -> None:
    producer = Producer()
    producer.may_end.set()
    world = World(path, cache, producer)
    asked = []

    def check(operation: str) -> None:
        asked.append(operation)
        raise Refused("memory_short", "too little memory", http_status=503, retry_after_seconds=1)

    monkeypatch.setattr(world.admission, "check", check)
    with pytest.raises(Refused):
        next(world.clone(have=True))
    assert asked == ["fetch"]


def test_admitted_gives_back_on_every_way_out() -> None:
    admission = Admission(AdmissionLimits(operations_max=1), Places(None))
    wish = Wish("push", "/x", "ann")

    def steps():
        with admitted(admission, wish):
            yield 1
            yield 2

    for ending in ("never begun", "closed", "to the end", "thrown into"):
        generator = steps()
        if ending != "never begun":
            assert next(generator) == 1
            with pytest.raises(Refused):
                admission.line_up(wish)
        if ending == "to the end":
            assert list(generator) == [2]
        elif ending == "thrown into":
            with pytest.raises(ClientGone):
                generator.throw(ClientGone())
        else:
            generator.close()
        admission.line_up(wish).leave()
