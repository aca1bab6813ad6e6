"""What one process reads of the log that another one appends to: the records behind what it knows, and no more."""

import os

import pytest

from tests.repo.logged import ZERO, Logged

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
        world.push(*updates)
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
