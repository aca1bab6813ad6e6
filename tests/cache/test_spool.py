"""Writing a body to its spool: every byte at its place, however it is cut, and whatever the disk says."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.cache import flight, spool
from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import WINDOW_BYTES_MIN, FlightFailed, Notice
from govc.cache.folder import CacheFolder
from govc.cache.span import Check, FramedSpan
from govc.cache.spool import WRITE_BYTES, copy_packets, write_cut
from govc.errors import CorruptPack
from tests.cache.readers import ChunkReader
from tests.waiting import SECONDS

KEY = bytes(20)


def header(size: int) -> bytes:
    return b"%04x:" % (size + 5)


def frame(content: bytes, payload_max: int) -> bytes:
    pieces = (content[at : at + payload_max] for at in range(0, len(content), payload_max))
    return b"".join(header(len(piece)) + piece for piece in pieces)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def open_file(path: Path, content: bytes = b"") -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDWR)


def make_span(descriptor: int, start: int, end: int, payload_max: int, check: Check | None = None) -> FramedSpan:
    return FramedSpan(descriptor, start, end, payload_max, header, call, None, check)


@given(
    size=st.integers(1, 300),
    start=st.integers(0, 299),
    payload_max=st.integers(1, 70),
    at=st.integers(0, 200),
    write_bytes=st.integers(1, 90),
    stay_bytes=st.integers(1, 400),
)
def test_property_packets_are_copied_as_they_would_be_sent(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    start: int,
    payload_max: int,
    at: int,
    write_bytes: int,
    stay_bytes: int,
) -> None:
    start = min(start, size - 1)
    content = bytes(number % 251 for number in range(size))
    folder = tmp_path_factory.mktemp("spool")
    source, target = open_file(folder / "source", content), open_file(folder / "target")
    looked_at: list[tuple[int, bytes]] = []

    def look(at: int, pieces: Sequence[memoryview]) -> None:
        looked_at.append((at, b"".join(pieces)))

    span = make_span(source, start, size, payload_max, look)
    writes: list[tuple[int, int]] = []
    pwrite = os.pwrite

    def noted(descriptor: int, data: memoryview, offset: int) -> int:
        writes.append((offset, len(data)))
        return pwrite(descriptor, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "WRITE_BYTES", write_bytes)
        patch.setattr(spool, "STAY_BYTES", stay_bytes)
        patch.setattr(spool.os, "pwrite", noted)
        offset, position = start, at
        while offset < size:
            offset, position = copy_packets(span, offset, target, position, bytearray(write_bytes))
            done = frame(content[start:offset], payload_max)
            assert offset == size or (offset - start) % payload_max == 0
            assert position == at + len(done)
    assert os.pread(target, position, at) == frame(content[start:], payload_max) == b"".join(span.iter_bytes())
    assert all(offset // write_bytes == (offset + count - 1) // write_bytes for offset, count in writes)
    assert b"".join(piece for _, piece in looked_at) == content[start:]
    assert all(content[at : at + len(piece)] == piece for at, piece in looked_at)
    os.close(source)
    os.close(target)


def test_a_file_that_ends_early_is_no_body(tmp_path: Path) -> None:
    source, target = open_file(tmp_path / "source", bytes(100)), open_file(tmp_path / "target")
    with pytest.raises(OSError, match="ends before"):
        copy_packets(make_span(source, 0, 101, 7), 0, target, 0, bytearray(WRITE_BYTES))


def test_reads_that_bring_less_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(200))
    source, target = open_file(tmp_path / "source", content), open_file(tmp_path / "target")
    preadv = os.preadv

    def short(descriptor: int, buffers: Any, offset: int) -> int:
        return preadv(descriptor, [buffers[0][:3]], offset)

    monkeypatch.setattr(spool.os, "preadv", short)
    copy_packets(make_span(source, 0, 200, 9), 0, target, 0, bytearray(WRITE_BYTES))
    assert (tmp_path / "target").read_bytes() == frame(content, 9)


def test_what_there_is_room_for_is_written_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, pwrite = open_file(tmp_path / "target"), os.pwrite
    data = os.urandom(3 * WRITE_BYTES)

    def full(descriptor: int, view: memoryview, offset: int) -> int:
        if offset + len(view) > 2 * WRITE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, view, offset)

    monkeypatch.setattr(spool.os, "pwrite", full)
    assert write_cut(target, data, 100) == 2 * WRITE_BYTES - 100
    assert (tmp_path / "target").read_bytes()[100:] == data[: 2 * WRITE_BYTES - 100]
    with pytest.raises(OSError, match="No space"):
        write_cut(target, data, 2 * WRITE_BYTES)


# In a flight

PAYLOAD = 65515


def serve(folder: Path, source: int, size: int, check: Check | None = None) -> ChunkReader:
    span = make_span(source, 0, size, PAYLOAD, check)
    request = BodyRequest(
        key=KEY,
        produce=lambda: iter((Notice(b"head"), span, b"tail")),
        head=b"head",
        expected_bytes=size,
        keepalive=b"",
        quiet_seconds=60.0,
    )
    return ChunkReader(BodyCache(CacheFolder(str(folder), 1 << 30)).serve(request))


def test_a_file_is_kept_in_packets(tmp_path: Path) -> None:
    content = os.urandom(3 * spool.STAY_BYTES + 12345)
    source = open_file(tmp_path / "source", content)
    whole = b"head" + frame(content, PAYLOAD) + b"tail"
    assert serve(tmp_path / "cache", source, len(content)).result() == whole
    (kept,) = (tmp_path / "cache").glob("*/*.body")
    assert kept.read_bytes() == whole


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written becomes a ring, and the rest goes through it: nothing is lost, nothing is kept."""
    content = os.urandom(3 * spool.STAY_BYTES + 12345)
    source = open_file(tmp_path / "source", content)
    pwrite = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > WINDOW_BYTES_MIN + 2 * WRITE_BYTES + 77:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert serve(tmp_path / "cache", source, len(content)).result() == b"head" + frame(content, PAYLOAD) + b"tail"
    assert not list((tmp_path / "cache").glob("*/*.body"))


