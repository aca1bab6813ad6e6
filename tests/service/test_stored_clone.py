"""A clone that is one stored pack: who asks first gets the pack as it lies; only what is asked for again is kept."""

import os
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fetching import encode_fetch
from govc.cache.span import FramedSpan
from govc.protocol.sideband import Band, frame
from govc.repo.runtime import PLAIN
from govc.service import fetch
from govc.service.making import _data_header
from govc.web.sending import Outlet
from tests.kernels.both import needs_compiled
from tests.service.test_growing import World


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(fetch, "STORED_BYTES_MIN", 1000)
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
def test_after_a_restart_what_is_kept_is_sent(world: World) -> None:
    wants = world.refs()
    world.clone(wants)
    world.clone(wants)
    world.start()
    world.backend.fetch_tools.producer.produce_stored = None  # type: ignore[method-assign,assignment]
    assert world.clone(wants) == stored_pack(world)


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
def test_a_push_after_it_is_in_the_next_clone(world: World) -> None:
    world.clone(world.refs())
    world.commit("main", world.git.rev(world.path, "refs/heads/main"), files={"text": b"line\n" * 502})
    wants = world.refs()
    world.check(world.clone(wants), wants)
    world.check(world.clone(wants), wants)


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
    return FramedSpan(descriptor, len(data), payload_max, _data_header, call, None)


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
