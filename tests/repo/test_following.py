"""What one process reads of the log that another one appends to: the records behind what it knows, and no more."""

import os

import pytest

from govc import disk
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.wal.log import Log
from govc.wal.record import Kind
from tests.repo.logged import ZERO, FailingSync, Logged

A, B = b"refs/heads/a", b"refs/heads/b"
RECORD_BYTES_MAX = 4096


@pytest.fixture
def world(tmp_path):
    world = Logged(tmp_path)
    yield world
    world.repository.close()


@pytest.fixture
def other(world):
    """The same repository as another process has it open."""
    other = world._open()
    yield other
    other.close()


def push(world, repository, *updates):
    mine, world.repository = world.repository, repository
    try:
        return world.push(*updates)
    finally:
        world.repository = mine


def test_a_record_of_another_process_is_read_and_nothing_behind_it(world, other, monkeypatch):
    first, second, third = (world.commit() for _ in range(3))
    push(world, world.repository, (A, ZERO, first))
    push(world, other, (B, ZERO, first))
    push(world, world.repository, (A, first, second))
    sizes = []
    pread = os.pread

    def counting(descriptor, size, offset):
        data = pread(descriptor, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counting)
    other.journal(world.options).follow()
    assert max(sizes) <= RECORD_BYTES_MAX, "a segment is 256 KiB"
    assert other.journal(world.options).refs.value(A) == second
    monkeypatch.undo()
    push(world, other, (A, second, third))
    assert world.ref("a") == third


def test_what_was_retired_before_it_was_read_is_read_from_the_checkpoint(world, other):
    """The log has gone on in a new segment, and all of it has gone: nothing there says that anything is missing."""
    first, second = world.commit(), world.commit()
    push(world, other, (A, ZERO, first))
    ordinal = other.journal(world.options).log.tail().ordinal
    for n in range(2):  # a segment is 256 KiB, and the packs lie in it
        push(world, world.repository, (b"refs/heads/b%d" % n, ZERO, world.commit(size=200_000)))
    assert world.repository.journal(world.options).log.tail().ordinal > ordinal
    push(world, world.repository, (A, first, second))
    checkpoint_path(world.path, close_log=True)
    assert not os.path.exists(f"{world.path}/govc/log")
    push(world, other, (b"refs/heads/c", ZERO, first))
    journal = other.journal(world.options)
    with journal.log.append_lock():
        assert journal.follow().value(A) == second


def test_what_a_failed_sync_has_lost_is_not_followed(world, other, monkeypatch):
    """Another process appends before the one whose sync failed has cut the log: it cuts, and has seen nothing of it."""
    first, second, third = (world.commit() for _ in range(3))
    push(world, other, (A, ZERO, first))
    with monkeypatch.context() as patch, disk.use(FailingSync()):
        patch.setattr(Log, "_cut_now", lambda _log: None)
        assert A in push(world, world.repository, (A, first, second))
    assert world.ref("a") == first
    push(world, other, (A, first, third))
    assert other.journal(world.options).refs.value(A) == third
    assert Kind.OBSERVED not in [record.kind for record in world.records()]
