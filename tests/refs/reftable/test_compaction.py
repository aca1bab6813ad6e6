"""Fewer tables that say the same, whoever is at work beside."""

import os
import random
import shutil
import threading
import time
from itertools import pairwise

import pytest

from govc import disk
from govc.refs.backend import LogUpdates
from govc.refs.reftable.compaction import Compactor, Segment, remove_leftovers, suggest_segment
from govc.refs.reftable.merged import merge_logs
from govc.refs.reftable.stack import Stack
from govc.refs.reftable.writer import ReftableOptions
from tests.refs.reftable.conftest import ONE, THREE, TWO, ZERO, no_sleep

GEOMETRIES = [
    ([], None),
    ([5], None),
    ([64, 32, 16, 8, 4, 2, 1], None),
    ([64, 32, 16, 8, 4, 3, 1], Segment(0, 6)),
    ([128, 32, 16, 8, 4, 3, 1], Segment(1, 6)),
    ([1, 1], Segment(0, 2)),
    ([512, 64, 17, 16, 9, 9, 9, 16, 2, 16], Segment(1, 10)),
    ([100, 1], None),
]
"""The first five are git's own examples (reftable/stack.c and its tests)."""


@pytest.mark.rows("FS-47")
@pytest.mark.parametrize(("sizes", "expected"), GEOMETRIES)
def test_which_tables_are_merged(sizes, expected):
    assert expected == suggest_segment(sizes, 2)


def test_merging_what_is_suggested_makes_the_sizes_geometric():
    rng = random.Random(1)
    for factor in 2, 3, 10:
        for _ in range(200):
            sizes = [rng.randrange(1, 1000) for _ in range(rng.randrange(2, 12))]
            while (segment := suggest_segment(sizes, factor)) is not None:
                assert segment.end - segment.first > 1
                sizes[segment.first : segment.end] = [sum(sizes[segment.first : segment.end])]
            assert all(one >= factor * other for one, other in pairwise(sizes))


def compactor(store, **options):
    stack = Stack(str(store.path / "reftable"), store.algo)
    return Compactor(stack, ReftableOptions(**options), sleep=no_sleep, modes=store.options.modes, fsync=False)


@pytest.mark.rows("FS-47")
def test_two_hundred_pushes_leave_few_tables(store):
    for number in range(200):
        store.run((b"refs/heads/n%03d" % number, ZERO, ONE), log=LogUpdates.ALWAYS)
        store.shared.tidy(store.options)
        assert len(store.names()) <= 12
    assert len(store.refs()) == 200
    assert store.leftovers() == []
    low, high = store.names()[0].split("-")[0], store.names()[-1].split("-")[1]
    assert (int(low, 16), int(high, 16)) == (1, 201)


def test_everything_into_one_table_without_tombstones(store):
    store.run((b"refs/heads/a", ZERO, ONE), (b"refs/heads/b", ZERO, ONE), log=LogUpdates.ALWAYS)
    store.run((b"refs/heads/a", ONE, TWO), (b"refs/heads/b", ONE, ZERO), log=LogUpdates.ALWAYS)
    before = store.refs()
    assert compactor(store).compact(everything=True) == 3
    assert before == store.refs() == {b"refs/heads/a": TWO}
    [table] = store.backend().load().stacks[0].tables
    assert [b"HEAD", b"refs/heads/a"] == [record.name for record in table.iter_refs()]
    assert [record.update_index for record in table.iter_refs()] == [1, 3]
    assert [3, 2] == [log.update_index for log in table.iter_logs(b"refs/heads/a")]
    assert list(table.iter_logs(b"refs/heads/b")) == []
    assert compactor(store).compact(everything=True) == 0


def test_tombstones_stay_while_something_is_below(store):
    store.run(*((b"refs/heads/n%04d" % number, ZERO, ONE) for number in range(500)))
    store.run((b"refs/heads/n0007", ONE, ZERO))
    store.run((b"refs/heads/x", ZERO, ONE))
    assert compactor(store).compact(bytes_max=2000) == 2
    assert b"refs/heads/n0007" not in store.refs()
    last = store.backend().load().stacks[0].tables[-1]
    assert [b"refs/heads/n0007", b"refs/heads/x"] == [record.name for record in last.iter_refs()]


def test_what_cancels_out_leaves_no_table(store):
    store.run((b"refs/heads/x", ZERO, ONE))
    store.run((b"refs/heads/x", ONE, ZERO))
    tables_before = store.names()
    (store.path / "reftable/tables.list").write_text("\n".join(tables_before[1:]) + "\n")
    (store.path / "reftable" / tables_before[0]).unlink()
    store.shared = store.backend()
    assert compactor(store).compact(everything=True) == 2
    assert store.names() == []
    assert store.refs() == {}
    assert store.run((b"refs/heads/y", ZERO, ONE)) == {}


def test_large_tables_are_left_alone_in_passing(store):
    store.run(*((b"refs/heads/n%04d" % number, ZERO, ONE) for number in range(500)))
    store.run(*((b"refs/heads/m%04d" % number, ZERO, ONE) for number in range(400)))
    for number in range(4):
        store.run((b"refs/heads/x%d" % number, ZERO, ONE))
    large = store.names()[1:3]
    assert compactor(store).compact(bytes_max=4000) > 0
    assert large == store.names()[1:3]
    assert store.shared.is_packing_due(store.shared.load())
    assert compactor(store).compact() > 0
    assert not store.shared.is_packing_due(store.shared.load())
    assert len(store.refs()) == 904


