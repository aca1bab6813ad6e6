import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.objects.commit import CommitLinks, parse_commit_links
from govc.objects.errors import MalformedObject
from govc.protocol.oid import SHA1, SHA256

TREE = b"tree " + b"1" * 40 + b"\n"
PEOPLE = b"author A <a@b> 1 +0000\ncommitter C <c@d> 1700000000 +0100\n"


def test_a_root_commit_has_no_parents():
    expected = CommitLinks(b"\x11" * 20, (), 1700000000)
    assert expected == parse_commit_links(TREE + PEOPLE + b"\nhello\n", SHA1)


@pytest.mark.parametrize("count", [1, 2, 66])
def test_parents_keep_their_order(count):
    parents = tuple(bytes([n]) * 20 for n in range(count))
    lines = b"".join(b"parent %s\n" % p.hex().encode() for p in parents)
    assert parents == parse_commit_links(TREE + lines + PEOPLE + b"\n", SHA1).parents


def test_sha256_commits_are_read():
    data = b"tree " + b"a" * 64 + b"\nparent " + b"b" * 64 + b"\n" + PEOPLE + b"\n"
    assert CommitLinks(b"\xaa" * 32, (b"\xbb" * 32,), 1700000000) == parse_commit_links(data, SHA256)


def test_further_headers_are_passed_over():
    data = TREE + PEOPLE + b"encoding latin-1\ngpgsig -----BEGIN\n parent x\n -----END\n\nparent nobody\n"
    assert (1700000000, ()) == parse_commit_links(data, SHA1)[:0:-1]


@pytest.mark.parametrize(
    "people",
    [
        b"",
        b"author A <a@b> 1 +0000\n",
        b"committer C <c@d> 7 +0000\n",
        b"author A\ncommitter C <c@d>\n",
        b"author A\ncommitter C 12 +0000\n",
        b"author A\ncommitter C <c@d> x12 +0000\n",
        b"author A\ncommitter C <c@d> -12 +0000\n",
        b"author A\ncommitter C <c@d> 99999999999999999999999 +0000\n",
        b"author A\ncommitter C <c@d> 18446744073709551615 +0000\n",
    ],
)
def test_an_unreadable_time_is_zero(people):
    assert 0 == parse_commit_links(TREE + people + b"\n", SHA1).time


def test_a_stray_bracket_in_a_name_does_not_hide_the_time():
    data = TREE + b"author A\ncommitter C > D <c@d> 5 +0000\n\n"
    assert 5 == parse_commit_links(data, SHA1).time


@pytest.mark.parametrize(
    "data",
    [
        b"",
        TREE[:-1],
        b"tree " + b"g" * 40 + b"\n",
        b" " + TREE,
        TREE + b"parent 12\n" + PEOPLE,
        TREE + b"parent " + b"1" * 41 + b"\n" + PEOPLE,
        TREE + b"parent " + b"1" * 40 + b"\nparent \n" + PEOPLE,
    ],
)
def test_a_damaged_commit_is_refused(data):
    with pytest.raises(MalformedObject):
        parse_commit_links(data, SHA1)


@settings(derandomize=True, max_examples=200)
@given(st.binary(max_size=200))
def test_junk_raises_nothing_but_malformed_object(junk):
    for data in (junk, TREE + junk, TREE + PEOPLE[:30] + junk):
        try:
            parse_commit_links(data, SHA1)
        except MalformedObject as error:
            assert "malformed commit" in str(error)
