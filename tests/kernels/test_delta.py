import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptDelta, LimitExceeded
from govc.pack.delta import make_delta
from tests.kernels.both import both, needs_compiled, variants

MAX = 1 << 24
alike = st.lists(st.sampled_from([b"a" * 16, b"0123456789abcdef", b"xyz", b"q" * 50, b"\0"]), max_size=40).map(b"".join)
any_bytes = st.one_of(alike, st.binary(max_size=300))


@pytest.fixture(params=variants("delta"))
def apply_delta(request):
    return request.param.apply_delta


def outcome(apply_delta, base, delta, result_bytes_max=1 << 16):
    try:
        return apply_delta(base, delta, result_bytes_max=result_bytes_max)
    except (CorruptDelta, LimitExceeded) as error:
        return f"{type(error).__name__}: {error}"


@needs_compiled
@settings(derandomize=True, max_examples=200)
@given(any_bytes, any_bytes, st.data())
def test_a_damaged_delta_has_the_same_outcome_whoever_applies_it(base, target, data):
    delta = bytearray(make_delta(base, target))
    for _ in range(data.draw(st.integers(1, 3))):
        delta[data.draw(st.integers(0, len(delta) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(delta)))
    for damaged in (bytes(delta), bytes(delta[:cut])):
        outcomes = {outcome(kernel.apply_delta, base, damaged) for kernel in both("delta")}
        assert 1 == len(outcomes)


def test_a_copy_without_a_size_takes_64_kib(apply_delta):
    base = bytes(0x10000) + b"x"
    assert base[:0x10000] == apply_delta(base, bytes.fromhex("81800480800480"), result_bytes_max=MAX)


BASE = bytes(range(251)) * 300
BYTES = st.sampled_from([0, 1, 2, 255])


@st.composite
def copies(draw):
    """One copy with any set of argument bytes, as it is written and what it means; size bytes may all be zero."""
    op = draw(st.integers(0x80, 0xFF))
    present = [bit for bit in range(7) if op >> bit & 1]
    values = {bit: draw(BYTES) for bit in present}
    offset = sum(values.get(bit, 0) << 8 * bit for bit in range(4))
    size = sum(values.get(4 + bit, 0) << 8 * bit for bit in range(3)) or 0x10000
    return bytes([op, *values.values()]), offset, size


def size_of(number):
    return bytes([0x80 | number & 127, 0x80 | number >> 7 & 127, 0x80 | number >> 14 & 127, number >> 21])


@settings(derandomize=True, max_examples=300)
@given(st.lists(copies(), max_size=4), st.binary(min_size=1, max_size=5))
def test_every_form_of_a_copy_means_the_same_to_both(written, inserted):
    expected = inserted
    delta = bytes([len(inserted)]) + inserted
    is_whole = True
    for raw, offset, size in written:
        delta += raw
        expected += BASE[offset : offset + size]
        is_whole &= offset + size <= len(BASE)
    delta = size_of(len(BASE)) + size_of(len(expected)) + delta
    outcomes = {outcome(kernel.apply_delta, BASE, delta, result_bytes_max=MAX) for kernel in both("delta")}
    if is_whole:
        assert {expected} == outcomes
    else:
        assert {"CorruptDelta: delta copies from outside its base or beyond its result"} == outcomes


def test_all_offset_and_size_bytes_are_read(apply_delta):
    base = bytes(0x01020304) + b"abc"
    delta = bytes.fromhex("8786880803ff04030201030000")
    assert b"abc" == apply_delta(base, delta, result_bytes_max=MAX)


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        ("", "header"),
        ("04", "header"),
        ("0480", "header"),
        ("ff" * 12, "overflow"),
        ("05019001", "base of 5 bytes"),
        ("040100", "opcode 0"),
        ("04059005", "outside"),
        ("0401910401", "outside"),
        ("04049f000000ff01", "outside"),
        ("04029004", "outside"),
        ("0401026162", "insert"),
        ("04040461", "insert"),
        ("040491", "truncated"),
        ("04049003", "makes 3 bytes instead of 4"),
        ("0404", "makes 0 bytes instead of 4"),
    ],
)
def test_a_lying_delta_is_refused(apply_delta, delta, reason):
    with pytest.raises(CorruptDelta, match=reason):
        apply_delta(b"abcd", bytes.fromhex(delta), result_bytes_max=MAX)


def test_the_result_size_is_checked_before_anything_is_made(apply_delta):
    with pytest.raises(LimitExceeded):
        apply_delta(b"abcd", bytes.fromhex("04ffffffffff7f80"), result_bytes_max=MAX)


def test_a_long_delta_of_tiny_copies_is_applied(apply_delta):
    copies = 150_000
    delta = bytes([4, 0x80 | (copies & 127), 0x80 | (copies >> 7 & 127), copies >> 14]) + b"\x91\x01\x01" * copies
    assert b"b" * copies == apply_delta(b"abcd", delta, result_bytes_max=MAX)
