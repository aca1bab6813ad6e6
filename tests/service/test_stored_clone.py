"""A clone that is one stored pack: who asks first gets the pack as it lies; only what is asked for again is kept."""

import os
import random
import socket
import threading
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fetching import encode_fetch
from govc.cache.span import FramedSpan
from govc.protocol.sideband import Band, frame
from govc.repo.runtime import PLAIN
from govc.repo.stored_packing import find_base
from govc.service import fetch, stored_clone
from govc.service.broken import BrokenStream
from govc.service.making import _data_header
from govc.web.sending import Outlet
from tests.kernels.both import needs_compiled
from tests.service.test_growing import World


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(stored_clone, "STORED_BYTES_MIN", 1000)
    world = World(tmp_path)
    noise = random.Random(1)
    one = world.commit("main", files={"large": noise.randbytes(400_000), "text": b"line\n" * 500})
    world.commit("main", one, files={"text": b"line\n" * 501})
    world.git("repack", "-adq", cwd=world.path)
    world.fill()
    world.start()
    return world


def stored_pack(world: World) -> bytes:
    (path,) = world.path.glob("objects/pack/*.pack")
    return path.read_bytes()


@needs_compiled
def test_the_first_gets_the_pack_as_it_lies_and_the_second_is_kept(world: World) -> None:
    wants = world.refs()
    assert world.clone(wants) == stored_pack(world)
    assert world.cached(".body") == []
    second = world.clone(wants)
    assert second == stored_pack(world)
    assert len(world.cached(".body")) == 1
    assert world.clone(wants) == second
    world.check(second, wants)


@needs_compiled
def test_a_small_pack_is_kept_at_once_and_copied_in_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_clone, "STORED_BYTES_MIN", 8 << 20)
    world.backend.fetch_tools.producer.produce = None  # type: ignore[method-assign,assignment]
    assert world.clone(world.refs()) == stored_pack(world)
    assert len(world.cached(".body")) == 1


