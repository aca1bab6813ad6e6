"""The values of refs as a set that is asked, beside the plain set of what the table lists."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from govc.protocol.oid import SHA1
from govc.refs.loose import LooseRef
from govc.refs.packed import PackedRefs
from govc.refs.table import DELETED, RefTable
from govc.refs.values import RefValues, sort_values

OIDS = [bytes([n]) * 20 for n in (1, 2, 3, 200, 255)]
NAMES = [b"refs/heads/a", b"refs/heads/b", b"refs/heads/c/d", b"refs/tags/x", b"refs/z"]
LOOSE = st.one_of(
    st.builds(LooseRef, st.sampled_from(OIDS), st.none()),
    st.builds(LooseRef, st.none(), st.sampled_from(NAMES)),
    st.just(DELETED),
)


def make_table(packed: dict[bytes, bytes], loose: dict[bytes, LooseRef]) -> RefTable:
    lines = b"".join(b"%b %b\n" % (packed[name].hex().encode(), name) for name in sorted(packed))
    return RefTable(PackedRefs(b"# pack-refs with: sorted \n" + lines, SHA1), loose, None, SHA1)


def make_values(table: RefTable, *more: bytes, absent: frozenset[bytes] = frozenset()) -> RefValues:
    oids = b"".join(table.packed.oid_at(position) for position in range(table.packed.count))
    return RefValues(table, sort_values(oids, 20), lambda oid: oid not in absent, more)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(OIDS)),
    st.dictionaries(st.sampled_from(NAMES), LOOSE),
    st.frozensets(st.sampled_from(OIDS)),
    st.lists(st.sampled_from(OIDS), max_size=1),
)
def test_it_is_what_the_table_lists_as_far_as_it_exists(
    packed: dict[bytes, bytes], loose: dict[bytes, LooseRef], absent: frozenset[bytes], more: list[bytes]
) -> None:
    table = make_table(packed, loose)
    expected = (frozenset(ref.oid for ref in table.iter_refs()) | frozenset(more)) - absent
    values = make_values(table, *more, absent=absent)
    assert {oid for oid in OIDS if oid in values} == expected
    assert frozenset(values) == expected
    assert len(values) == len(expected)


def test_a_hidden_value_is_none_unless_another_ref_has_it_too() -> None:
    old, new = OIDS[:2]
    loose = {NAMES[0]: LooseRef(new, None)}
    assert old not in make_values(make_table({NAMES[0]: old}, loose))
    assert old in make_values(make_table({NAMES[0]: old, NAMES[1]: old}, loose))


def test_pickled_it_is_a_plain_set() -> None:
    values = make_values(make_table({NAMES[0]: OIDS[0], NAMES[1]: OIDS[1]}, {}), OIDS[2], absent=frozenset(OIDS[:1]))
    copy = pickle.loads(pickle.dumps(values))
    assert copy == frozenset(OIDS[1:3])
    assert type(copy) is frozenset
