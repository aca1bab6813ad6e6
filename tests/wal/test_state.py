import os

import pytest

from govc.wal.state import Durability, SharedState, Tail, peek_tail

BOOT = b"b" * 16


def tail(**changed):
    values = {
        "boot": BOOT,
        "log_id": b"i" * 16,
        "inode": 5,
        "ordinal": 3,
        "offset": 4096,
        "next_sequence": 10,
        "checksum": b"c" * 32,
        "published": 9,
    }
    return Tail(**(values | changed))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state")


def test_what_was_written_last_is_read(path):
    state = SharedState(path, BOOT)
    assert state.read_tail() is None
    for number in range(1, 6):
        current = state.read_tail()
        state.write_tail(tail(next_sequence=number, generation=current.generation if current else 0))
        assert peek_tail(path, BOOT).next_sequence == number
    state.write_durability(Durability(boot=BOOT, durable=4, syncing=3, cuts=((1, 2), (3, 4))))
    found = state.read_durability()
    assert (found.durable, found.syncing, found.cuts) == (4, 3, ((1, 2), (3, 4)))
    state.close()


@pytest.mark.parametrize("copy", [0, 512])
def test_a_copy_that_a_kill_tore_leaves_the_other(path, copy):
    state = SharedState(path, BOOT)
    state.write_tail(tail(next_sequence=1, generation=0))
    state.write_tail(tail(next_sequence=2, generation=1))
    with open(path, "r+b") as file:
        file.seek(copy + 30)
        file.write(b"torn")
    assert state.read_tail().next_sequence in (1, 2)
    state.close()


def test_what_an_earlier_boot_wrote_counts_for_nothing(path):
    old = SharedState(path, b"o" * 16)
    for generation in range(9):
        old.write_tail(tail(generation=generation))
        old.write_durability(Durability(boot=b"o" * 16, durable=9, generation=generation))
    old.close()
    state = SharedState(path, BOOT)
    assert state.read_tail() is None
    assert state.read_durability() is None
    state.write_tail(tail(next_sequence=2))
    state.write_durability(Durability(boot=BOOT, durable=1))
    assert state.read_tail().next_sequence == 2
    assert state.read_durability().durable == 1
    state.close()


def test_the_file_takes_its_blocks_when_it_is_made(path):
    SharedState(path, BOOT).close()
    assert os.path.getsize(path) == 2048


def test_publishing_out_of_order():
    now = tail(next_sequence=10, published=4)
    assert now.unpublished() == [5, 6, 7, 8, 9]
    now = now.with_published(7).with_published(6)
    assert (now.published, now.unpublished()) == (4, [5, 8, 9])
    now = now.with_published(5)
    assert (now.published, now.unpublished()) == (7, [8, 9])
    assert now.with_published(3) == now
    assert now.with_published(8).with_published(9).is_all_published
