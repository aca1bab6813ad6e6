"""The canonical form of values, and its digest."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.cache.key import digest_of

scalars = st.none() | st.booleans() | st.integers() | st.binary(max_size=8) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.binary(max_size=3), inner)
)


class Colour(Enum):
    RED = 1
    GREEN = 2


@dataclass(frozen=True)
class Plan:
    wants: tuple[bytes, ...] = ()
    haves: tuple[bytes, ...] = ()
    tags: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherPlan:
    wants: tuple[bytes, ...] = ()
    haves: tuple[bytes, ...] = ()
    tags: dict[bytes, bytes] = field(default_factory=dict)


def canonical(value):
    """The same value as one that Python compares by type, too: 1, True and 1.0 are different here."""
    if isinstance(value, tuple):
        return ("l", tuple(canonical(item) for item in value))
    if isinstance(value, dict):
        return ("m", frozenset((key, canonical(item)) for key, item in value.items()))
    return (type(value).__name__, value)


@given(values, values)
def test_property_equal_digests_mean_equal_values(left, right):
    assert (digest_of(left) == digest_of(right)) == (canonical(left) == canonical(right))


@given(st.lists(st.binary(min_size=20, max_size=20)))
def test_property_the_order_of_sets_and_mappings_is_nothing(oids):
    assert digest_of(frozenset(oids)) == digest_of(frozenset(reversed(oids)))
    pairs = [(oid, oid[::-1]) for oid in dict.fromkeys(oids)]
    assert digest_of(dict(pairs)) == digest_of(OrderedDict(reversed(pairs)))


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=2))
def test_property_where_one_item_ends_matters(items):
    joined = [items[0] + items[1], *items[2:]]
    assert digest_of(tuple(items)) != digest_of(tuple(joined))


def test_every_field_of_a_plan_counts():
    base = digest_of(Plan(wants=(b"a",)))
    assert base == digest_of(Plan(wants=(b"a",)))
    others = (Plan(wants=(b"b",)), Plan(wants=(b"a",), haves=(b"h",)), Plan(wants=(b"a",), tags={b"t": b"u"}))
    assert len({base, *map(digest_of, others)}) == 4
    assert digest_of(OtherPlan(wants=(b"a",))) != base


class Patterns:
    def __init__(self, text):
        self.canonical_form = text


def test_a_class_may_say_its_form():
    assert digest_of(Patterns(b"a")) == digest_of(Patterns(b"a"))
    assert len({digest_of(Patterns(b"a")), digest_of(Patterns(b"b")), digest_of(b"a")}) == 3


def test_a_kind_that_is_derived_has_the_form_of_what_it_derives_from():
    class Oid(bytes):
        pass

    class Pair(NamedTuple):
        left: bytes
        right: int

    assert digest_of((Oid(b"a"), Pair(b"b", 1))) == digest_of((b"a", (b"b", 1)))


def test_views_and_enums_have_a_form():
    assert digest_of(MappingProxyType({b"a": 1})) == digest_of({b"a": 1})
    assert digest_of(Colour.RED) != digest_of(Colour.GREEN)
    assert digest_of(Colour.RED) != digest_of(1)


@pytest.mark.parametrize("value", [1.5, object(), bytearray(b"x"), memoryview(b"x"), Plan, (b"a", [object()])])
def test_what_has_no_form_is_an_error(value):
    with pytest.raises(TypeError):
        digest_of(value)
