import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.pack.delta import apply_delta
from govc.pack.delta import make_delta as twin
from tests.kernels.both import compiled, needs_compiled

alike = st.lists(st.sampled_from([b"a" * 16, b"0123456789abcdef", b"xyz", b"q" * 50, b"\0"]), max_size=40).map(b"".join)
any_bytes = st.one_of(alike, st.binary(max_size=300))


def make_delta(base, target, size_max=1 << 24):
    return compiled("deltify").make_delta(base, target, size_max)


MAKERS = [pytest.param(make_delta, marks=needs_compiled, id="deltify_c"), pytest.param(twin, id="twin")]


@pytest.mark.parametrize("make", MAKERS)
@settings(derandomize=True, max_examples=300)
@given(base=any_bytes, target=any_bytes)
def test_a_delta_makes_its_target(make, base, target):
    assert target == apply_delta(base, make(base, target), result_bytes_max=1 << 24)


@needs_compiled
@pytest.mark.parametrize("seed", range(20))
def test_it_is_about_as_small_as_the_twins(seed):
    rng = random.Random(seed)
    base = rng.randbytes(20_000)
    target = bytearray(base)
    for _ in range(8):
        at = rng.randrange(len(target))
        target[at : at + rng.randrange(200)] = rng.randbytes(rng.randrange(100))
    delta = make_delta(base, bytes(target))
    assert bytes(target) == apply_delta(base, delta, result_bytes_max=1 << 20)
    assert len(delta) <= 1.1 * len(twin(base, bytes(target))) + 20


@needs_compiled
def test_one_that_grows_too_large_is_given_up():
    target = random.Random(1).randbytes(1000)
    assert make_delta(b"", target, 999) is None
    assert make_delta(target, target, 20) is not None


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_of_more_than_64_kib(make):
    base = random.Random(2).randbytes(300_000)
    assert base == apply_delta(base, make(base, base), result_bytes_max=1 << 20)