def test_a_locked_list_or_table_is_left_to_others(store):
    for name in b"abcd":
        store.run((b"refs/heads/%c" % name, ZERO, ONE))
    names = store.names()
    lock = store.path / "reftable/tables.list.lock"
    lock.touch()
    assert compactor(store, lock_timeout_ms=0).compact(everything=True) == 0
    lock.unlink()
    table_lock = store.path / "reftable" / f"{names[1]}.lock"
    table_lock.touch()
    assert compactor(store).compact(everything=True) == len(names) - 2
    assert store.names()[:2] == names[:2]
    assert table_lock.exists()
    table_lock.unlink()
    assert len(store.refs()) == 4
    assert store.leftovers() == []


def test_writers_go_on_while_tables_are_merged(store, monkeypatch):
    for name in b"abcd":
        store.run((b"refs/heads/%c" % name, ZERO, ONE))
    old_write = Compactor._write

    def write_beside(self, *arguments):
        result = old_write(self, *arguments)
        transaction = store.begin((b"refs/heads/late", ZERO, TWO), (b"refs/heads/a", ONE, THREE))
        assert transaction.prepare() == {}
        assert transaction.commit() == {}
        return result

    monkeypatch.setattr(Compactor, "_write", write_beside)
    assert compactor(store).compact(everything=True) == 5
    assert len(store.names()) == 2
    assert {name: THREE if name == b"refs/heads/a" else ONE for name in (b"refs/heads/%c" % c for c in b"abcd")} | {
        b"refs/heads/late": TWO
    } == store.refs()


def test_a_list_that_someone_replaced_without_locks_is_left_alone(store, monkeypatch):
    for name in b"abc":
        store.run((b"refs/heads/%c" % name, ZERO, ONE))
    old_write = Compactor._write

    def rewrite_the_list(self, *arguments):
        result = old_write(self, *arguments)
        names = store.names()
        (store.path / "reftable/tables.list").write_text("\n".join([names[0], *names[2:]]) + "\n")
        return result

    monkeypatch.setattr(Compactor, "_write", rewrite_the_list)
    assert compactor(store).compact(everything=True) == 0
    assert len(store.refs()) == 2


def test_a_reader_between_two_lists_reads_again(store):
    for name in b"abc":
        store.run((b"refs/heads/%c" % name, ZERO, ONE))
    stop = threading.Event()
    seen = []

    def read():
        while not stop.is_set():
            seen.append(len(store.refs()))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        number = 0
        while number < 40 or (len(seen) < 40 and reader.is_alive()):  # the reader may come to it late
            store.run((b"refs/heads/a", ONE if number % 2 == 0 else TWO, TWO if number % 2 == 0 else ONE))
            compactor(store).compact(everything=True)
            number += 1
    finally:
        stop.set()
        reader.join()
    assert set(seen) == {3}


class Killed(BaseException):
    pass


class Dying(disk.Disk):
    """A disk whose process is killed at a change; nothing that it does while it unwinds reaches the disk."""

    def __init__(self, left):
        self.left = left

    def step(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    def open(self, path, flags, mode=0o666):
        self.step()
        return super().open(path, flags, mode)

    def write(self, descriptor, data):
        self.step()
        return super().write(descriptor, data)

    def rename(self, source, target):
        self.step()
        super().rename(source, target)

    def unlink(self, path):
        self.step()
        super().unlink(path)


def test_a_crash_at_any_change_of_the_disk_loses_nothing(store, tmp_path):
    """Stop at the nth call that changes the disk, as a kill would; what is left is whole, and can go on."""
    for name in b"abc":
        store.run((b"refs/heads/%c" % name, ZERO, ONE))
    expected, base = store.refs(), store.path
    number = 0
    is_done = False
    while not is_done:
        store.path = tmp_path / f"n{number}.git"
        shutil.copytree(base, store.path)
        store.shared = store.backend()
        try:
            with disk.use(Dying(number)):
                compactor(store, lock_timeout_ms=0).compact(everything=True)
            is_done = True
        except Killed:
            number += 1
        assert expected == store.refs()
        for path in (store.path / "reftable").glob("*.lock"):
            path.unlink()  # what a human does after a kill, or the owner of locks
        transaction = store.begin((b"refs/heads/more", ZERO, TWO))
        assert transaction.prepare() == {}
        assert transaction.commit() == {}
        assert expected | {b"refs/heads/more": TWO} == store.refs()
    assert number > 10


def test_leftovers_go_after_a_day(store):
    store.run((b"refs/heads/a", ZERO, ONE))
    folder = store.path / "reftable"
    stack = Stack(str(folder), store.algo)
    old = ["0x000000000001-0x000000000001-aaaaaaaa.ref", "0x1-0x1-b.temp.123", f"{store.names()[0]}.lock"]
    for name in (*old, "notes.txt"):
        (folder / name).touch()
    assert remove_leftovers(stack, now=time.time()) == 0
    for name in os.listdir(folder):
        os.utime(folder / name, (1, 1))
    assert remove_leftovers(stack, now=time.time()) == 3
    assert sorted(os.listdir(folder)) == sorted([*store.names(), "tables.list", "notes.txt"])


def test_reflogs_survive_compaction(store):
    value = ZERO
    for number in range(1, 40):
        new = bytes((number,)) * 20
        store.run((b"refs/heads/main", value, new), log=LogUpdates.ALWAYS, message=b"n%d" % number)
        value = new
        if number % 7 == 0:
            compactor(store).compact()
    tables = store.backend().load().stacks[0].tables
    messages = [log.entry.message for log in merge_logs(tables, b"refs/heads/main", drop_tombstones=True)]
    assert [b"n%d\n" % number for number in range(39, 0, -1)] == messages
