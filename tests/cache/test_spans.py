"""What a follower takes next: all of a body, each byte once, in pieces that are bounded."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.cache import span
from govc.cache.flight import SPAN_BYTES, span_at
from govc.cache.grown import Lent
from govc.cache.record import FlightState, FlightStatus
from govc.cache.span import READ_BYTES, FileSpan

OWN, BASE = 3, 4
sizes = st.integers(1, 5 * SPAN_BYTES)


def take_all(status: FlightStatus, position: int) -> list[tuple[int, int, int, int]]:
    taken = []
    while position < status.published:
        descriptor, offset, length = span_at(status, OWN, BASE, position)
        taken.append((position, descriptor, offset, length))
        position += length
    assert position == status.published
    return taken


@given(sizes)
def test_property_a_file_is_taken_in_pieces_as_large_as_may_be(published: int) -> None:
    taken = take_all(FlightStatus(FlightState.RUNNING, published, 0, 0), 0)
    assert all(descriptor == OWN and offset == position for position, descriptor, offset, _ in taken)
    assert [length for *_, length in taken[:-1]] == [SPAN_BYTES] * (len(taken) - 1)
    assert taken[-1][3] <= SPAN_BYTES


def test_memory_is_asked_for_no_page_behind_the_end_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x" * 13)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(span, "_is_resident", lambda _, offset, length: asked.append((offset, length)) or True)
    with path.open("rb") as file:
        FileSpan(file.fileno(), 0, 13, lambda function, *arguments: function(*arguments)).make_ready(0, 13)
        FileSpan(file.fileno(), 0, 99, lambda function, *arguments: function(*arguments)).make_ready(2 << 20, 99)
    assert asked == [(0, 13)]


def test_a_file_that_is_whole_is_taken_at_once() -> None:
    size = 5 * SPAN_BYTES
    assert span_at(FlightStatus(FlightState.DONE, size, 0, 0), OWN, BASE, 3) == (OWN, 3, size - 3)


@given(sizes, st.integers(READ_BYTES, 2 * SPAN_BYTES))
def test_property_a_ring_is_taken_in_small_pieces_that_end_where_it_does(published: int, window: int) -> None:
    first = max(0, published - window)
    for position, descriptor, offset, length in take_all(
        FlightStatus(FlightState.RUNNING, published, 0, window), first
    ):
        assert descriptor == OWN
        assert offset == position % window
        assert 0 < length <= READ_BYTES
        assert offset + length <= window


@given(sizes, st.data())
def test_property_what_is_lent_comes_from_the_base(published: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, published))
    end = data.draw(st.integers(start, published))
    status = FlightStatus(FlightState.RUNNING, published, 0, 0, Lent(start, end, 17))
    for position, descriptor, offset, length in take_all(status, 0):
        assert length <= SPAN_BYTES
        is_lent = start <= position < end
        assert descriptor == (BASE if is_lent else OWN)
        assert offset == (17 + position - start if is_lent else position)
        assert not (position < start < position + length or position < end < position + length)
