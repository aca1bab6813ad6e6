import os

import pytest

from govc.watch import (
    HeldInode,
    StatSignature,
    is_settled,
    read_regular,
    read_watched,
    signature_of,
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
