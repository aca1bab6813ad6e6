"""A body whose key is known before the request is read: served from what is there, and nothing is made."""

import threading

import pytest

from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import FlightFailed, Notice
from govc.cache.folder import CacheFolder
from govc.cache.record import FlightState
from tests.cache.readers import ChunkReader
from tests.waiting import wait_until

KEY = b"k" * 20
HEAD = b"head|"
BIG = bytes(range(256)) * 4096


def known():
    return BodyRequest(key=KEY, expected_bytes=1, keepalive=b"", quiet_seconds=3600.0)


class Production:
    """Makes the head, and the rest when it may."""

    def __init__(self):
        self.goes_on = threading.Event()
        self.begun = 0

    def __call__(self):
        self.begun += 1
        yield Notice(HEAD)
        while not self.goes_on.wait(0.01):
            yield None
        yield BIG

    def wish(self):
        return BodyRequest(key=KEY, produce=self, head=HEAD, expected_bytes=1, keepalive=b"", quiet_seconds=3600.0)


def outcome(reader):
    """What was served, and what `serve_known` returned."""
    return reader.result(), reader.returned


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

    return [BodyCache(CacheFolder(str(tmp_path / "cache"), 64 << 20), count=count) for _ in range(2)]


def test_where_nothing_is_nothing_is_made(caches, counted):
    assert outcome(ChunkReader(caches[0].serve_known(known()))) == (b"", 0)
    assert outcome(ChunkReader(BodyCache(None).serve_known(known()))) == (b"", 0)
    assert counted == {}


def test_a_whole_body_is_sent(caches, counted):
    production = Production()
    production.goes_on.set()
    ChunkReader(caches[0].serve(production.wish())).result()
    wait_until(lambda: caches[0].folder.has_body(KEY.hex()))
    wait_until(lambda: not caches[0]._flights)
    for cache in caches:
        assert outcome(ChunkReader(cache.serve_known(known()))) == (HEAD + BIG, None)
    assert (production.begun, counted) == (1, {"miss": 1, "hit": 2})


def test_a_flight_is_followed(caches, counted):
    production = Production()
    first = ChunkReader(caches[0].serve(production.wish()))
    wait_until(lambda: first.seen == HEAD)
    others = [ChunkReader(cache.serve_known(known())) for cache in caches]
    wait_until(lambda: all(reader.seen == HEAD for reader in others))
    production.goes_on.set()
    assert [outcome(reader) for reader in (first, *others)] == [(HEAD + BIG, None)] * 3
    assert (production.begun, counted) == (1, {"miss": 1, "follow": 2})


@pytest.mark.parametrize("data_start", [0, 3])
def test_who_has_got_no_data_goes_on_where_he_was(caches, data_start):
    """The flight is given up: what was sent of the head isn't sent again, and of data nothing can be."""
    production = Production()
    first = ChunkReader(caches[0].serve(production.wish()))
    wait_until(lambda: first.seen == HEAD)
    other = ChunkReader(caches[0].serve_known(known()))
    wait_until(lambda: other.seen == HEAD)
    flight = caches[0]._flights[KEY.hex()]
    flight._tell(flight.status._replace(state=FlightState.ABANDONED, data_start=data_start))
    if data_start:
        with pytest.raises(FlightFailed):
            outcome(other)
    else:
        assert outcome(other) == (HEAD, len(HEAD))
        again = Production()
        again.goes_on.set()
        rest = caches[1].serve(BodyRequest(**{**vars_of(again.wish()), "key": None}), len(HEAD))
        assert outcome(ChunkReader(rest)) == (BIG, None)
    production.goes_on.set()


def vars_of(wish):
    return {name: getattr(wish, name) for name in wish.__slots__}
