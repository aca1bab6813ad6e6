"""`RefColumns` answers as a sorted dict would."""

from hypothesis import given
from hypothesis import strategies as st

from govc.protocol.oid import SHA1
from govc.refs.packed import NOT_A_TAG
from govc.refs.reftable.columns import RefColumns, TableRefs
from govc.refs.reftable.format import RefRecord

names = st.lists(st.sampled_from([b"a", b"b", b"c0", b"\xff", b"heads", b"tags"]), min_size=1, max_size=4).map(
    lambda parts: b"refs/" + b"/".join(parts)
)
oids = st.integers(1, 30).map(lambda number: bytes((number,)) * 20)
models = st.dictionaries(names, st.tuples(oids, st.none() | oids), max_size=40)


def columns_of(model):
    return TableRefs.of((RefRecord(name, 1, *model[name]) for name in sorted(model)), 20).columns


def check(model, columns):
    expected = [
        (name, oid, peeled or (NOT_A_TAG if name.startswith(b"refs/heads/") else None))
        for name, (oid, peeled) in sorted(model.items())
    ]
    assert expected == list(columns.iter_entries())
    assert len(model) == columns.count == len(columns)
    for position, (name, oid, peeled) in enumerate(expected):
        assert position == columns.find(name)
        assert (name, oid, peeled) == (
            columns.name_at(position),
            columns.oid_at(position),
            columns.peeled_at(position),
        )
    for prefix in b"", b"refs/", b"refs/a", b"refs/heads/", b"refs/\xff", b"s":
        low, high = columns.range_of_prefix(prefix)
        assert [name for name in sorted(model) if name.startswith(prefix)] == list(columns.iter_names(low, high))


@given(models)
def test_property_columns_are_a_sorted_dict(model):
    columns = columns_of(model)
    check(model, columns)
    for name in b"refs/none", b"", b"refs/a\xff", b"z":
        assert (columns.find(name) >= 0) == (name in model)
        assert columns.get(name) == model.get(name, (None,))[0]


@given(models, st.dictionaries(names, st.none() | st.tuples(oids, st.none() | oids), max_size=15))
def test_property_replacing_is_updating_the_dict(model, changes):
    after = dict(model)
    for name, value in changes.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    ordered = [(name, *(changes[name] or (None, None))) for name in sorted(changes)]
    before = columns_of(model)
    check(after, before.replaced(ordered))
    check(model, before)


def test_more_names_than_a_chunk():
    model = {b"refs/heads/%06d" % number: (bytes((number % 251 + 1,)) * 20, None) for number in range(2500)}
    columns = columns_of(model)
    assert sorted(model) == list(columns.iter_names())
    assert sorted(model)[999:2001] == list(columns.iter_names(999, 2001))
    assert [entry.name for entry in columns.iter_entries(1000, 1001)] == [b"refs/heads/001000"]


def test_none_at_all():
    empty = RefColumns(b"", b"", b"", SHA1.oid_size)
    assert (0, -1, [], (0, 0)) == (
        empty.count,
        empty.find(b"x"),
        list(empty.iter_entries()),
        empty.range_of_prefix(b"refs/"),
    )
