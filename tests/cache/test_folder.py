"""The folder: whose it is, what stays in it, what goes."""

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from types import SimpleNamespace

import pytest

from govc.cache import folder as folder_room
from govc.cache.folder import (
    CacheFolder,
    CacheUnusable,
    default_cache_dir,
    make_boot_folder,
    read_boot_id,
    touch,
)
from govc.cache.record import claim, initialize
from tests.waiting import wait_until

SECOND = 1_000_000_000
BEGIN = 1_700_000_000


@pytest.fixture
def cache(tmp_path):
    return CacheFolder(str(tmp_path / "cache"), 1000)


def put(cache, key, size, *, entered=BEGIN, used=False):
    path = cache.body_path(key)
    with open(path, "wb") as file:
        file.write(b"x" * size)
    stamp = entered * SECOND
    os.utime(path, ns=(stamp + (1 if used else 0), stamp))
    return path


def names(cache):
    return sorted(os.listdir(cache.path))


def test_the_folder_is_private_whatever_the_umask_is(tmp_path):
    old = os.umask(0o777)
    try:
        cache = CacheFolder(str(tmp_path / "cache"), 1000)
        group = CacheFolder(str(tmp_path / "shared"), 1000, group_reads=True)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(cache.path).st_mode) == stat.S_IMODE(os.stat(cache.cache_dir).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(group.path).st_mode) == 0o750
    descriptor, path = cache.create()
    os.close(descriptor)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_missing_parents_are_made(tmp_path):
    assert os.path.isdir(CacheFolder(str(tmp_path / "a" / "b" / "cache"), 1000).path)


@pytest.mark.parametrize("name", ["cache", "a/cache"])
def test_another_worker_may_make_the_folder_meanwhile(tmp_path, monkeypatch, name):
    """At each step: just before we would."""
    real = os.mkdir

    def quicker(path, *mode):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            real(path, *mode)
        real(path, *mode)

    monkeypatch.setattr(os, "mkdir", quicker)
    assert os.path.isdir(CacheFolder(str(tmp_path / name), 1000).path)
    assert os.path.isdir(make_boot_folder(str(tmp_path / "b" / name), "shared-"))


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_write_to_is_not_trusted(tmp_path, mode):
    place = tmp_path / "cache"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(CacheUnusable, match="others may write"):
        CacheFolder(str(place), 1000)


def test_a_link_or_a_file_in_its_place_is_not_trusted(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(CacheUnusable, match="not a folder"):
            CacheFolder(str(tmp_path / name), 1000)


def test_another_users_folder_is_not_trusted(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CacheUnusable, match="another user"):
        CacheFolder(str(tmp_path / "cache"), 1000)


def test_a_place_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnusable):
        CacheFolder(str(tmp_path / "file" / "cache"), 1000)


def test_what_another_boot_left_is_removed(tmp_path):
    old = CacheFolder(str(tmp_path), 1000, boot_id="b00t" * 8)
    put(old, "a", 10)
    (tmp_path / "notes").mkdir()
    new = CacheFolder(str(tmp_path), 1000)
    assert sorted(os.listdir(tmp_path)) == [new.name, "notes"]


def test_the_boot_id_must_look_like_one(tmp_path):
    (tmp_path / "id").write_text("../..\n")
    with pytest.raises(CacheUnusable):
        read_boot_id(str(tmp_path / "id"))
    with pytest.raises(CacheUnusable):
        read_boot_id(str(tmp_path / "absent"))


def test_where_it_lies_by_default(monkeypatch):
    uid = os.geteuid()
    assert default_cache_dir({"XDG_CACHE_HOME": "/x", "TMPDIR": "/t"}) == "/x/govc"
    assert default_cache_dir({"XDG_CACHE_HOME": "relative", "TMPDIR": "/t"}) == f"/t/govc-cache-{uid}"
    assert default_cache_dir({}) == f"/var/tmp/govc-cache-{uid}"
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert default_cache_dir({}) == f"{tempfile.gettempdir()}/govc-cache-{uid}"


def test_the_clock_takes_the_oldest_and_spares_what_was_used(cache):
    put(cache, "old-used", 400, entered=BEGIN, used=True)
    put(cache, "old", 400, entered=BEGIN + 1)
    put(cache, "new", 400, entered=BEGIN + 2)
    swept = cache.sweep(400, now=1000.0)
    assert (swept.evicted, swept.evicted_bytes, swept.bytes_left) == (1, 400, 800)
    assert names(cache) == ["new.body", "old-used.body"]
    # Its second life begins now: the mark is gone, and "new" is the older one.
    put(cache, "newest", 400, entered=BEGIN + 3)
    os.utime(cache.body_path("newest"))
    cache.sweep(400, now=2000.0)
    assert names(cache) == ["newest.body", "old-used.body"]


def test_when_all_were_used_the_oldest_go_all_the_same(cache):
    for number in range(5):
        put(cache, f"k{number}", 400, entered=BEGIN + number, used=True)
    assert cache.sweep(400, now=1000.0).evicted == 3
    assert names(cache) == ["k3.body", "k4.body"]


def test_a_use_is_marked_once_per_turn(cache):
    path = put(cache, "a", 10)
    os.close(cache.open_body("a"))
    first = os.stat(path)
    assert first.st_atime_ns > first.st_mtime_ns == BEGIN * SECOND
    with open(path, "rb") as file:
        touch(file.fileno())
    assert os.stat(path).st_atime_ns == first.st_atime_ns
    assert cache.open_body("absent") == -1


