"""EWAH as sets of numbers; the bytes that git itself wrote are in tests/repo/test_bitmaps.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.graph.ewah import CorruptBitmap, decode_ewah, encode_ewah

RUNS = st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=40)


def of_runs(runs: list[tuple[bool, int]]) -> tuple[int, int]:
    """A set made of runs of equal bits, and its room."""
    value = bits = 0
    for bit, count in runs:
        if bit:
            value |= ((1 << count) - 1) << bits
        bits += count
    return value, bits


@settings(derandomize=True)
@given(RUNS)
def test_property_what_was_encoded_comes_back(runs: list[tuple[bool, int]]) -> None:
    value, bits = of_runs(runs)
    data = b"before" + encode_ewah(value, bits) + b"behind"
    assert (value, len(data) - 6) == decode_ewah(data, 6, bits_max=bits)


def test_the_bytes_of_a_small_set() -> None:
    # 64 zeros, 64 ones, then one literal word: a marker for the zeros, one for the ones and the literal.
    value = ((1 << 64) - 1) << 64 | 5 << 128
    words = [1 << 1, 1 | 1 << 1 | 1 << 33, 5]
    expected = (192).to_bytes(4, "big") + (3).to_bytes(4, "big")
    expected += b"".join(word.to_bytes(8, "big") for word in words) + (1).to_bytes(4, "big")
    assert expected == encode_ewah(value, 192)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 11,
        (64).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes(12),
        # A run of four thousand million words, and literals that aren't there.
        (64).to_bytes(4, "big") + (1).to_bytes(4, "big") + ((1 << 33) - 1).to_bytes(8, "big") + bytes(4),
        (64).to_bytes(4, "big") + (1).to_bytes(4, "big") + (7 << 33).to_bytes(8, "big") + bytes(4),
        (1 << 31).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(12),
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptBitmap):
        decode_ewah(data, bits_max=64)


@settings(derandomize=True)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_set_or_corrupt(data: bytes) -> None:
    try:
        value, end = decode_ewah(data, bits_max=512)
    except CorruptBitmap:
        return
    assert 0 <= value < 1 << 512 and 12 <= end <= len(data)
