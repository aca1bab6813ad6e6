import os
from types import SimpleNamespace

import pytest

from govc.watch import (
    HeldInode,
    StatSignature,
    file_system_of,
    is_settled,
    read_regular,
    read_watched,
    shows_each_change,
    signature_of,
    watch_folder,
    watch_path,
)

SECOND = 1_000_000_000
LATER = 1 << 62


def signature(ctime_ns, mtime_ns=1):
    return StatSignature(1, 2, 3, mtime_ns, ctime_ns)


def test_a_stamp_settles_after_the_grain():
    assert not is_settled(signature(1000), 1000 + 19_999_999)
    assert is_settled(signature(1000), 1000 + 20_000_000)
    assert not is_settled(signature(1000), 0)


def test_whole_seconds_are_taken_for_a_coarse_clock():
    assert not is_settled(signature(5 * SECOND, SECOND), 7 * SECOND)
    assert is_settled(signature(5 * SECOND, SECOND), 8 * SECOND)


def test_an_absent_file_is_settled_and_its_appearing_is_seen(tmp_path):
    path = str(tmp_path / "x")
    content, watch = read_watched(path, bytes_max=10)
    assert content is None
    assert watch.is_current()
    (tmp_path / "x").write_text("1")
    assert not watch.is_current()


def test_an_unsettled_file_is_never_current(tmp_path):
    (tmp_path / "x").write_text("1")
    path = str(tmp_path / "x")
    assert not read_watched(path, bytes_max=10, clock_ns=lambda: 0)[1].is_current()
    content, watch = read_watched(path, bytes_max=10, clock_ns=lambda: LATER)
    assert content == b"1"
    assert watch.is_current()


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    calls = []

    def stat(name):
        result = os.stat(name)
        calls.append(name)
        if len(calls) == 1:
            path.write_text("newer")
        return result

    content, watch = read_watched(str(path), bytes_max=10, stat=stat, clock_ns=lambda: LATER)
    assert content == b"newer"
    assert signature_of(str(path)) == watch.signature


def test_pipes_folders_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    for name in "pipe", "large", ".":
        with pytest.raises(OSError):
            read_regular(str(tmp_path / name), 10)
    assert bytes(11) == read_regular(str(tmp_path / "large"), 11)


def test_a_folder_is_watched_by_its_stamps(tmp_path):
    watch = watch_path(str(tmp_path), clock_ns=lambda: LATER)
    assert watch.is_current()
    (tmp_path / "x").write_text("1")
    assert not watch.is_current()


def test_a_held_inode_outlives_its_name(tmp_path):
    path = tmp_path / "x"
    path.write_text("1")
    held = HeldInode(str(path))
    before = signature_of(str(path))
    path.unlink()
    assert before is not None
    assert before.inode == held.signature().inode
    held.close()
    held.close()
    assert HeldInode(str(path)).signature() is None


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 27 0:30 / /run rw - tmpfs tmpfs rw
32 27 0:30 /a /mnt rw shared:2 master:1 - tmpfs tmpfs rw
40 27 8:1 / /a rw - ext4 /dev/sda1 rw
41 27 8:1 / /b rw - vfat /dev/sda1 rw
42 27 0:50 / /c rw - fuse.x - rw
43 27 0:51
""".splitlines(keepends=True)


@pytest.mark.parametrize(
    ("major", "minor", "expected"),
    [
        (0, 21, "proc"),
        (254, 0, "ext4"),
        (0, 30, "tmpfs"),
        (8, 1, ""),
        (0, 50, "fuse.x"),
        (0, 51, ""),
        (9, 9, ""),
    ],
)
def test_the_file_system_of_a_device(major, minor, expected):
    assert file_system_of(os.makedev(major, minor), MOUNTS) == expected


@pytest.mark.parametrize(
    ("release", "kind", "expected"),
    [
        ("6.13.0", "ext4", True),
        ("6.18.44-x", "xfs", True),
        ("7.0", "tmpfs", True),
        ("6.12.99", "ext4", False),
        ("5.15.0", "ext4", False),
        ("6.18.0", "overlay", False),
        ("6.18.0", "nfs4", False),
        ("6.18.0", "", False),
        ("unknown", "ext4", False),
    ],
)
def test_which_stamps_are_exact(release, kind, expected, monkeypatch):
    monkeypatch.setattr("govc.watch.file_system_of", lambda *_: kind)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "n", release, "v", "m")))
    assert shows_each_change.__wrapped__(1) is expected


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_folder_that_was_changed_just_now_is_settled_where_stamps_are_exact(is_exact, tmp_path, monkeypatch):
    monkeypatch.setattr("govc.watch.shows_each_change", lambda _: is_exact)
    path = str(tmp_path)
    now = os.stat(path).st_ctime_ns
    assert watch_folder(path, clock_ns=lambda: now).is_settled is is_exact
    assert watch_folder(path, clock_ns=lambda: LATER).is_settled
    assert not watch_path(path, clock_ns=lambda: now).is_settled
    # Another stat function may tell what it likes.
    assert not watch_folder(path, lambda name: os.stat(name), lambda: now).is_settled


def test_a_folder_with_stamps_of_whole_seconds_settles_by_age_only(tmp_path, monkeypatch):
    """Inodes of 128 bytes have no room for more: ext4 that was ext3 once, or that is small."""
    monkeypatch.setattr("govc.watch.shows_each_change", lambda _: True)
    path = str(tmp_path)
    real = os.stat(path)
    second = 1_000_000_000
    fields = {
        name: getattr(real, name) for name in ("st_dev", "st_ino", "st_size", "st_mode", "st_mtime_ns", "st_ctime_ns")
    }
    stamped = SimpleNamespace(**fields)
    stamped.st_ctime_ns = stamped.st_mtime_ns = real.st_ctime_ns // second * second
    monkeypatch.setattr(os, "stat", lambda *_, **__: stamped)
    now = stamped.st_ctime_ns
    assert not watch_folder(path, os.stat, lambda: now + second // 2).is_settled
    assert watch_folder(path, os.stat, lambda: now + 3 * second).is_settled


def test_on_such_file_systems_each_change_of_a_folder_shows(tmp_path):
    """What the kernel promises: no two listings that differ have one stamp."""
    path = str(tmp_path)
    if not shows_each_change(os.stat(path).st_dev):
        pytest.skip("this kernel or file system stamps by a coarse clock")
    seen = {signature_of(path)}
    for number in range(500):
        (tmp_path / "a").touch()
        seen.add(signature_of(path))
        if number % 2:
            (tmp_path / "a").rename(tmp_path / "b")
            seen.add(signature_of(path))
        (tmp_path / ("b" if number % 2 else "a")).unlink()
        seen.add(signature_of(path))
    assert len(seen) == 1 + 1000 + 250
