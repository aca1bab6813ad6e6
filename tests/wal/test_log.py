import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from govc import disk
from govc.wal.errors import LogError, LogFailed, LogFull
from govc.wal.record import Draft, Kind
from govc.wal.segment import HEADER_BYTES, list_segments, read_header, segment_path

from .logs import append, change, make_folder, open_log, read, start


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


@pytest.fixture
def log(folder):
    opened = start(open_log(folder))
    yield opened
    opened.close()


class FailingDisk(disk.Disk):
    """Fails calls of one kind, from the nth on, so many times."""

    def __init__(self, name, *, after=0, times=1000, number=errno.EIO):
        self.left = after
        self.times = times
        self.syncs = 0
        self.failing = name
        self.number = number

    def _maybe(self, name):
        if name != self.failing:
            return
        if self.left <= 0 and self.times > 0:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))
        self.left -= 1

    def sync_data(self, descriptor):
        self._maybe("sync_data")
        self.syncs += 1
        super().sync_data(descriptor)

    def pwrite(self, descriptor, data, offset):
        self._maybe("pwrite")
        return super().pwrite(descriptor, data, offset)


def test_records_get_gapless_numbers_and_a_chain(log, folder):
    first, second = append(log, change("a"), change("b"))
    (third,) = append(log, change("c"))
    assert [r.record.sequence for r in (first, second, third)] == [1, 2, 3]
    assert second.record.previous == first.record.checksum
    assert third.record.previous == second.record.checksum
    assert read(folder)[0] == [(1, "a"), (2, "b"), (3, "c")]


def test_two_processes_append_to_one_log(folder, log):
    other = open_log(folder)
    append(log, change("a"))
    append(other, change("b"))
    append(log, change("c"))
    assert read(folder)[0] == [(1, "a"), (2, "b"), (3, "c")]
    other.close()


def test_one_sync_covers_all_that_were_appended_before_it(log, folder):
    appended = append(log, change("a"), change("b"), change("c"))
    counting = FailingDisk("nothing")
    with disk.use(counting):
        for one in appended:
            log.make_durable(one)
    assert counting.syncs == 1
    assert log.durable() == 3


def test_a_sync_waits_for_those_who_are_about_to_append(folder):
    log = start(open_log(folder, gather_seconds=120.0))
    (first,) = append(log, change("a"))
    coming = threading.Event()
    counting = FailingDisk("nothing")

    def late():
        append(log, change("b"))
        coming.set()

    thread = threading.Timer(0.02, late)
    thread.start()
    with disk.use(counting):
        log.make_durable(first, lambda: not coming.is_set())
    thread.join()
    assert log.durable() == 2
    assert counting.syncs == 1
    log.close()


def test_a_full_segment_is_followed_by_another(log, folder):
    for number in range(12):
        append(log, change(str(number), 4000))
    assert len(list_segments(folder.segments)) > 1
    found = [name for _, name in read(folder)[0] if name]
    assert found == [str(number) for number in range(12)]
    first, second = (read_header(folder.segments, n) for n in list_segments(folder.segments)[:2])
    assert second.first_sequence > first.first_sequence
    assert second.salt != first.salt


def test_a_record_larger_than_a_segment_gets_one_of_its_size(log, folder):
    append(log, change("a"))
    append(log, change("big", 200_000))
    append(log, change("b"))
    assert [name for _, name in read(folder)[0] if name] == ["a", "big", "b"]


def test_a_segment_is_full_of_zeros_before_it_is_used(log, folder):
    append(log, change("a"))
    (ordinal,) = list_segments(folder.segments)
    path = f"{folder.segments}/{ordinal:012d}.seg"
    assert os.path.getsize(path) == 16384
    assert os.stat(path).st_blocks * 512 >= 16384  # written, not a hole


def test_beyond_its_cap_the_log_takes_nothing_more(folder):
    log = start(open_log(folder, bytes_max=40_000))
    with pytest.raises(LogFull, match="no checkpoint made room"):
        for number in range(100):
            append(log, change(str(number), 4000))
    kept = [name for _, name in read(folder)[0] if name]
    assert 5 <= len(kept) < 20
    with log.append_lock():
        log.checkpoint_done(1 << 20)
    append(log, change("again", 4000))
    assert read(folder)[0][-1][1] == "again"
    log.close()


def test_the_void_record_of_a_full_segment_has_its_place(folder):
    log = start(open_log(folder, bytes_max=30_000))
    last = None
    with pytest.raises(LogFull):
        while True:
            (last,) = append(log, change("x", 3000))
    append(log, Draft(kind=Kind.VOID, number=last.record.sequence))
    assert last.record.sequence not in log.tail().unpublished()
    log.close()


