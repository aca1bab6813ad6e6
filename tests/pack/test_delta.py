from dulwich.pack import apply_delta as oracle_apply
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.pack.delta import apply_delta, make_delta, parse_delta_sizes

MAX = 1 << 24
alike = st.lists(st.sampled_from([b"a" * 16, b"0123456789abcdef", b"xyz", b"q" * 50, b"\0"]), max_size=40).map(b"".join)
any_bytes = st.one_of(alike, st.binary(max_size=300))


@settings(derandomize=True, max_examples=200)
@given(any_bytes, any_bytes)
def test_applying_undoes_making(base, target):
    delta = make_delta(base, target)
    assert target == apply_delta(base, delta, result_bytes_max=MAX)
    assert (len(base), len(target)) == parse_delta_sizes(delta)[:2]
    if base:  # the oracle takes an empty base for a missing one
        assert target == b"".join(oracle_apply(base, delta))


def test_an_edit_of_a_large_text_makes_a_small_delta():
    base = b"".join(b"line %d\n" % n for n in range(20000))
    target = base[:50000] + b"inserted\n" + base[50000:90000] + base[90100:]
    delta = make_delta(base, target)
    assert target == apply_delta(base, delta, result_bytes_max=MAX)
    assert 60 > len(delta)


def test_a_moved_part_is_found():
    base = bytes(range(256)) * 2 + b"the tail that moves to the front, of some length"
    target = base[512:] + base[:512]
    assert 40 > len(make_delta(base, target))
