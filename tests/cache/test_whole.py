"""Readers who would rather have the whole body, as a file with a name: behind a server that sends files."""

import errno
import os
import threading
import time

import pytest

from govc.cache import bodies as bodies_room
from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import FlightFailed, Notice
from govc.cache.folder import CacheFolder
from govc.errors import ClientGone, ObjectMissing
from tests.cache.readers import ChunkReader, note_remote_joins
from tests.waiting import SECONDS, wait_until

KEY = b"k" * 20
HEAD = b"head|"
BIG = bytes(range(256)) * 4096  # 1 MiB
LONG = 3600.0


class Recipe:
    """A production that ends when it may, and counts how often it began."""

    def __init__(self, *pieces, waits=False):
        self.pieces = pieces
        self.may_end = threading.Event()
        self.begun = 0
        if not waits:
            self.may_end.set()

    def __call__(self):
        self.begun += 1
        yield Notice(HEAD)
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        while not self.may_end.wait(0.01):
            yield None

    @property
    def body(self):
        return HEAD + b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def start_reader(cache, recipe, **more):
    given = {"expected_bytes": 1, "keepalive": b"", "quiet_seconds": LONG, "whole_seconds": LONG, **more}
    return ChunkReader(cache.serve(BodyRequest(key=KEY, produce=recipe, head=HEAD, **given)))


@pytest.fixture
def counted():
    return {}


@pytest.fixture
def caches(tmp_path, counted):
    """Two, as two workers have them."""

    lock = threading.Lock()  # readers count in threads of their own

    def count(what, number, _size):
        with lock:
            counted[what] = counted.get(what, 0) + number

    def make():
        return BodyCache(CacheFolder(str(tmp_path / "cache"), 64 << 20), count=count, ahead_bytes_max=2 << 20)

    return make(), make()


def wait_for_flight(cache, published):
    wait_until(lambda: KEY.hex() in cache._flights and cache._flights[KEY.hex()].status.published >= published)


def test_all_of_them_get_the_file_of_one_production(caches, counted):
    recipe = Recipe(BIG, BIG, waits=True)
    readers = [start_reader(caches[0], recipe)]
    wait_for_flight(caches[0], 2 * len(BIG))
    readers += [start_reader(cache, recipe) for cache in caches for _ in range(3)]
    wait_until(lambda: len(caches[0]._flights[KEY.hex()].followers) == 4)
    assert not any(reader.seen for reader in readers)
    recipe.may_end.set()
    assert {reader.result() for reader in readers} == {recipe.body}
    assert {tuple(reader.names) for reader in readers} == {(caches[0].folder.relative_name(KEY.hex()),)}
    assert recipe.begun == 1
    assert counted["miss"] == 1
    assert counted.get("follow", 0) + counted.get("hit", 0) == 6


@pytest.mark.parametrize("where", [0, 1])
def test_a_production_does_not_wait_for_who_waits_for_its_end(caches, where):
    """It may be two MiB ahead of its readers, and this one reads nothing before the end."""
    recipe = Recipe(*[BIG] * 8, waits=True)
    first = start_reader(caches[0], recipe, whole_seconds=LONG if where == 0 else 0.0)
    wait_for_flight(caches[0], 1)  # it is the one who produces
    reader = first if where == 0 else start_reader(caches[1], recipe)
    wait_for_flight(caches[0], 8 * len(BIG))
    recipe.may_end.set()
    assert reader.result() == first.result() == recipe.body


def test_what_takes_too_long_is_read_as_it_comes(caches):
    recipe = Recipe(BIG, waits=True)
    readers = [start_reader(cache, recipe, whole_seconds=0.01) for cache in caches]
    for reader in readers:
        wait_until(lambda reader=reader: len(reader.seen) == len(recipe.body))
    recipe.may_end.set()
    assert {reader.result() for reader in readers} == {recipe.body}
    assert not any(name for reader in readers for name in reader.names)


def test_what_will_be_too_large_is_not_waited_for(caches, monkeypatch):
    monkeypatch.setattr(bodies_room, "WHOLE_BYTES_MAX", 1000)
    recipe = Recipe(BIG, waits=True)
    reader = start_reader(caches[0], recipe, expected_bytes=1001)
    wait_until(lambda: len(reader.seen) == len(recipe.body))
    recipe.may_end.set()
    assert reader.result() == recipe.body


def test_what_is_not_kept_is_read_all_the_same(caches, monkeypatch):
    monkeypatch.setattr(bodies_room, "WORTH_BYTES", 1 << 30)
    monkeypatch.setattr(bodies_room, "WORTH_SECONDS", 1e9)
    recipe = Recipe(b"small", waits=True)
    readers = [start_reader(caches[0], recipe)]
    wait_for_flight(caches[0], 5)
    readers.append(start_reader(caches[0], recipe))
    wait_until(lambda: len(caches[0]._flights[KEY.hex()].followers) == 2)
    recipe.may_end.set()
    assert [reader.result() for reader in readers] == [recipe.body] * 2
    assert recipe.begun == 1


def test_an_error_reaches_who_waits(caches):
    with pytest.raises(FlightFailed):
        start_reader(caches[0], Recipe(BIG, ObjectMissing(b"o" * 20))).result()


def test_who_hangs_up_waits_no_more(caches, monkeypatch):
    monkeypatch.setattr(bodies_room, "GONE_SECONDS", 0.0)
    recipe = Recipe(BIG, waits=True)
    reader = start_reader(caches[0], recipe, is_gone=lambda: True)
    with pytest.raises(ClientGone):
        reader.result()
    wait_until(lambda: not caches[0]._flights)  # nobody is left, so the production ends


def test_on_a_disk_that_fills_up_who_waits_gets_all_of_it(caches, monkeypatch):
    """In the producer's process from the ring, elsewhere by himself: he has got nothing that was lost."""
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        room = (5 << 20) - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, memoryview(data)[:room], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    may_go_on, is_followed = threading.Event(), note_remote_joins(monkeypatch)

    class Slow(Recipe):
        def __call__(self):
            for number, piece in enumerate(super().__call__()):
                while number == 3 and not may_go_on.is_set():
                    yield None
                    time.sleep(0.01)
                yield piece

    recipe = Slow(*[BIG] * 8)
    here = start_reader(caches[0], recipe)
    wait_for_flight(caches[0], len(BIG))
    there = start_reader(caches[1], recipe)
    assert is_followed.wait(SECONDS)
    may_go_on.set()
    assert here.result() == there.result() == recipe.body
    assert recipe.begun == 2