def test_a_failed_append_leaves_the_log_as_it_was(log, folder):
    append(log, change("a"))
    with disk.use(FailingDisk("pwrite", number=errno.ENOSPC)), pytest.raises(LogFailed, match="No space left"):
        append(log, change("b"))
    append(log, change("c"))
    assert read(folder)[0] == [(1, "a"), (2, "c")]


def test_a_record_whose_tail_can_not_be_written_does_not_stay(log, folder):
    append(log, change("a"))
    with disk.use(FailingDisk("pwrite", after=1, times=1)), pytest.raises(LogFailed):
        append(log, change("b"))
    assert read(folder)[0] == [(1, "a")]


def test_after_a_failed_sync_the_log_goes_on_in_a_new_segment_that_says_where_the_old_one_ends(log, folder):
    (kept,) = append(log, change("kept"))
    log.make_durable(kept)
    (lost,) = append(log, change("lost"))
    with disk.use(FailingDisk("sync_data")), pytest.raises(LogFailed):
        log.make_durable(lost)
    # Before the loser is told, it is durably gone: a power cut now must not bring it back.
    header = read_header(folder.segments, list_segments(folder.segments)[-1])
    assert header.continues
    assert header.first_sequence == 2
    assert read(folder)[0] == [(1, "kept")]
    (after,) = append(log, change("after"))
    log.make_durable(after)
    assert read(folder)[0] == [(1, "kept"), (2, "after")]


def test_a_failed_sync_is_known_to_every_process(folder, log):
    other = open_log(folder)
    (mine,) = append(log, change("mine"))
    (others,) = append(other, change("others"))
    with disk.use(FailingDisk("sync_data")), pytest.raises(LogFailed):
        log.make_durable(mine)
    with pytest.raises(LogFailed):
        other.make_durable(others)  # a sync that would succeed now proves nothing
    (again,) = append(other, change("again"))
    other.make_durable(again)
    assert read(folder)[0] == [(1, "again")]
    other.close()


def test_a_lost_record_is_lost_also_for_who_asks_late(folder, log):
    other = open_log(folder)
    (late,) = append(other, change("late"))
    (mine,) = append(log, change("mine"))
    with disk.use(FailingDisk("sync_data")), pytest.raises(LogFailed):
        log.make_durable(mine)
    for number in range(3):
        (one,) = append(log, change(str(number)))
        log.make_durable(one)
    with pytest.raises(LogFailed):  # number 1 is durable by now, but it is another record
        other.make_durable(late)
    other.close()


def test_who_died_in_a_sync_leaves_it_as_a_failed_one(folder, log):
    (kept,) = append(log, change("kept"))
    log.make_durable(kept)
    other = open_log(folder)
    (mine,) = append(other, change("mine"))

    class Dies(disk.Disk):
        def sync_data(self, descriptor):
            raise SystemExit

    append(log, change("dead"))
    with disk.use(Dies()), pytest.raises(SystemExit):
        log.make_durable(mine)
    with pytest.raises(LogFailed):
        other.make_durable(mine)
    assert read(folder)[0] == [(1, "kept")]
    other.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_who_died_before_he_could_write_down_where_he_cut_the_log_has_cut_it(folder, log, monkeypatch, is_closed):
    """Else a record that the failed sync took would pass for durable once its number is, by another one."""
    (kept,) = append(log, change("kept"))
    log.make_durable(kept)
    other = open_log(folder)
    (lost,) = append(other, change("lost"))  # who waits for it has not asked yet
    (mine,) = append(log, change("mine"))
    write = log._state.write_durability

    def killed_at_the_cut(value):
        if value.cuts:
            raise SystemExit
        return write(value)

    monkeypatch.setattr(log._state, "write_durability", killed_at_the_cut)
    with disk.use(FailingDisk("sync_data")), pytest.raises(SystemExit):
        log.make_durable(mine)
    survivor = open_log(folder)
    (after,) = append(survivor, change("after"))
    if is_closed:
        with survivor.append_lock():
            survivor.checkpoint_done(0, is_closed=True)
    else:
        survivor.make_durable(after)
    assert survivor.durable() == after.record.sequence == lost.record.sequence
    with pytest.raises(LogFailed):
        other.make_durable(lost)
    assert other.is_cut(lost)
    assert not other.is_cut(after)
    assert read(folder)[0] == [(1, "kept"), (2, "after")]
    other.close()
    survivor.close()


