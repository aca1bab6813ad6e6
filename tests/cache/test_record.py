"""What a flight says of itself to other processes."""

import fcntl
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.cache.grown import Lent
from govc.cache.record import (
    FlightState,
    FlightStatus,
    claim,
    clear_if_dead,
    decode_status,
    encode_status,
    initialize,
    is_claimed_by_another,
    read_fastest,
    read_part_id,
    read_status,
    try_lock,
    write_fastest,
    write_status,
)

numbers = st.integers(0, (1 << 64) - 1)
lents = st.builds(Lent, numbers, numbers, numbers)
statuses = st.builds(FlightStatus, st.sampled_from(FlightState), numbers, numbers, numbers, lents)


@pytest.fixture
def descriptor(tmp_path):
    opened = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@given(statuses)
def test_property_a_record_says_what_was_written(status):
    assert decode_status(encode_status(status)) == status


@given(statuses, statuses, st.integers(0, 60))
def test_property_half_of_a_record_is_none(old, new, cut):
    torn = encode_status(new)[:cut] + encode_status(old)[cut:]
    assert decode_status(torn) in (old, new, None)
    assert decode_status(encode_status(new)[: min(cut, 59)]) is None


def test_a_new_file_needs_no_more_space(descriptor):
    initialize(descriptor, "0123456789abcdef")
    size = os.fstat(descriptor).st_size
    assert read_status(descriptor) == FlightStatus(FlightState.RUNNING, 0, 0, 0)
    assert read_part_id(descriptor) == "0123456789abcdef"
    write_status(descriptor, FlightStatus(FlightState.DONE, 1 << 40, 7, 0))
    write_fastest(descriptor, 1 << 40)
    assert os.fstat(descriptor).st_size == size
    assert read_status(descriptor) == FlightStatus(FlightState.DONE, 1 << 40, 7, 0)


def test_a_strange_file_is_an_error(descriptor):
    os.write(descriptor, b"x" * 200)
    with pytest.raises(OSError):
        read_status(descriptor)
    assert read_part_id(descriptor) == "x" * 16
    os.pwrite(descriptor, b"../../../etc/xxx", 64)
    assert read_part_id(descriptor) == ""


def test_the_fastest_only_goes_forward(descriptor):
    initialize(descriptor, "0123456789abcdef")
    for position in (5, 3, 9, 1):
        write_fastest(descriptor, position)
    assert read_fastest(descriptor) == 9


def test_locks_belong_to_open_files(descriptor, tmp_path):
    other = os.open(tmp_path / "f", os.O_RDONLY)
    assert try_lock(descriptor, fcntl.LOCK_EX)
    assert not try_lock(other, fcntl.LOCK_SH)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    assert try_lock(other, fcntl.LOCK_SH)
    assert not try_lock(descriptor, fcntl.LOCK_EX)
    os.close(other)
    assert try_lock(descriptor, fcntl.LOCK_EX)


def test_a_claim_ends_with_its_opening(descriptor, tmp_path):
    path = str(tmp_path / "f")
    producer, other = (os.open(path, os.O_RDWR) for _ in range(2))
    assert not is_claimed_by_another(other)
    assert claim(producer)
    assert is_claimed_by_another(other)
    assert not is_claimed_by_another(producer)
    assert not claim(other)
    assert not clear_if_dead(other, path)
    os.close(producer)
    assert not is_claimed_by_another(other)
    assert clear_if_dead(other, path)
    assert is_claimed_by_another(descriptor)  # by who is clearing it away
    assert not clear_if_dead(descriptor, path)
    os.close(other)
    assert not os.path.exists(path)


def test_who_looks_keeps_nobody_from_clearing_away(descriptor, tmp_path, monkeypatch):
    """At whatever moment of his looking the other one comes."""
    path = tmp_path / "f"
    other = os.open(path, os.O_RDWR)
    cleared = []

    def and_another_comes(name):
        real = getattr(fcntl, name)

        def call(*arguments):
            answer = real(*arguments)
            if not cleared:
                cleared.append(None)
                cleared[0] = clear_if_dead(other, str(path))
            return answer

        monkeypatch.setattr(fcntl, name, call)

    and_another_comes("fcntl")
    and_another_comes("flock")
    assert not is_claimed_by_another(descriptor)
    assert cleared == [True]
    assert not path.exists()
    os.close(other)
