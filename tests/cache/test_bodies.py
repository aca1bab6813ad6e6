"""One production, many readers, in one process and (by two caches over one folder) in several.

flock belongs to open files, not to processes, so two `BodyCache`s over one folder behave as two workers do; only the
death of a worker needs a real process.
"""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, suppress

import pytest

from govc.cache import bodies as bodies_room
from govc.cache import flight as flight_room
from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import Dropped, FlightFailed, Notice, RemoteFlight
from govc.cache.folder import CacheFolder
from govc.cache.record import FlightState, FlightStatus
from govc.cache.views import view_of
from govc.errors import ObjectMissing
from tests.cache.readers import ChunkReader, as_bytes, note_remote_joins
from tests.waiting import SECONDS, wait_until

KEY = b"k" * 20
HEAD = b"head|"
BIG = bytes(range(256)) * 4096  # 1 MiB


class Counts(dict):
    """Counted by readers in threads of their own."""

    lock = threading.Lock()

    def __call__(self, what, number, size):
        with self.lock:
            old = self.get(what, (0, 0))
            self[what] = (old[0] + number, old[1] + size)


class Recipe:
    """A production that waits for a permit before each piece but the head, and remembers how it went."""

    def __init__(self, pieces, permits=None):
        self.pieces = pieces
        self.permits = threading.Semaphore(1 << 30 if permits is None else permits)
        self.begun = 0
        self.ended = threading.Event()

    def __call__(self):
        self.begun += 1
        try:
            yield Notice(HEAD)
            for piece in self.pieces:
                while not self.permits.acquire(timeout=0.01):
                    yield None
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.ended.set()

    @property
    def body(self):
        return HEAD + b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def wish(recipe, key=KEY, **more):
    given = {"expected_bytes": 1, "keepalive": b"", "quiet_seconds": 0.02, **more}
    return BodyRequest(key=key, produce=recipe, head=HEAD, **given)


def read(cache, recipe, **more):
    return b"".join(map(as_bytes, cache.serve(wish(recipe, **more))))


def start_reader(cache, recipe, pause=0.0, **more):
    return ChunkReader(cache.serve(wish(recipe, **more)), pause)


@pytest.fixture
def folder(tmp_path):
    return CacheFolder(str(tmp_path / "cache"), 64 << 20)


@pytest.fixture
def here(folder):
    return BodyCache(folder, count=Counts())


@pytest.fixture
def there(folder):
    """A cache as another worker has it."""
    return BodyCache(CacheFolder(folder.cache_dir, 64 << 20), count=Counts())


