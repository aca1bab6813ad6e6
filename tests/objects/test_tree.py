import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.objects.errors import MalformedObject
from govc.objects.tree import TreeEntry, is_gitlink, is_tree, parse_tree
from govc.protocol.oid import SHA1, SHA256

OID = bytes(range(20))
modes = st.sampled_from([0o100644, 0o100755, 0o40000, 0o120000, 0o160000, 0o100664])
names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.tuples(modes, names, st.binary(min_size=32, max_size=32))), st.sampled_from([SHA1, SHA256]))
def test_what_was_written_is_read(entries, algo):
    expected = [TreeEntry(mode, name, oid[: algo.oid_size]) for mode, name, oid in entries]
    data = b"".join(b"%o %s\0%s" % entry for entry in expected)
    assert expected == parse_tree(data, algo)


def test_zero_padded_modes_are_read():
    assert [TreeEntry(0o40000, b"a", OID)] == parse_tree(b"040000 a\0" + OID, SHA1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"0 a\0" + OID, "mode 0"),
        (b"000000 a\0" + OID, "mode 0"),
        (b"100644 a\0" + OID[:-1], "truncated"),
        (b"100644 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "truncated"),
        (b"100644 \0" + OID + OID, "empty name"),
        (b" a\0" + OID * 2, "malformed mode"),
        (b"100648 a\0" + OID, "malformed mode"),
        (b"-1 a\0" + OID * 2, "malformed mode"),
        (b"1" * 12 + b" a\0" + OID, "malformed mode"),
        (b"100644 a\0" + OID + b"x", "truncated"),
    ],
)
def test_a_damaged_tree_is_refused_with_its_reason(data, reason):
    for prefix in (b"", b"100644 fine\0" + OID):
        with pytest.raises(MalformedObject, match=reason):
            parse_tree(prefix + data, SHA1)


@pytest.mark.parametrize("data", [b"7" * 300_000, b"7 " * 300_000, b"1 a\0" * 100_000])
def test_hostile_trees_take_linear_time(data):
    with pytest.raises(MalformedObject):
        parse_tree(data, SHA1)


def test_modes_mean_what_git_takes_them_for():
    assert [True, False, False] == [is_tree(mode) for mode in (0o40000, 0o100644, 0o160000)]
    expected = [True, True, False, False, False]
    assert expected == [is_gitlink(mode) for mode in (0o160000, 0o010000, 0o40000, 0o100755, 0o120000)]
