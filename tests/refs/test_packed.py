import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptRefs
from govc.protocol.oid import SHA1, SHA256
from govc.protocol.refname import check_refname_format
from govc.refs.packed import NOT_A_TAG, PackedEntry, PackedRefs, encode_packed_refs, merge_entries

A, B = b"\xaa" * 20, b"\xbb" * 20
HEX_A, HEX_B = b"aa" * 20, b"bb" * 20
HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"

names = st.lists(st.sampled_from([b"a", b"b", b"\xff", b"v1.0", b"x-y", b"}"]), min_size=1, max_size=3).map(
    lambda parts: b"refs/" + b"/".join(parts)
)
oids = st.binary(min_size=20, max_size=20)


@settings(max_examples=200, derandomize=True)
@given(st.dictionaries(names, st.tuples(oids, st.one_of(st.just(NOT_A_TAG), oids))))
def test_what_is_written_is_read_again(refs):
    entries = [PackedEntry(name, *refs[name]) for name in sorted(refs)]
    packed = PackedRefs(b"".join(encode_packed_refs(entries)), SHA1)
    assert entries == list(packed.iter_entries())
    assert sorted(refs) == list(packed.iter_names())
    for position, entry in enumerate(entries):
        assert position == packed.find(entry.name)
        got = PackedEntry(packed.name_at(position), packed.oid_at(position), packed.peeled_at(position))
        assert entry == got


@settings(max_examples=200, derandomize=True)
@given(st.sets(names), st.one_of(names, st.sampled_from([b"", b"refs/", b"refs/a", b"\xff", b"refs/\xff"])))
def test_a_prefix_is_one_range(found, prefix):
    entries = [PackedEntry(name, A, NOT_A_TAG) for name in sorted(found)]
    packed = PackedRefs(b"".join(encode_packed_refs(entries)), SHA1)
    low, high = packed.range_of_prefix(prefix)
    assert [n for n in sorted(found) if n.startswith(prefix)] == list(packed.iter_names(low, high))


@settings(max_examples=200, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                HEADER,
                HEX_A + b" ",
                b"^" + HEX_B + b"\n",
                b"refs/heads/a\n",
                b"refs/x..y\n",
                b"\n",
                b" ",
                b"\0",
            ]
        )
    ).map(b"".join)
    | st.binary()
)
def test_any_bytes_are_read_or_refused_as_corrupt(data):
    try:
        packed = PackedRefs(data, SHA1)
    except CorruptRefs:
        return
    assert all(check_refname_format(entry.name) for entry in packed.iter_entries())


def test_without_header_or_sorting_lines_are_sorted():
    data = b"%b refs/heads/b\n%b refs/heads/a\n" % (HEX_B, HEX_A)
    expected = [PackedEntry(b"refs/heads/a", A, None), PackedEntry(b"refs/heads/b", B, None)]
    assert expected == list(PackedRefs(data, SHA1).iter_entries())


def test_the_old_trait_speaks_of_tags_only():
    data = b"# pack-refs with: peeled \n%b refs/heads/b\n%b refs/tags/a\n" % (HEX_B, HEX_A)
    packed = PackedRefs(data, SHA1)
    assert (packed.peeled_at(0), packed.peeled_at(1)) == (None, NOT_A_TAG)


def test_sha256_names_are_longer():
    data = HEADER + b"cc" * 32 + b" refs/heads/a\n"
    assert PackedRefs(data, SHA256).get(b"refs/heads/a") == b"\xcc" * 32


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"nonsense\n", "unexpected line in packed-refs: nonsense"),
        (HEX_A + b" refs/heads/a", f"unterminated line in packed-refs: {'aa' * 20} refs/heads/a"),
        (b"^" + HEX_A + b"\n", f"unexpected line in packed-refs: ^{'aa' * 20}"),
        (b"# other\n", "unexpected line in packed-refs: # other"),
        (b"x" * 90 + b"\n", f"unexpected line in packed-refs: {'x' * 75}..."),
        (HEX_A + b" refs/../config\n", "packed refname is dangerous: refs/../config"),
    ],
)
def test_what_git_dies_of_is_corrupt_with_its_text(data, text):
    with pytest.raises(CorruptRefs) as caught:
        PackedRefs(data, SHA1)
    assert text == str(caught.value)


def test_badly_named_refs_are_left_out_with_a_warning():
    data = HEADER + b"%b refs/heads/a b\n%b refs/heads/c\n" % (HEX_A, HEX_B)
    packed = PackedRefs(data, SHA1)
    assert list(packed.iter_names()) == [b"refs/heads/c"]
    assert packed.warnings == ("ignoring ref with broken name refs/heads/a b",)


def test_changes_are_merged_in_order_and_peeled():
    packed = PackedRefs(b"%b refs/b\n%b refs/d\n" % (HEX_A, HEX_A), SHA1)
    changes = {b"refs/a": B, b"refs/b": None, b"refs/e": A, b"refs/absent": None}
    merged = list(merge_entries(packed, changes, lambda oid: A if oid == B else None))
    expected = [(b"refs/a", B, A), (b"refs/d", A, NOT_A_TAG), (b"refs/e", A, NOT_A_TAG)]
    assert expected == merged
