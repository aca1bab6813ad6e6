"""Bodies that borrow: a hole in one file, the bytes in another, and every reader sees the whole.

Two `BodyCache`s over one folder behave as two workers do.
"""

import os
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from govc.cache import bodies as bodies_room
from govc.cache.bodies import BodyCache, BodyRequest, Chunk
from govc.cache.flight import Notice, Piece
from govc.cache.folder import CacheFolder
from govc.cache.grown import Borrowed, encode_line, read_line
from govc.cache.span import FileSpan
from tests.waiting import SECONDS, wait_until

LINE = "ab" * 20
BIG = os.urandom(3 << 20)
OLD, NEW, NEWER = b"o" * 20, b"n" * 20, b"p" * 20


def test_a_line_is_read_into_no_more_memory_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.line"
    path.write_bytes(encode_line(OLD, b"note"))
    tracemalloc.start()
    try:
        assert read_line(str(path)) == (OLD, b"note")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


class Reader(threading.Thread):
    """Reads a body in a thread of its own."""

    def __init__(self, cache: BodyCache, request: BodyRequest) -> None:
        super().__init__(daemon=True)
        self.cache, self.request = cache, request
        self.seen = bytearray()
        self.start()

    def run(self) -> None:
        for chunk in self.cache.serve(self.request):
            self.seen += as_bytes(chunk)

    def result(self) -> bytes:
        self.join(SECONDS)
        assert not self.is_alive(), "a reader hangs"
        return bytes(self.seen)


def as_bytes(chunk: Chunk) -> bytes:
    return b"".join(chunk.iter_bytes()) if isinstance(chunk, FileSpan) else chunk


def request(key: bytes, *pieces: Piece, line: str = LINE, gate: threading.Event | None = None) -> BodyRequest:
    def produce():  # type: ignore[no-untyped-def]
        yield Notice(b"head")
        for number, piece in enumerate(pieces):
            while number and gate is not None and not gate.wait(0.01):
                yield None
            yield piece

    return BodyRequest(
        key=key, produce=produce, head=b"head", expected_bytes=1, keepalive=b"", quiet_seconds=9.0, line=line,
        note=lambda: b"note of " + key,
    )  # fmt: skip


def serve(cache: BodyCache, wish: BodyRequest) -> bytes:
    answer = b"".join(map(as_bytes, cache.serve(wish)))
    wait_until(lambda: not cache._flights, "its flight ends")
    return answer


def grow(cache: BodyCache, key: bytes, tail: bytes) -> bytes:
    """Make a body of new words, the middle of the last one, and a tail."""
    elder = cache.find_elder(LINE)
    assert elder is not None
    with closing(elder.body):
        return serve(cache, request(key, b"new|", Borrowed(elder.body, 4, elder.body.size), tail))


@pytest.fixture
def folder(tmp_path):  # type: ignore[no-untyped-def]
    return CacheFolder(str(tmp_path / "cache"), 64 << 20)


@pytest.fixture
def here(folder):  # type: ignore[no-untyped-def]
    return BodyCache(folder)


@pytest.fixture
def there(folder):  # type: ignore[no-untyped-def]
    return BodyCache(CacheFolder(folder.cache_dir, 64 << 20))


def names(folder: CacheFolder) -> list[str]:
    return sorted(os.listdir(folder.path))


def test_a_grown_body_is_read_whole_by_everybody_and_holds_only_what_is_its_own(folder, here, there):
    assert serve(here, request(OLD, BIG)) == b"head" + BIG
    whole = grow(here, NEW, b"|tail")
    assert whole == b"headnew|" + BIG + b"|tail"
    assert names(folder) == sorted([f"{OLD.hex()}.body", f"{NEW.hex()}.grown", f"{NEW.hex()}.base", f"{LINE}.line"])
    assert os.stat(f"{folder.path}/{NEW.hex()}.grown").st_blocks * 512 < 64 << 10
    for cache in (here, there):
        assert serve(cache, request(NEW)) == whole
        assert b"".join(map(as_bytes, cache.serve_whole(NEW))) == whole
    again = grow(there, NEWER, b"|more")
    assert again == b"headnew|new|" + BIG + b"|tail|more"
    os.unlink(folder.body_path(OLD.hex()))  # evicted
    assert serve(here, request(NEWER)) == again
    assert os.path.samefile(f"{folder.path}/{NEW.hex()}.base", f"{folder.path}/{NEWER.hex()}.base")


