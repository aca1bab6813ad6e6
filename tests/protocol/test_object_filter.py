import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.object_filter import (
    BlobLimit,
    BlobNone,
    Combine,
    ObjectType,
    SparseOid,
    TreeDepth,
    find_banned_filter,
    parse_filter,
)

GOOD = [
    (b"blob:none", BlobNone()),
    (b"blob:limit=0", BlobLimit(0)),
    (b"blob:limit=1k", BlobLimit(1024)),
    (b"blob:limit=2M", BlobLimit(2 << 20)),
    (b"blob:limit=0x10g", BlobLimit(16 << 30)),
    (b"tree:0", TreeDepth(0)),
    (b"sparse:oid=main:x", SparseOid(b"main:x")),
    (b"object:type=commit", ObjectType(1)),
    (b"object:type=tag", ObjectType(4)),
    (b"combine:blob:none", Combine((BlobNone(),))),
    (b"combine:blob:none+tree:3", Combine((BlobNone(), TreeDepth(3)))),
    (b"combine:tree%3A3+blob%3anone", Combine((TreeDepth(3), BlobNone()))),
    (
        b"combine:combine:tree:1%2Btree:2+tree:3",
        Combine((Combine((TreeDepth(1), TreeDepth(2))), TreeDepth(3))),
    ),
]
BAD = [
    (b"", "invalid filter-spec ''"),
    (b"blob:none+", "invalid filter-spec 'blob:none+'"),
    (b"blob:limit=", "invalid filter-spec 'blob:limit='"),
    (b"blob:limit=1x", "invalid filter-spec 'blob:limit=1x'"),
    (b"blob:limit=-1", "invalid filter-spec 'blob:limit=-1'"),
    (b"blob:limit=99999999999999999999", "invalid filter-spec 'blob:limit=99999999999999999999'"),
    (b"tree:", "expected 'tree:<depth>'"),
    (b"tree:2x", "expected 'tree:<depth>'"),
    (b"sparse:path=x", "sparse:path filters support has been dropped"),
    (b"auto", "'auto' filter not supported by this command"),
    (b"object:type=x", "'x' for 'object:type=<type>' is not a valid object type"),
    (b"combine:", "expected something after combine:"),
    (b"combine:a b", "must escape char in sub-filter-spec: ' '"),
    (b"combine:blob:none+", "invalid filter-spec 'blob:none+'"),
    (b"combine:" * 9000, "combine filters nested deeper than 16"),
]


@pytest.mark.parametrize(("spec", "expected"), GOOD)
def test_specs_become_values(spec, expected):
    assert expected == parse_filter(spec)


@pytest.mark.parametrize(("spec", "text"), BAD)
def test_bad_specs_are_refused_with_gits_text(spec, text):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_filter(spec)
    assert text == caught.value.text


def test_bans_name_the_kind_or_the_depth():
    assert find_banned_filter(BlobNone(), lambda kind: True) is None
    assert find_banned_filter(BlobNone(), lambda kind: False) == "filter 'blob:none' not supported"
    deep = parse_filter(b"combine:blob:limit=1+tree:4")
    assert find_banned_filter(deep, lambda kind: kind != "tree") == "filter 'tree' not supported"
    assert find_banned_filter(deep, lambda kind: kind != "combine") == "filter 'combine' not supported"
    assert find_banned_filter(deep, lambda kind: True, 1) == "tree filter allows max depth 1, but got 4"
    assert find_banned_filter(deep, lambda kind: True, 4) is None


words = st.sampled_from([b"combine:", b"tree:", b"1", b"k", b"+", b"%2B", b"blob:limit=", b"blob:none", b"\xff", b"%"])


@settings(derandomize=True, max_examples=200)
@given(st.lists(words, max_size=12).map(b"".join))
def test_arbitrary_specs_raise_only_remote_protocol_error(spec):
    with contextlib.suppress(RemoteProtocolError):
        hash(parse_filter(spec))
