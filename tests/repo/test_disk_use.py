"""The bytes of a repository's objects: the same as walking them, and not by walking them each time."""

import contextlib
import os
import time

import pytest

from govc.repo import disk_use
from govc.repo.disk_use import DiskUse, DiskUses


@pytest.fixture
def objects(tmp_path):
    for name in ("pack", "info", "00", "ff"):
        (tmp_path / name).mkdir()
    return tmp_path


def walk(objects):
    total = 0
    for folder, _, names in os.walk(objects):
        if os.path.basename(folder) != "info":
            total += sum(os.lstat(f"{folder}/{name}").st_size for name in names)
    return total


def settle(objects, seconds):
    """Let every folder look as if it had changed so long ago."""
    for folder in (objects, *objects.iterdir()):
        status = folder.stat()
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


def test_packs_and_loose_objects_count(objects):
    (objects / "pack/pack-1.pack").write_bytes(bytes(1000))
    (objects / "pack/pack-1.idx").write_bytes(bytes(50))
    (objects / "ff/abc").write_bytes(bytes(7))
    (objects / "info/alternates").write_bytes(bytes(99))
    assert DiskUse(str(objects)).measure() == 1057


def test_an_empty_or_vanished_repository_uses_nothing(tmp_path):
    assert DiskUse(str(tmp_path)).measure() == 0
    assert DiskUse(str(tmp_path / "gone")).measure() == 0


def test_a_folder_that_git_removes_meanwhile_uses_nothing(objects, monkeypatch):
    (objects / "ff/abc").write_bytes(bytes(7))
    scandir = os.scandir

    def vanish_first(path):
        if path.endswith("/00"):
            os.rmdir(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanish_first)
    assert DiskUse(str(objects)).measure() == 7
    assert not (objects / "00").exists()


@pytest.mark.parametrize("age", [0, 100])
def test_each_change_is_seen(objects, age):
    use = DiskUse(str(objects))
    for number in range(20):
        settle(objects, age)
        assert use.measure() == walk(objects)
        folder = objects / f"{number * 13:02x}"
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_bytes(bytes(number))
        assert use.measure() == walk(objects)
        (objects / f"pack/pack-{number}.pack").write_bytes(bytes(100))
        assert use.measure() == walk(objects)
    (objects / "pack/pack-3.pack").unlink()
    assert use.measure() == walk(objects)


def test_what_has_settled_is_not_listed_again(objects, monkeypatch):
    (objects / "pack/pack-1.pack").write_bytes(bytes(1000))
    settle(objects, 100)
    use = DiskUse(str(objects))
    assert use.measure() == 1000
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(disk_use.os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert use.measure() == 1000
    assert listed == []
    (objects / "00/x").write_bytes(bytes(1))
    assert use.measure() == 1001
    assert listed == [f"{objects}/00"]


def test_only_so_many_are_known(objects):
    uses = DiskUses(count_max=2)
    (objects / "pack/x.pack").write_bytes(bytes(10))
    for number in range(5):
        assert uses.measure(f"{objects}/nowhere{number}") == 0
        assert uses.measure(str(objects)) == 10
    assert len(uses._uses) == 2


def test_a_change_during_a_long_look_is_seen(objects, monkeypatch):
    """It falls within the tick in which the folder was changed before; only the end of the look is long after that."""
    (objects / "pack/pack-1.pack").write_bytes(bytes(100))
    use = DiskUse(str(objects))
    scandir, time_ns, changed = os.scandir, time.time_ns, []

    def list_slowly(path):
        entries = list(scandir(path))
        if path.endswith("/pack") and not changed:
            status = os.stat(path)
            (objects / "pack/pack-2.pack").write_bytes(bytes(7))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            changed.append(path)
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", list_slowly)
    monkeypatch.setattr(time, "time_ns", lambda: time_ns() + len(changed) * 2 * disk_use.SETTLED_NS)
    assert use.measure() == 100
    assert use.measure() == 107
