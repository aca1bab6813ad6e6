import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.both import both, needs_compiled, variants

few_oids = st.lists(st.binary(min_size=20, max_size=20) | st.sampled_from([b"a" * 20, b"a" * 19 + b"b"]), max_size=60)
offsets = st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 50), max_size=60)


@pytest.fixture(params=variants("order"))
def order(request):
    return request.param


@pytest.mark.parametrize("kernel", variants("order"))
@given(few_oids)
def test_sorting_by_oid_is_stable(kernel, oids):
    expected = sorted(range(len(oids)), key=oids.__getitem__)
    assert expected == kernel.sort_by_oid(b"".join(oids), 20).tolist()


@pytest.mark.parametrize("kernel", variants("order"))
@given(offsets)
def test_sorting_by_offset_is_stable(kernel, numbers):
    expected = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert expected == kernel.sort_by_offset(array("Q", numbers)).tolist()


def test_many_are_sorted_whatever_their_upper_bits_are(order):
    """More than are sorted by insertion: spread evenly, all with the same beginning, and many equals."""
    rng = random.Random(5)
    for oids in (
        [rng.randbytes(20) for _ in range(3000)],
        [bytes(12) + rng.randbytes(8) for _ in range(500)],
        [bytes([255] * 18) + rng.randbytes(1) + b"z" for _ in range(2000)],
        [rng.randbytes(1) + bytes(3) + rng.randbytes(16) for _ in range(2000)],
        [rng.randbytes(2) * 2 + rng.randbytes(16) for _ in range(40000)],  # more than are sorted at once
        [b"same bytes everywhere"[:20]] * 50,
    ):
        expected = sorted(range(len(oids)), key=oids.__getitem__)
        assert expected == order.sort_by_oid(b"".join(oids), 20).tolist()
    for numbers in (
        [rng.randrange(1 << 64) for _ in range(3000)],
        [rng.randrange(40) for _ in range(3000)],
        [(1 << 63) + rng.randrange(9) for _ in range(100)],
    ):
        expected = sorted(range(len(numbers)), key=numbers.__getitem__)
        assert expected == order.sort_by_offset(array("Q", numbers)).tolist()


@needs_compiled
@given(few_oids, few_oids, st.integers(0, 8))
def test_matching_finds_the_same_whoever_looks(ours, theirs, gap):
    ours = b"".join(sorted(ours))
    table = bytes(gap) + b"".join(oid + bytes(gap) for oid in sorted(theirs))
    found = [kernel.match_oids(ours, 20, table, gap, 20 + gap, len(theirs)).tolist() for kernel in both("order")]
    expected = [rank for rank in range(len(ours) // 20) if ours[20 * rank : 20 * rank + 20] in theirs]
    assert [expected, expected] == found


def test_a_few_are_found_among_many(order):
    rng = random.Random(3)
    many = sorted(rng.randbytes(32) for _ in range(5000))
    few = sorted([many[0], many[-1], many[777], rng.randbytes(32)])
    expected = [rank for rank, oid in enumerate(few) if oid in many]
    assert expected == order.match_oids(b"".join(few), 32, b"".join(many), 0, 32, len(many)).tolist()


def test_columns_follow_an_order(order):
    ranks = array("I", [2, 0, 1])
    assert b"ccaabb" == order.reorder_records(b"aabbcc", ranks, 2)
    assert array("I", [7, 5, 6]) == order.gather_numbers(array("I", [5, 6, 7]), ranks)
    assert array("Q", [1 << 40, 5, 6]) == order.gather_numbers(array("Q", [5, 6, 1 << 40]), ranks)
    assert b"\3\1\2" == order.gather_bytes(bytearray(b"\1\2\3"), ranks)
    assert array("I", [1, 2, 0]) == order.invert(ranks)
    assert [] == order.sort_by_oid(b"", 20).tolist()


def test_an_order_that_names_no_record_is_refused(order):
    for call in (
        lambda: order.reorder_records(b"aabb", array("I", [2]), 2) or order.gather_bytes(b"", array("I", [2])),
        lambda: order.gather_numbers(array("I", [5]), array("I", [1])),
        lambda: order.gather_bytes(b"a", array("I", [1])),
        lambda: order.invert(array("I", [1])),
    ):
        with pytest.raises(IndexError):
            call()