def test_who_asks_late_for_a_lost_record_does_no_harm_to_a_closed_log(folder, log):
    other = open_log(folder)
    (mine,) = append(log, change("mine"))
    append(log, change("b"), change("c"))
    (late,) = append(other, change("late"))
    with disk.use(FailingDisk("sync_data")), pytest.raises(LogFailed):
        log.make_durable(mine)
    with log.append_lock():
        log.checkpoint_done(0, is_closed=True)
    for ordinal in list_segments(folder.segments):
        os.unlink(segment_path(folder.segments, ordinal))
    with pytest.raises(LogFailed):  # its number is beyond all that is durable, and there is no segment to sync
        other.make_durable(late)
    (after,) = append(log, change("after"))
    log.make_durable(after)
    assert read(folder)[0] == [(1, "after")]
    other.close()


def test_published_is_gapless_and_shared(folder, log):

    append(log, change("a"), change("b"), change("c"))
    other = open_log(folder)
    log.mark_published([3])
    assert other.tail().unpublished() == [1, 2]
    other.mark_published([1])
    assert log.tail().published == 1
    log.mark_published([2])
    assert log.tail().is_all_published
    other.close()


def test_records_with_nothing_to_show_are_published_at_once(log):
    (first,) = append(log, change("a"))
    append(log, Draft(kind=Kind.OBSERVED), Draft(kind=Kind.CHECKPOINT, number=1))
    assert log.tail().unpublished() == [1]
    append(log, Draft(kind=Kind.VOID, number=first.record.sequence))
    assert log.tail().is_all_published


def test_a_log_that_was_not_recovered_takes_nothing(folder):
    log = open_log(folder)
    with pytest.raises(LogError, match="not been recovered"):
        append(log, change("a"))
    log.close()


def test_a_closed_log_begins_a_new_segment(log, folder):
    append(log, change("a"))
    log.mark_published([1])
    with log.append_lock():
        log.checkpoint_done(0, is_closed=True)
        for ordinal in list_segments(folder.segments):
            os.unlink(f"{folder.segments}/{ordinal:012d}.seg")
        os.rmdir(folder.segments)
    (second,) = append(log, change("b"))
    log.make_durable(second)
    assert read(folder)[0] == [(2, "b")]
    assert os.path.getsize(f"{folder.segments}/{list_segments(folder.segments)[0]:012d}.seg") > HEADER_BYTES


def test_who_has_a_log_open_that_was_removed_puts_nothing_into_the_next_one(log, folder):
    append(log, change("a"))
    log.mark_published([1])
    with log.append_lock():
        log.checkpoint_done(0, is_closed=True)
    shutil.rmtree(folder.root)
    with pytest.raises((LogError, OSError)):
        append(log, change("b"))
    make_folder(Path(folder.root).parent)
    other = start(open_log(folder))
    with pytest.raises(LogError, match="the log was retired"):
        append(log, change("c"))
    append(other, change("d"))
    other.close()
    assert read(folder)[0] == [(1, "d")]


def test_threads_share_a_log(folder):
    log = start(open_log(folder, gather_seconds=0.002))
    done = []

    def work(name):
        for number in range(20):
            (one,) = append(log, change(f"{name}{number}"))
            log.make_durable(one)
            log.mark_published([one.record.sequence])
            done.append(one.record.sequence)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [number for number, name in read(folder)[0] if name]
    assert sorted(done) == numbers
    assert len(numbers) == 80
    assert log.tail().is_all_published
    assert log.statistics.syncs <= 80
    log.close()


def test_a_segment_that_another_process_retired_is_let_go(log, folder):
    """Until then its bytes are taken from the disk, though no name leads to them."""
    other = open_log(folder)
    for one in (log, other):
        one.make_durable(append(one, change("a"))[0])
    assert open_segments(folder) == 4
    assert log.let_go_of_retired(), "it is in use"
    with other.append_lock():
        other.checkpoint_done(0, is_closed=True)
    for ordinal in list_segments(folder.segments):
        os.unlink(segment_path(folder.segments, ordinal))
    assert open_segments(folder) == 3
    assert not log.let_go_of_retired()
    assert not other.let_go_of_retired()
    assert open_segments(folder) == 0
    append(log, change("b"))
    assert [name for _, name in read(folder)[0]] == ["b"]
    assert log.let_go_of_retired()
    other.close()


def open_segments(folder):
    """How many descriptors of a log's segments this process has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(path.startswith(f"{folder.segments}/") for path in found)