def test_what_no_ring_has_room_for_ends_the_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever: no reader, however quick, makes more room than there is."""
    first, second = bytes(WINDOW_BYTES_MIN + 1), bytes(2 * WINDOW_BYTES_MIN)
    pwrite = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > len(b"head") + len(first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    request = BodyRequest(
        key=KEY,
        produce=lambda: iter((Notice(b"head"), first, second)),
        head=b"head",
        expected_bytes=len(first) + len(second),
        keepalive=b"",
        quiet_seconds=60.0,
    )
    reader = ChunkReader(BodyCache(CacheFolder(str(tmp_path / "cache"), 1 << 30)).serve(request))
    reader.join(SECONDS)
    assert not reader.is_alive()
    # Who has no pack data yet goes on without the cache.
    assert isinstance(reader.error, FlightFailed) or bytes(reader.seen) == b"head" + first + second


def test_a_file_that_becomes_shorter_fails_the_flight(tmp_path: Path) -> None:
    source = open_file(tmp_path / "source", bytes(2 * spool.STAY_BYTES))
    reader = serve(tmp_path / "cache", source, 2 * spool.STAY_BYTES + 1)
    with pytest.raises(FlightFailed):
        reader.result()
    assert not list((tmp_path / "cache").glob("*/*.body"))


def test_what_is_damaged_fails_the_flight(tmp_path: Path) -> None:
    size = 2 * spool.STAY_BYTES
    source = open_file(tmp_path / "source", bytes(size))

    def look(at: int, _pieces: Sequence[memoryview]) -> None:
        if at > spool.STAY_BYTES:
            raise CorruptPack("damaged", at)

    with pytest.raises(FlightFailed):
        serve(tmp_path / "cache", source, size, look).result()
    assert not list((tmp_path / "cache").glob("*/*.body"))


def test_what_nobody_looked_at_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is gone again: the rest goes out piece by piece, whole."""
    content = os.urandom(2 * spool.STAY_BYTES)
    source = open_file(tmp_path / "source", content)

    def broken(*_arguments: Any) -> tuple[int, int]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(flight, "copy_packets", broken)
    got = serve(tmp_path / "cache", source, len(content), lambda _at, _pieces: None).result()
    assert got == b"head" + frame(content, PAYLOAD) + b"tail"
    assert not list((tmp_path / "cache").glob("*/*.body"))