def open_files():
    """The paths of this process's open files; some may be closed while they are listed."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{name}")


@pytest.fixture
def nothing_is_left(folder):
    yield
    wait_until(
        lambda: not os.path.isdir(folder.path) or all(name.endswith(".body") for name in os.listdir(folder.path))
    )
    wait_until(lambda: not any(folder.cache_dir in path for path in open_files()))


pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_the_second_reader_gets_the_file(here, there, folder):
    recipe = Recipe([BIG, b"end"])
    assert read(here, recipe) == recipe.body
    wait_until(lambda: os.path.exists(folder.body_path(KEY.hex())))
    chunks = list(here.serve(wish(recipe)))
    assert [chunk.whole_name for chunk in chunks] == [f"{folder.name}/{KEY.hex()}.body"]
    assert read(there, recipe) == recipe.body
    assert recipe.begun == 1
    assert here._count == {"miss": (1, len(recipe.body)), "hit": (1, len(recipe.body))}
    assert there._count == {"hit": (1, len(recipe.body))}


def test_a_head_goes_with_what_follows_it_soon(here, monkeypatch):
    monkeypatch.setattr(flight_room, "FLUSH_SECONDS", 60.0)
    recipe = Recipe([BIG])
    chunks = here.serve(wish(recipe))
    assert as_bytes(next(chunks)) == recipe.body
    assert list(chunks) == []


def test_a_head_is_told_before_an_error_that_follows_it(here, monkeypatch):
    monkeypatch.setattr(flight_room, "FLUSH_SECONDS", 60.0)
    chunks = here.serve(wish(Recipe([ObjectMissing(b"o" * 20)])))
    assert as_bytes(next(chunks)) == HEAD
    with pytest.raises(FlightFailed):
        next(chunks)


def test_other_keys_are_other_bodies(here):
    one, other = Recipe([BIG]), Recipe([BIG[::-1]])
    assert read(here, one) != read(here, other, key=b"o" * 20)


def test_without_key_or_folder_each_makes_his_own(here, folder):
    recipe = Recipe([b"abc"])
    assert read(here, recipe, key=None) == read(BodyCache(None), recipe) == recipe.body
    assert (recipe.begun, os.listdir(folder.path)) == (2, [])


def test_what_is_not_worth_it_is_not_kept(here, folder, monkeypatch):
    monkeypatch.setattr(bodies_room, "WORTH_SECONDS", 1e9)  # a busy machine may take long over anything
    recipe = Recipe([b"small"])
    assert read(here, recipe) == read(here, recipe) == recipe.body
    wait_until(lambda: os.listdir(folder.path) == [])
    assert recipe.begun == 2


def test_what_took_long_is_kept_however_small(here, folder, monkeypatch):
    monkeypatch.setattr(bodies_room, "WORTH_SECONDS", 0.0)
    assert read(here, Recipe([b"small"])) == HEAD + b"small"
    wait_until(lambda: os.path.exists(folder.body_path(KEY.hex())))


def test_followers_read_what_is_there_and_then_as_it_comes(here, there):
    recipe = Recipe([BIG, b"middle", BIG, b"end"], permits=2)
    readers = [start_reader(here, recipe)]
    wait_until(lambda: len(readers[0].seen) == len(HEAD) + len(BIG) + 6)
    readers += [start_reader(cache, recipe) for cache in (here, there, there, here)]
    for reader in readers:
        wait_until(lambda reader=reader: len(reader.seen) == len(HEAD) + len(BIG) + 6)
    recipe.permits.release(2)
    assert {reader.result() for reader in readers} == {recipe.body}
    assert recipe.begun == 1
    assert here._count["follow"][0] == there._count["follow"][0] == 2


def test_fifty_at_once_are_one_production(here, there):
    recipe = Recipe([BIG] * 3)
    readers = [start_reader(cache, recipe) for cache in (here, there) for _ in range(25)]
    assert {reader.result() for reader in readers} == {recipe.body}
    assert recipe.begun == 1


def test_who_comes_while_a_flight_begins_is_in_it_and_not_beside_it(here, monkeypatch):
    """One who comes between the flight's name in the folder and its entry in our list takes it for another process's:
    on a disk that fills up he would be dropped."""
    recipe = Recipe([BIG], permits=0)
    others, took_ours_for_remote = [], note_remote_joins(monkeypatch)
    begin = flight_room.begin

    def slow_begin(*arguments, **options):
        flight = begin(*arguments, **options)
        others.append(start_reader(here, recipe))
        took_ours_for_remote.wait(0.3)  # as long as the defect gets to show itself
        return flight

    monkeypatch.setattr(bodies_room, "begin", slow_begin)
    first = start_reader(here, recipe)
    wait_until(lambda: others and len(others[0].seen) == len(first.seen) == len(HEAD))
    assert not took_ours_for_remote.is_set()
    assert len(here._flights[KEY.hex()].followers) == 2
    recipe.permits.release()
    assert first.result() == others[0].result() == recipe.body


@pytest.mark.usefixtures("small_disk")
def test_who_comes_while_a_flight_closes_does_not_follow_it(here, folder, monkeypatch):
    """A flight that becomes a ring takes nobody in: not as a follower from elsewhere either."""
    recipe = Recipe([BIG] * 8, permits=1)
    first = start_reader(here, recipe)
    wait_until(lambda: len(first.seen) > len(HEAD))
    late, real = [], os.unlink

    def unlink(path, **options):
        if path.endswith(".flight") and not late:
            late.append(start_reader(here, recipe))
            time.sleep(0.3)  # as long as the defect gets to show itself
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    recipe.permits.release(1000)
    assert first.result() == recipe.body
    assert late[0].result() == recipe.body


def test_without_a_thread_to_produce_in_nobody_waits_for_it(here, folder, monkeypatch):
    def no_thread(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            read(here, Recipe([BIG]))
    assert (here._flights, os.listdir(folder.path)) == ({}, [])
    recipe = Recipe([BIG])
    assert read(here, recipe) == recipe.body


def test_a_reader_who_leaves_ends_only_his_own(here, there):
    recipe = Recipe([BIG, BIG], permits=1)
    first = here.serve(wish(recipe))
    next(first)
    others = [start_reader(here, recipe), start_reader(there, recipe)]
    wait_until(lambda: all(len(reader.seen) > len(HEAD) for reader in others))
    first.close()
    recipe.permits.release(1)
    assert {reader.result() for reader in others} == {recipe.body}


@pytest.mark.parametrize("where", ["here", "there"])
def test_when_the_last_one_leaves_the_production_ends(here, there, where):
    recipe = Recipe([BIG, BIG, BIG], permits=1)
    first = here.serve(wish(recipe))
    next(first)
    second = (here if where == "here" else there).serve(wish(recipe))
    next(second)
    first.close()
    assert not recipe.ended.wait(0.1)
    second.close()
    assert recipe.ended.wait(SECONDS)
    # And who comes now begins anew.
    recipe.permits.release(1 << 20)
    assert read(there, recipe) == recipe.body


def test_a_flight_that_nobody_wants_takes_no_name_from_the_one_that_follows_it(here, there, folder):
    may_end = threading.Event()

    class Slow(Recipe):
        def __call__(self):
            try:
                yield from super().__call__()
            finally:
                may_end.wait(SECONDS)

    slow, recipe = Slow([BIG, BIG], permits=1), Recipe([BIG, b"end"], permits=1)
    first = here.serve(wish(slow))
    next(first)
    ending = here._flights[KEY.hex()]
    first.close()
    wait_until(lambda: not ending.is_open)
    second = start_reader(there, recipe)
    wait_until(lambda: folder.has_flight(KEY.hex()) and recipe.begun == 1)
    may_end.set()
    assert ending.ended.wait(SECONDS)
    assert folder.has_flight(KEY.hex())
    third = start_reader(here, recipe)
    wait_until(lambda: len(third.seen) > len(HEAD))
    recipe.permits.release()
    assert third.result() == second.result() == recipe.body
    assert recipe.begun == 1


def test_an_error_reaches_every_reader(here, there):
    recipe = Recipe([BIG, ObjectMissing(b"o" * 20)], permits=1)
    readers = [start_reader(cache, recipe) for cache in (here, there, here)]
    wait_until(lambda: all(len(reader.seen) > len(HEAD) for reader in readers))
    recipe.permits.release()
    for reader in readers:
        with pytest.raises(FlightFailed):
            reader.result()
    assert recipe.begun == 1


def test_a_bug_reaches_every_reader_too(here):
    with pytest.raises(FlightFailed):
        read(here, Recipe([b"x", ValueError("a bug")]))


def test_an_error_of_a_direct_production_comes_as_it_is(here):
    with pytest.raises(ObjectMissing):
        read(here, Recipe([ObjectMissing(b"o" * 20)]), key=None)


@pytest.mark.parametrize("key", [KEY, None])
def test_silences_are_filled_with_keepalives_between_packets(here, key):
    recipe = Recipe([b"data"], permits=0)
    reader = start_reader(here, recipe, key=key, keepalive=b"<still here>")
    wait_until(lambda: reader.seen.count(b"<still here>") >= 2)
    recipe.permits.release()
    assert reader.result().replace(b"<still here>", b"") == recipe.body


def test_a_follower_is_kept_alive_as_well(here, there):
    recipe = Recipe([b"data"], permits=0)
    readers = [start_reader(cache, recipe, keepalive=b"<still here>") for cache in (here, there)]
    wait_until(lambda: all(reader.seen.count(b"<still here>") >= 2 for reader in readers))
    recipe.permits.release()
    assert [reader.result().replace(b"<still here>", b"") for reader in readers] == [recipe.body] * 2


def test_the_producer_waits_for_the_fastest_reader(folder, monkeypatch):
    here = BodyCache(folder, ahead_bytes_max=3 << 20)
    there = BodyCache(CacheFolder(folder.cache_dir, 64 << 20))
    recipe = Recipe([BIG] * 12)
    slow = here.serve(wish(recipe))
    first = as_bytes(next(slow))
    flight = here._flights[KEY.hex()]
    wait_until(lambda: flight.status.published > 3 << 20)
    time.sleep(0.1)
    assert flight.status.published <= (5 << 20)
    assert read(there, recipe) == recipe.body  # the fastest may be in another process
    assert first + b"".join(map(as_bytes, slow)) == recipe.body


def test_a_folder_that_is_deleted_meanwhile_hurts_nobody(here, there, folder):
    recipe = Recipe([BIG, BIG], permits=1)
    reader = start_reader(here, recipe)
    wait_until(lambda: len(reader.seen) > len(HEAD))
    shutil.rmtree(folder.cache_dir)
    recipe.permits.release(10)
    assert reader.result() == recipe.body
    assert read(there, recipe) == recipe.body


def test_a_body_that_is_evicted_while_it_is_read_is_read_to_its_end(here, folder):
    recipe = Recipe([BIG] * 3)
    assert read(here, recipe) == recipe.body
    wait_until(lambda: os.path.exists(folder.body_path(KEY.hex())))
    chunks = here.serve(wish(recipe))
    span = next(chunks)
    os.unlink(folder.body_path(KEY.hex()))
    assert as_bytes(span) == recipe.body
    chunks.close()


def test_a_file_that_was_cut_short_is_an_error(here, folder):
    recipe = Recipe([BIG] * 3)
    read(here, recipe)
    wait_until(lambda: os.path.exists(folder.body_path(KEY.hex())))
    with closing(here.serve(wish(recipe))) as chunks:
        span = next(chunks)
        os.truncate(folder.body_path(KEY.hex()), 1 << 20)
        with pytest.raises(OSError, match="early"):
            as_bytes(span)


def test_where_there_is_no_room_each_makes_his_own(here, folder):
    recipe = Recipe([BIG])
    assert read(here, recipe, expected_bytes=1 << 40) == recipe.body
    assert (os.listdir(folder.path), here._count["direct"]) == ([], (1, len(recipe.body)))


def test_old_bodies_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr("govc.cache.folder.SWEEP_SECONDS", 0)
    folder = CacheFolder(str(tmp_path / "small"), 3 << 20)
    cache = BodyCache(folder, count=Counts())
    recipe = Recipe([BIG])
    for number in range(6):
        read(cache, recipe, key=bytes((number,)) * 20)
        wait_until(lambda: not cache._flights)
    wait_until(lambda: len(os.listdir(folder.path)) == 2)
    wait_until(lambda: cache._count["evicted"] == (4, 4 * len(recipe.body)))


# A full disk


@pytest.fixture
def small_disk(monkeypatch):
    """Files of at most 5 MiB, whoever writes them."""
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        room = (5 << 20) - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, memoryview(data)[:room], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_fills_up_costs_no_byte(here, folder):
    pieces = [bytes((number,)) * (700_000 + number) for number in range(40)]
    recipe = Recipe(pieces, permits=1)
    readers = [start_reader(here, recipe), start_reader(here, recipe, pause=0.01), start_reader(here, recipe)]
    wait_until(lambda: all(len(reader.seen) > len(HEAD) for reader in readers))
    recipe.permits.release(1000)
    assert [reader.result() == recipe.body for reader in readers] == [True] * 3
    assert recipe.begun == 1
    wait_until(lambda: os.listdir(folder.path) == [])


@pytest.mark.usefixtures("small_disk")
def test_on_a_full_disk_who_stands_still_is_dropped_and_the_others_go_on(here):
    recipe = Recipe([BIG] * 30, permits=1)
    still = here.serve(wish(recipe))
    next(still)
    (his_place,) = here._flights[KEY.hex()].followers
    his_place.moved_at = -math.inf  # a minute is over for him, and for nobody who is only slow
    reader = start_reader(here, recipe)
    wait_until(lambda: len(reader.seen) > len(HEAD))
    recipe.permits.release(1000)
    assert reader.result() == recipe.body
    with pytest.raises(Dropped):
        list(still)


@pytest.mark.usefixtures("small_disk")
def test_on_a_full_disk_who_follows_from_elsewhere_ends_with_an_error(here, there):
    recipe = Recipe([BIG] * 30, permits=1)
    reader = start_reader(here, recipe)
    wait_until(lambda: len(reader.seen) > len(HEAD))
    other = start_reader(there, recipe)
    wait_until(lambda: len(other.seen) > len(HEAD))
    recipe.permits.release(1000)
    assert reader.result() == recipe.body
    with pytest.raises((Dropped, FlightFailed)):
        other.result()
    assert recipe.body.startswith(bytes(other.seen))


@pytest.mark.parametrize("position", [0, 5, 10])
def test_on_a_full_disk_who_follows_from_elsewhere_and_has_no_data_yet_goes_on_alone(here, position):
    status = FlightStatus(FlightState.RUNNING, 5 << 20, 10, 4 << 20)
    view = view_of(RemoteFlight(-1, -1, "x.part"), time.sleep)
    view.read = lambda: status
    with pytest.raises(bodies_room._Gone) as gone:
        next(here._follow(view, wish(Recipe([])), position, "follow"))
    assert gone.value.check() == position
    assert not gone.value.may_try_again
    with pytest.raises(Dropped):
        next(here._follow(view, wish(Recipe([])), 11, "follow"))


def test_a_disk_that_is_full_at_once_leaves_each_to_himself(here, monkeypatch, folder):
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        if offset + len(data) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    recipe = Recipe([BIG] * 2)
    assert read(here, recipe) == recipe.body
    assert recipe.begun == 2


# A worker that is killed

_PRODUCER = """
    import sys, time
    from govc.cache.bodies import BodyCache, BodyRequest
    from govc.cache.flight import Notice
    from govc.cache.folder import CacheFolder

    def produce():
        yield Notice(b"head|")
        yield Notice(b"progress|")
        if sys.argv[2] == "data":
            yield b"d" * (1 << 20)
        while True:
            time.sleep(0.01)
            yield None

    cache = BodyCache(CacheFolder(sys.argv[1], 64 << 20))
    wish = BodyRequest(
        key=b"k" * 20, produce=produce, head=b"head|", expected_bytes=1, keepalive=b"", quiet_seconds=9.0
    )
    sent, enough = 0, 1 << 20 if sys.argv[2] == "data" else 1
    for chunk in cache.serve(wish):
        before, sent = sent, sent + (len(chunk) if isinstance(chunk, bytes) else chunk.length)
        if before < enough <= sent:
            print("sent", flush=True)
