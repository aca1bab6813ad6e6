"""The cache with a budget: what is found is right, the budget holds, one pass over everything spares what is in use."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.both import both, variants


@pytest.fixture(params=variants("objectcache"))
def kernel(request: Any) -> Any:
    return request.param


def name_of(number: int) -> bytes:
    return random.Random(number).randbytes(20)


def kind_of(kernel: Any) -> Any:
    class Cache(kernel.ObjectCache):  # type: ignore[name-defined, misc]
        def missing(self, name: bytes) -> Any:
            value = (name, "made")
            self.put(name, value, 100)
            return value

    return Cache


def test_a_miss_asks_and_a_hit_does_not(kernel: Any) -> None:
    cache = kind_of(kernel)(1 << 20)
    first = cache[name_of(1)]
    assert cache[bytes(bytearray(name_of(1)))] is first
    assert (cache.hits, cache.misses, cache.entry_count) == (1, 1, 1)
    assert cache.peek(name_of(2)) is None and cache.peek(name_of(1)) is first
    cache.clear()
    assert cache.entry_count == cache.used_bytes == 0 and cache[name_of(1)] is not first
    with pytest.raises(KeyError):
        kernel.ObjectCache(1 << 20)[name_of(1)]


def test_what_is_too_large_is_not_kept(kernel: Any) -> None:
    cache = kernel.ObjectCache(80_000)
    cache.put(name_of(1), "large", 10_000)
    assert cache.peek(name_of(1)) is None
    cache = kernel.ObjectCache(80_000, 40_000)
    cache.put(name_of(1), "large", 30_000)
    assert cache.peek(name_of(1)) == "large"
    with pytest.raises(ValueError, match="8 bytes"):
        cache.put(b"short", "x", 1)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3000), st.booleans()), max_size=400),
    st.integers(2000, 60_000),
)
def test_the_budget_holds_and_what_is_found_is_what_was_put(steps: list[tuple[int, int, bool]], budget: int) -> None:
    for kernel in both("objectcache"):
        cache = kernel.ObjectCache(budget)
        put: dict[bytes, object] = {}
        for number, cost, is_put in steps:
            name = name_of(number)
            found = cache.peek(name)
            assert found is None or found is put[name]
            if is_put and found is None:
                put[name] = (number, cost)
                cache.put(name, put[name], cost)
            assert cache.used_bytes <= budget
        assert sum(cache.peek(name) is not None for name in put) == cache.entry_count


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 2)), max_size=3000), st.integers(2000, 400_000))
def test_the_same_name_and_its_copies_are_one_name(asked: list[tuple[int, int]], budget: int) -> None:
    """An object that is a key is found by its address, which another one has once it is gone."""
    for kernel in both("objectcache"):
        cache = kind_of(kernel)(budget)
        held = {number: name_of(number) for number, _ in asked if number % 3}
        for number, way in asked:
            name = held.get(number, b"") if way else b""
            assert cache[name or name_of(number)] == (name_of(number), "made")
            if way == 2:
                assert cache.peek(name_of(number)) in (None, (name_of(number), "made"))
            assert cache.used_bytes <= budget
        for number, name in held.items():
            assert cache.peek(name) is cache.peek(name_of(number))


def test_one_pass_over_everything_spares_what_is_asked_for_every_day(kernel: Any) -> None:
    cache = kind_of(kernel)(300 * (100 + kernel.ENTRY_BYTES))
    daily = [name_of(number) for number in range(100)]
    for _ in range(4):
        for name in daily:
            cache[name]
    for number in range(1000, 4000):
        cache[name_of(number)]
        if number % 10 == 0:
            cache[daily[number // 10 % 100]]
    hits = cache.hits
    for name in daily:
        cache[name]
    assert cache.hits - hits >= 90


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1500), max_size=4000), st.integers(2000, 60_000), st.booleans(), st.integers(0, 3))
def test_many_are_what_one_by_one_is(numbers: list[int], budget: int, is_list: bool, known: int) -> None:
    """Whatever part of what is absent is read ahead, and whether the names come in a list or one by one."""
    names = [name_of(number) for number in numbers]
    for kernel in both("objectcache"):

        class Cache(kind_of(kernel)):  # type: ignore[misc]
            def read_ahead(self, wanted: list[bytes]) -> dict[bytes, tuple[Any, int]]:
                assert len(set(wanted)) == len(wanted) <= 1024 and not any(map(self.peek, wanted))
                return {
                    name: ((name, "made"), 100) for number, name in enumerate(wanted) if known and not number % known
                }

        cache = Cache(budget)
        assert list(cache.iter_many(names if is_list else iter(names))) == [(name, "made") for name in names]
        assert cache.used_bytes <= budget and cache.hits + cache.misses >= len(names)


def test_what_is_missing_among_many_is_said_when_its_turn_comes(kernel: Any) -> None:
    class Cache(kernel.ObjectCache):  # type: ignore[name-defined, misc]
        def missing(self, name: object) -> object:
            if name == name_of(2) or not isinstance(name, bytes):
                raise KeyError(name)
            return name

    for wrong in (name_of(2), "text", None, b"short"):
        values = Cache(1 << 20).iter_many([name_of(1), wrong, name_of(3)])
        assert next(values) == name_of(1)
        if wrong != b"short":
            with pytest.raises(KeyError):
                next(values)
            continue
        assert next(values) == b"short"
    names = [name_of(number) for number in range(10, 15)]
    values = Cache(1 << 20).iter_many(names)
    assert next(values) == names[0]
    del names[1]  # as with any iterator of a list, what is asked for is what stands there then
    assert list(values) == names[1:]
    assert list(Cache(1 << 20).iter_many([])) == []
    with pytest.raises(TypeError):
        Cache(1 << 20).iter_many(None)


def test_values_are_let_go(kernel: Any) -> None:
    class Value:
        alive = 0

        def __init__(self) -> None:
            Value.alive += 1

        def __del__(self) -> None:
            Value.alive -= 1

    cache = kernel.ObjectCache(50 * (100 + kernel.ENTRY_BYTES))
    for number in range(500):
        cache.put(name_of(number), Value(), 100)
    assert Value.alive == cache.entry_count <= 50
    del cache
    assert Value.alive == 0