@needs_compiled
@pytest.mark.parametrize("how", ["stored", "extended", "copied"])
def test_nothing_is_kept_of_a_damaged_pack(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The next clone after the repair is whole, and what grows out of it after a push is, too."""
    (path,) = world.path.glob("objects/pack/*.pack")
    if how == "copied":
        monkeypatch.setattr(fetch, "may_be_stored", lambda *_: False)
    monkeypatch.setattr(stored_clone, "STORED_BYTES_MIN", 8 << 20)
    if how == "extended":
        world.commit("main", world.git.rev(world.path, "refs/heads/main"), files={"text": b"line\n" * 502})
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(good[:200_000] + bytes(64) + good[200_064:])
    wants = world.refs()
    with pytest.raises(BrokenStream):
        world.clone(wants)
    world.wait_for_flights()
    assert world.cached(".body") == world.cached(".part") == []
    spare = path.with_suffix(".new")
    spare.write_bytes(good)
    spare.rename(path)
    world.check(world.clone(wants), wants)
    assert len(world.cached(".body")) == 1
    world.commit("main", world.git.rev(world.path, "refs/heads/main"), files={"text": b"line\n" * 503})
    wants = world.refs()
    world.check(world.clone(wants), wants)


@needs_compiled
def test_after_a_restart_what_is_kept_is_sent(world: World) -> None:
    wants = world.refs()
    world.clone(wants)
    world.clone(wants)
    world.start()
    world.backend.fetch_tools.producer.produce_stored = None  # type: ignore[method-assign,assignment]
    assert world.clone(wants) == stored_pack(world)


@needs_compiled
def test_what_is_kept_is_copied_from_the_pack_and_grows_after_a_push(world: World) -> None:
    world.backend.fetch_tools.producer.produce = None  # type: ignore[method-assign,assignment]
    world.clone(world.refs())
    before = world.clone(world.refs())
    assert before == stored_pack(world)
    tip = world.git.rev(world.path, "refs/heads/main")
    world.commit("main", tip, files={"text": b"line\n" * 502})
    wants = world.refs()
    grown = world.clone(wants)
    assert grown[12 : len(before) - 20] == before[12:-20]
    assert len(world.cached(".grown")) == 1
    world.check(grown, wants)


@needs_compiled
def test_a_pack_that_holds_more_is_not_sent_whole(world: World) -> None:
    lost = world.commit("gone", world.git.rev(world.path, "refs/heads/main"), files={"secret": b"secret"})
    world.git("repack", "-adq", cwd=world.path)
    world.git("update-ref", "-d", "refs/heads/gone", cwd=world.path)
    world.fill()
    wants = world.refs()
    assert lost not in wants
    pack = world.clone(wants)
    assert pack != stored_pack(world)
    world.check(pack, wants)


@needs_compiled
@pytest.mark.parametrize("option", ["deepen 1", "filter blob:none"])
def test_what_is_less_than_everything_is_made(world: World, option: str) -> None:
    world.git("config", "uploadpack.allowFilter", "true", cwd=world.path)
    assert len(world.clone(world.refs(), option)) < len(stored_pack(world))


@needs_compiled
@pytest.mark.parametrize("how", ["pushed", "loose", "several", "restarted"])
def test_a_push_after_it_goes_behind_the_stored_pack(world: World, how: str) -> None:
    """Its entries are those of the stored pack as they lie; nothing is kept, and the second time all is."""
    (path,) = world.path.glob("objects/pack/*.pack")
    stored = path.read_bytes()
    world.clone(world.refs())
    for number in range(3 if how == "several" else 1):
        tip = world.git.rev(world.path, "refs/heads/main")
        text = b"".join(b"line %d\n" % line for line in range(500 + number))
        world.commit("main", tip, files={"text": text, f"new {number}": b"content of a file"})
        if how != "loose":
            world.git("repack", "-dq", cwd=world.path)
    if how == "restarted":
        world.start()
    wants = world.refs()
    first = world.clone(wants)
    assert first[12 : len(stored) - 20] == stored[12:-20]
    assert int.from_bytes(first[8:12], "big") > int.from_bytes(stored[8:12], "big")
    assert world.cached(".body") == []
    world.check(first, wants)
    second = world.clone(wants)
    world.check(second, wants)
    assert len(world.cached(".body")) == 1


@needs_compiled
def test_objects_that_lie_in_a_second_pack_too_are_sent_once(world: World) -> None:
    """As thin packs bring them, completed by their bases: whichever pack was opened first, the number is that one's."""
    wants = world.refs()
    (path,) = world.path.glob("objects/pack/*.pack")
    names = [
        line.split()[1]
        for line in world.git.output_bytes("show-index", cwd=world.path, input=path.with_suffix(".idx").read_bytes())
        .decode()
        .splitlines()
    ]
    tip = world.git.rev(world.path, "refs/heads/main")
    world.commit("main", tip, files={"text": b"other\n"})
    new = world.git("rev-list", "--objects", f"{tip}..main", cwd=world.path).stdout.split("\n")
    both = "\n".join([*names[:5], *(line.split()[0] for line in new if line)])
    world.git("pack-objects", "-q", str(world.path / "objects/pack/pack"), cwd=world.path, input=both.encode())
    for order in (0, 1):
        os.utime(path, (order * 2 + 10**9, order * 2 + 10**9))
        world.start()
        wants = world.refs()
        world.check(world.clone(wants), wants)


def numbers_of(*ranges: range) -> "array[int]":
    return array("q", (number for part in ranges for number in part))


class Pack(NamedTuple):
    first_number: int
    count: int
    size: int


class Table:
    """Objects by name, the lowest number of each: `twice` maps a number to the lower one of the same object."""

    def __init__(self, twice: dict[int, int]) -> None:
        self.twice = twice

    def oid_of(self, number: int) -> bytes:
        return b"%d" % self.twice.get(number, number)

    def find(self, oid: bytes) -> int:
        return int(oid)


SMALL, LARGE = Pack(0, 10, 100), Pack(10, 90, 9000)


@pytest.mark.parametrize(
    ("numbers", "twice", "rest"),
    [
        (numbers_of(range(10, 100)), {}, []),
        (numbers_of(range(8, 100)), {}, [8, 9]),
        (numbers_of(range(8, 99)), {}, None),  # one is missing
        (numbers_of(range(11, 100)), {}, None),
        (numbers_of(range(8, 20), range(21, 100)), {20: 8}, [9]),  # it has its number in the other pack
        (numbers_of(range(8, 20), range(21, 100)), {20: 7}, None),  # there, too, it isn't asked for
        (numbers_of(range(7, 10), range(12, 50), range(52, 99)), {10: 8, 11: 7, 50: 8, 51: 9, 99: 7}, []),
        (numbers_of(range(10)), {}, None),
        (numbers_of(), {}, None),
        (numbers_of(range(10, 100), range(1000, 1100)), {}, None),  # most of it lies elsewhere
    ],
)
def test_a_base_is_a_pack_of_which_all_is_asked_for(
    numbers: "array[int]", twice: dict[int, int], rest: list[int] | None
) -> None:
    found = find_base((SMALL, LARGE), Table(twice), numbers)  # type: ignore[arg-type]
    assert found == (None if rest is None else (LARGE, array("q", rest)))


def test_an_older_tip_is_recognised_by_its_first_missing_object() -> None:
    looked_for: list[bytes] = []

    class Counting(Table):
        def find(self, oid: bytes) -> int:
            looked_for.append(oid)
            return super().find(oid)

    table, large = Counting({}), Pack(0, 400_000, 1)
    assert find_base((large,), table, numbers_of(range(3, 200_000), range(200_004, 400_000))) is None  # type: ignore[arg-type]
    assert looked_for == [b"0"]


@needs_compiled
def test_a_pack_that_is_cut_short_breaks_the_answer_off(world: World) -> None:
    wants = world.refs()
    handle = world.backend.open("/a.git", context=world.context)
    body = encode_fetch([*("no-progress", "ofs-delta"), *(f"want {oid}" for oid in wants), "done"])
    chunks = handle.upload_pack(world.context, body)
    span = next(chunk for chunk in chunks if isinstance(chunk, FramedSpan))
    (path,) = world.path.glob("objects/pack/*.pack")
    path.chmod(0o600)
    os.truncate(path, 100_000)
    with pytest.raises(OSError, match="ends"):
        list(span.iter_bytes())


def framed(tmp_path: Path, data: bytes, payload_max: int) -> FramedSpan:
    path = tmp_path / "file"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    return FramedSpan(descriptor, 0, len(data), payload_max, _data_header, call, None)


@given(size=st.integers(min_value=0, max_value=3000), payload_max=st.integers(min_value=1, max_value=1200))
def test_the_packets_are_those_that_frame_makes(
    tmp_path_factory: pytest.TempPathFactory, size: int, payload_max: int
) -> None:
    data = random.Random(size).randbytes(size)
    span = framed(tmp_path_factory.mktemp("span"), data, payload_max)
    try:
        expected = frame(Band.DATA, data, payload_max + 5)
        assert b"".join(span.iter_bytes()) == expected
        assert span.length == len(span) == len(expected)
    finally:
        os.close(span.descriptor)


class Response:
    """What an outlet needs of gunicorn's response."""

    chunked = True
    sent = 0

    def send_headers(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("size", [0, 1, 65_515, 65_516, 2_500_000])
def test_the_kernel_sends_the_same(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    span = framed(tmp_path, data, 65_515)
    ours, theirs = socket.socketpair()
    got = bytearray()

    def read() -> None:
        while piece := theirs.recv(1 << 16):
            got.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        response = Response()
        Outlet(response, ours, lambda _socket: None, PLAIN).send(span)
    finally:
        ours.close()
        reader.join()
        theirs.close()
        os.close(span.descriptor)
    assert response.sent == span.length
    assert bytes(got) == b"%x\r\n" % span.length + frame(Band.DATA, data) + b"\r\n"


def test_a_production_is_not_given_up_with_who_began_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits for a place others may already follow it: that its first client hangs up is no end of theirs."""
    gone = []
    in_turn = fetch.iter_in_turn

    def look(admission: Any, wish: Any, make: Any) -> Any:
        gone.append(wish.is_gone())
        return in_turn(admission, wish, make)

    monkeypatch.setattr(fetch, "iter_in_turn", look)
    world.context = replace(world.context, is_gone=lambda: True)
    world.clone(world.refs(), "deepen 1")
    assert gone == [False]