"""


@pytest.fixture
def producer(folder):
    """Starts a process that produces; ends it at the end."""
    started = []

    def start(how):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_PRODUCER), folder.cache_dir, how], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_who_has_no_data_yet_goes_on_when_the_producers_process_is_killed(here, there, producer):
    process = producer("progress")
    recipe = Recipe([BIG, b"end"])
    readers = [start_reader(cache, recipe) for cache in (here, there)]
    wait_until(lambda: all(bytes(reader.seen) == b"head|progress|" for reader in readers))
    os.kill(process.pid, signal.SIGKILL)
    # Who begins again may see progress twice, and nothing else.
    assert {reader.result().replace(b"progress|", b"") for reader in readers} == {recipe.body}
    assert recipe.begun == 1


def test_who_waits_for_the_whole_takes_nothing_from_a_dead_producer(here, producer):
    """What it left can't be ended, and nothing of it was sent: he begins again."""
    process = producer("data")
    recipe = Recipe([BIG, b"end"])
    reader = start_reader(here, recipe, whole_seconds=3600.0)
    wait_until(lambda: flight_room._glances)  # he waits
    os.kill(process.pid, signal.SIGKILL)
    assert reader.result() == recipe.body
    assert recipe.begun == 1


def test_who_finds_a_dead_flight_and_others_at_it_does_not_go_on_alone(here, monkeypatch):
    """A lock that another one probes just now looks alive, and who begins may be a moment too late: look again."""
    recipe = Recipe([BIG])
    begin, refused = flight_room.begin, []

    def slower_than_others(*arguments, **options):
        if len(refused) < 4:
            refused.append(True)
            return None
        return begin(*arguments, **options)

    monkeypatch.setattr(bodies_room, "begin", slower_than_others)
    assert read(here, recipe) == recipe.body
    assert set(here._count) == {"miss"}


def test_who_has_data_fails_when_the_producers_process_is_killed(here, producer):
    process = producer("data")
    recipe = Recipe([BIG])
    reader = start_reader(here, recipe)
    wait_until(lambda: len(reader.seen) > len(BIG))
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(FlightFailed):
        reader.result()
    # What the dead one left is in nobody's way.
    assert read(here, recipe) == recipe.body
