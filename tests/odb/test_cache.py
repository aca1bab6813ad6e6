from hypothesis import given, settings
from hypothesis import strategies as st

from govc.odb.cache import BaseCache


def test_least_recently_used_goes_first():
    cache = BaseCache(10_000)
    for key in range(9):
        cache.put((0, key), (3, bytes(900)))
    cache.get((0, 0))
    cache.put((0, 9), (3, bytes(900)))
    assert (3, bytes(900)) == cache.get((0, 0))
    assert cache.get((0, 1)) is None


def test_object_beyond_its_share_is_not_kept():
    cache = BaseCache(8000)
    cache.put((0, 0), (3, bytes(1001)))
    assert 0 == cache.statistics().entries


def test_packs_do_not_mix():
    cache = BaseCache()
    cache.put((1, 12), (3, b"one"))
    assert cache.get((2, 12)) is None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2000))))
def test_budget_holds_and_what_is_kept_is_what_was_put(puts):
    cache = BaseCache(5000)
    contents = {}
    for key, size in puts:
        contents.setdefault(key, (3, bytes(size)))
        cache.put((0, key), contents[key])
        assert cache.statistics().used_bytes <= 5000
    for key, value in contents.items():
        assert cache.get((0, key)) in (None, value)
    cache.clear()
    assert (0, 0) == cache.statistics()[2:4]
