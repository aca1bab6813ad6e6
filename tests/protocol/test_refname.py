import pytest

from govc.protocol.refname import check_refname_format, is_safe_refname, is_storable_refname

GOOD = [b"refs/heads/main", b"heads/a.b", b"a/b", b"refs/x/@", b"a./b", b"a/b@", b"@/a", "a/é".encode()]
BAD = [
    *(
        b"",
        b"/",
        b"@",
        b"a/",
        b"/a/b",
        b"a//b",
        b"a/.b",
        b".a/b",
        b"a/b.",
        b"a/b..c",
        b"a/b.lock",
        b"a.lock/b",
    ),
    *(
        b"a/b@{c",
        b"a/b c",
        b"a/b~",
        b"a/b^",
        b"a/b:",
        b"a/b?",
        b"a/b*",
        b"a/b[",
        b"a/b\\",
        b"a/\x7f",
        b"a/\x01",
    ),
    *(b"a/b\n", b"a/\0", b"refs/../config", b"refs/heads/../../x"),
]


@pytest.mark.parametrize("name", GOOD)
def test_well_formed_names_pass(name):
    assert check_refname_format(name)


@pytest.mark.parametrize("name", BAD)
def test_ill_formed_names_fail_at_any_level(name):
    assert not check_refname_format(name, allow_onelevel=True)
    assert not check_refname_format(name)


def test_one_level_needs_leave():
    assert not check_refname_format(b"HEAD")
    assert check_refname_format(b"HEAD", allow_onelevel=True)


def test_a_push_stays_under_refs():
    assert is_safe_refname(b"refs/heads/main")
    assert is_safe_refname(b"refs/for/x/y")
    for name in (b"HEAD", b"config", b"refs/../config", b"refs/heads/../../x", b"refs/", b"xrefs/heads/a"):
        assert not is_safe_refname(name)
        assert not is_safe_refname(name, deleting=True)


def test_one_level_under_refs_may_only_be_deleted():
    assert not is_safe_refname(b"refs/x")
    assert is_safe_refname(b"refs/x", deleting=True)


def test_long_components_cannot_be_stored():
    assert is_storable_refname(b"refs/heads/" + b"x" * 250)
    assert not is_storable_refname(b"refs/heads/" + b"x" * 251)
    assert is_storable_refname(b"refs/" + b"x" * 255 + b"/a")
    assert not is_storable_refname(b"refs/" + b"x" * 256 + b"/a")