def test_sweeps_are_rare_unless_much_comes_in(cache):
    assert cache.sweep(1, now=1000.0) is not None
    assert cache.sweep(1, now=1001.0) is None
    assert cache.sweep(100, now=1002.0) is not None
    assert cache.sweep(1, now=1003.0) is None
    assert cache.sweep(1, now=1040.0) is not None


def test_whether_a_sweep_is_due_is_told_before_it(cache):
    assert cache.is_sweep_due(0)
    cache.sweep(0)
    assert not cache.is_sweep_due(1)
    assert cache.is_sweep_due(cache.bytes_max)


def test_leftovers_of_the_dead_go_and_the_living_stay(cache):
    def flight(key, part_id, age):
        record = os.open(f"{cache.path}/{key}.flight", os.O_RDWR | os.O_CREAT)
        initialize(record, part_id)
        with open(f"{cache.path}/{key}.{part_id}.part", "wb") as part:
            part.write(b"x" * 50)
        os.utime(f"{cache.path}/{key}.{part_id}.part", (BEGIN - age, BEGIN - age))
        return record

    os.close(flight("dead", "0" * 16, 0))
    alive = flight("alive", "1" * 16, 0)
    assert claim(alive)
    (open(f"{cache.path}/new-old", "wb")).close()
    os.utime(f"{cache.path}/new-old", (BEGIN, BEGIN))
    (open(f"{cache.path}/new-young", "wb")).close()
    cache.sweep(1, now=1000.0)
    assert names(cache) == [f"alive.{'1' * 16}.part", "alive.flight", "new-young"]
    os.close(alive)


def test_what_a_flight_borrows_stays_though_the_flight_began_after_the_listing(cache):
    """The listing may hold a name that was made later than one it doesn't hold."""
    base = f"{cache.path}/key.{'0' * 16}.base"
    open(base, "wb").close()
    os.utime(base, (BEGIN, BEGIN))
    listed = [(base, os.stat(base))]
    flight = os.open(f"{cache.path}/key.flight", os.O_RDWR | os.O_CREAT)
    assert claim(flight)
    folder_room._remove_abandoned(listed)
    assert os.path.exists(base)
    os.close(flight)
    cache.sweep(1, now=1000.0)
    assert names(cache) == []


def test_the_last_body_of_a_line_that_came_after_the_listing_is_known(cache, monkeypatch):
    """What is listed under the line's name, and is old, named a body that has gone."""
    line, old, new = "1" * 40, "a" * 40, "b" * 40
    cache.write_line(line, old, b"")
    os.utime(f"{cache.path}/{line}.line", (BEGIN, BEGIN))
    real = folder_room._remove_abandoned

    def come_then_remove(*listed):
        put(cache, new, 10)
        cache.write_line(line, new, b"note")
        return real(*listed)

    monkeypatch.setattr(folder_room, "_remove_abandoned", come_then_remove)
    cache.sweep(1, now=1000.0)
    elder = cache.find_elder(line)
    assert elder is not None
    assert elder.note == b"note"
    elder.body.close()


def test_without_locks_that_belong_to_open_files_there_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("govc.ofd_lock.IS_AVAILABLE", False)
    with pytest.raises(CacheUnusable, match="no locks"):
        CacheFolder(str(tmp_path / "cache"), 1000)
    assert not (tmp_path / "cache").exists()


def test_a_deleted_folder_is_made_again_when_it_is_needed(cache):
    shutil.rmtree(cache.cache_dir)
    assert cache.open_body("a") == -1
    assert cache.sweep(1, now=1000.0) is None
    descriptor, path = cache.create()
    os.close(descriptor)
    assert os.path.exists(path)


def test_a_deleted_folder_that_became_somebody_elses_is_an_error(cache, tmp_path):
    shutil.rmtree(cache.cache_dir)
    os.mkdir(cache.cache_dir, 0o777)
    os.chmod(cache.cache_dir, 0o777)
    with pytest.raises(OSError, match="others may write"):
        cache.create()


def test_a_body_is_begun_only_where_there_is_room(cache, monkeypatch):
    def disk(free, total):
        return lambda _path: SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=total)

    assert not cache.has_room_for(1001)
    monkeypatch.setattr(folder_room.os, "statvfs", disk(free=500, total=2000))
    assert cache.has_room_for(400)  # a twentieth, 100, stays free
    assert not cache.has_room_for(401)
    monkeypatch.setattr(folder_room.os, "statvfs", disk(free=(1 << 30) + 500, total=1 << 50))
    assert cache.has_room_for(500)  # at most 1 GiB stays free
    assert not cache.has_room_for(501)


@pytest.mark.parametrize("name", ["key.body", "key.grown", "key.base", f"{'a' * 40}.line"])
@pytest.mark.parametrize("kind", ["folder", "named pipe", "link"])
def test_what_is_no_file_is_no_body(cache, name, kind):
    """Nobody waits for a named pipe, and a body that is a folder is made anew where there is none."""
    path = f"{cache.path}/{name}"
    if kind == "folder":
        os.mkdir(path)
    elif kind == "named pipe":
        os.mkfifo(path)
    else:
        os.symlink("/etc/passwd", path)
    if name.endswith(".base"):
        with open(f"{cache.path}/key.grown", "wb") as file:
            file.write(b"x" * 100)
    found = []
    threading.Thread(target=lambda: found.append(look_for(cache)), daemon=True).start()
    wait_until(lambda: found)
    assert found == [(None, False, None)]


def look_for(cache):
    """What the folder says of the body "key", and of the last one of a line."""
    return cache.open_whole("key"), cache.has_body("key"), cache.find_elder("a" * 40)
