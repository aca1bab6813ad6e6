import pytest

from govc.auth.claims import GROUPS_MAX, ClaimNames, principal_of
from govc.auth.principal import LoginFailed

NAMES = ClaimNames(user="sub", groups="roles")


def test_a_user_and_groups():
    found = principal_of({"sub": "ann", "roles": ["a", "b"], "groups": ["c"]}, NAMES, "jwt")
    assert ("ann", frozenset("ab"), "jwt") == (found.user, found.groups, found.method)
    assert principal_of({"sub": "ann", "roles": "a b"}, NAMES, "jwt").groups == frozenset("ab")
    assert principal_of({"sub": "ann"}, NAMES, "jwt").groups == frozenset()


def test_without_a_claim_for_groups_there_are_none():
    assert principal_of({"sub": "ann", "": ["a"], "roles": ["a"]}, ClaimNames(), "jwt").groups == frozenset()


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": " ann"},
        {"sub": "x" * 256},
        {"sub": ["ann"]},
        {"sub": "ann", "roles": {"a": 1}},
        {"sub": "ann", "roles": [1]},
        {"sub": "ann", "roles": ["a"] * (GROUPS_MAX + 1)},
    ],
)
def test_claims_that_name_nobody(claims):
    with pytest.raises(LoginFailed):
        principal_of(claims, NAMES, "jwt")