def test_who_follows_in_another_worker_reads_along(folder, here, there):
    serve(here, request(OLD, BIG))
    elder = here.find_elder(LINE)
    gate = threading.Event()
    with closing(elder.body):
        wish = request(NEW, b"new|", Borrowed(elder.body, 4, elder.body.size), b"|tail", gate=gate)
        readers = [Reader(here, wish), Reader(here, wish)]
        wait_until(lambda: here._flights, "a flight")
        readers.append(Reader(there, request(NEW, b"this one is never made")))
        wait_until(lambda: len(readers[2].seen) >= 8, "its beginning elsewhere")
        gate.set()
        assert {reader.result() for reader in readers} == {b"headnew|" + BIG + b"|tail"}


def test_where_nothing_is_lent_the_bytes_are_copied(tmp_path):
    """nginx sends one file only."""
    folder = CacheFolder(str(tmp_path / "cache"), 64 << 20, group_reads=True)
    cache = BodyCache(folder)
    serve(cache, request(OLD, BIG))
    whole = grow(cache, NEW, b"|tail")
    assert whole == b"headnew|" + BIG + b"|tail"
    assert names(folder) == sorted([f"{OLD.hex()}.body", f"{NEW.hex()}.body", f"{LINE}.line"])
    (span,) = cache.serve(request(NEW))
    assert span.whole_name == folder.relative_name(NEW.hex())


def test_what_lost_its_name_is_copied(folder, here):
    serve(here, request(OLD, BIG))
    elder = here.find_elder(LINE)
    os.unlink(folder.body_path(OLD.hex()))
    with closing(elder.body):
        whole = serve(here, request(NEW, b"new|", Borrowed(elder.body, 4, elder.body.size)))
    assert whole == b"headnew|" + BIG
    assert f"{NEW.hex()}.body" in names(folder)


def test_a_body_that_has_much_of_its_own_stands_by_itself_again(folder, here):
    serve(here, request(OLD, BIG))
    whole = grow(here, NEW, b"|" + BIG)
    assert f"{NEW.hex()}.grown" in names(folder)
    assert grow(here, NEWER, b"|end") == b"headnew|" + whole[4:] + b"|end"
    assert f"{NEWER.hex()}.body" in names(folder)
    assert f"{NEWER.hex()}.base" not in names(folder)


def test_another_base_is_not_taken_for_the_right_one(folder, here):
    serve(here, request(OLD, BIG))
    grow(here, NEW, b"|tail")
    base = f"{folder.path}/{NEW.hex()}.base"
    os.unlink(base)
    assert folder.open_whole(NEW.hex()) is None
    assert not folder.has_body(NEW.hex())
    with open(base, "wb") as file:
        file.write(b"head" + BIG)
    assert folder.open_whole(NEW.hex()) is None
    assert serve(here, request(NEW, b"made anew")) == b"headmade anew"


def test_what_is_shared_counts_once_and_goes_with_the_last(folder, here):
    serve(here, request(OLD, BIG))
    grow(here, NEW, b"|tail")
    swept = folder.sweep(0, now=1e9)
    assert len(BIG) <= swept.bytes_left < len(BIG) + (128 << 10)
    folder.bytes_max = 1 << 20
    folder.sweep(0, now=2e9)
    folder.sweep(0, now=3e9)
    assert not [name for name in names(folder) if name.endswith((".body", ".grown", ".base"))]


def test_lines_and_bases_of_bodies_that_are_gone_are_removed(folder, here):
    serve(here, request(OLD, BIG))
    grow(here, NEW, b"|tail")
    line = f"{folder.path}/{LINE}.line"
    assert read_line(line) == (NEW, b"note of " + NEW)
    os.utime(line, (1, 1))
    folder.sweep(0, now=1e9)
    assert f"{LINE}.line" in names(folder)
    assert f"{NEW.hex()}.base" in names(folder)
    os.unlink(f"{folder.path}/{NEW.hex()}.grown")
    assert here.find_elder(LINE) is None
    folder.sweep(0, now=2e9)
    assert names(folder) == [f"{OLD.hex()}.body"]


def test_a_damaged_line_is_none(folder, here):
    serve(here, request(OLD, BIG))
    path = f"{folder.path}/{LINE}.line"
    with open(path, "r+b") as file:
        file.seek(5)
        file.write(b"?")
    assert here.find_elder(LINE) is None
    here.forget_line(LINE)
    assert not os.path.exists(path)


def test_without_a_folder_borrowed_bytes_are_sent_as_they_lie(here):
    serve(here, request(OLD, BIG))
    elder = here.find_elder(LINE)
    with closing(elder.body):
        pieces = b"new|", Borrowed(elder.body, 4, elder.body.size), b"|tail"
        assert serve(BodyCache(None), request(NEW, *pieces)) == b"headnew|" + BIG + b"|tail"


@pytest.fixture(autouse=True)
def little_bodies_are_kept(monkeypatch):
    monkeypatch.setattr(bodies_room, "WORTH_BYTES", 0)
