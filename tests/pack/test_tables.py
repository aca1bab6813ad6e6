from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from govc.pack.tables import EntryTable, RefChildren, sort_by_offset, sort_by_oid
from govc.protocol.oid import SHA1


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.sampled_from([b"\x00" * 20, b"\xff" * 20, b"\x00\x01" * 10, b"\x7f" * 20, b"\x00\x02" * 10])))
def test_sorting_by_oid_is_ascending_and_stable(oids):
    expected = sorted(range(len(oids)), key=oids.__getitem__)
    assert expected == sort_by_oid(b"".join(oids), 20).tolist()


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, (1 << 64) - 1))))
def test_sorting_by_offset_is_ascending_and_stable(offsets):
    assert sorted(range(len(offsets)), key=offsets.__getitem__) == sort_by_offset(array("Q", offsets)).tolist()


def test_ref_children_are_found_in_the_order_of_the_file():
    table = EntryTable(SHA1, 6)
    first, second = b"\x01\x02" + b"a" * 18, b"\x01\x02" + b"b" * 18
    for entry, oid in ((1, second), (3, first), (4, second), (5, b"\xff" * 20)):
        table.ref_entries.append(entry)
        table.ref_base_oids += oid
    children = RefChildren(table)
    assert [1, 4] == list(children.find(second) or ())
    assert [3] == list(children.find(first) or ())
    assert [5] == list(children.find(b"\xff" * 20) or ())
    assert children.find(b"\x01\x02" + b"c" * 18) is None
    assert children.find(bytes(20)) is None
