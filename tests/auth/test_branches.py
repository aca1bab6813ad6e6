import pytest

from govc.auth.branches import NO_RULES, UpdateFacts
from govc.auth.permission_file import parse_permissions
from govc.auth.principal import ANONYMOUS, Level, Principal

FILE = b"""
[groups]
release = ["rita"]

[[rule]]
repositories = ["**"]
write = ["@users"]
admin = ["root"]

[[branch]]
repositories = ["team/**"]
refs = ["refs/heads/main", "refs/heads/release/*"]

[[branch]]
repositories = ["team/app"]
refs = ["refs/heads/release/*"]
only = ["@release", "@admins"]
delete = true

[[branch]]
repositories = ["**"]
refs = ["refs/tags/**"]
force = false
delete = false
exempt = ["@admins", "rita"]

[[branch]]
repositories = ["team/signed"]
refs = ["refs/heads/**"]
force = true
delete = true
signed = true
"""
POLICY = parse_permissions(FILE, "p.toml")


def rules(user="ann", name="team/app", level=None):
    principal = Principal(user=user) if user else ANONYMOUS
    return POLICY.branch_rules(principal, (name,), POLICY.level(principal, (name,)) if level is None else level)


def facts(kind="forward", signed=False):
    return UpdateFacts(
        deletes=kind == "delete",
        creates=kind == "create",
        goes_forward=lambda: kind == "forward",
        is_signed=signed,
    )


def refusal(ref, kind="forward", user="ann", name="team/app", signed=False):
    return rules(user, name).refusal((ref,), facts(kind, signed))


@pytest.mark.parametrize(
    ("ref", "kind", "user", "reason"),
    [
        ("refs/heads/main", "forward", "ann", None),
        ("refs/heads/main", "create", "ann", None),
        ("refs/heads/main", "force", "ann", "non-fast-forward"),
        ("refs/heads/main", "delete", "ann", "deletion"),
        ("refs/heads/main", "force", "root", "non-fast-forward"),
        ("refs/heads/other", "force", "ann", None),
        ("refs/heads/other", "delete", "ann", None),
        ("refs/heads/release/1", "forward", "ann", "not yours"),
        ("refs/heads/release/1", "create", "ann", "not yours"),
        ("refs/heads/release/1", "delete", "ann", "deletion"),  # the first rule that covers it says so
        ("refs/heads/release/1", "forward", "rita", None),
        ("refs/heads/release/1", "forward", "root", None),
        ("refs/heads/release/1", "delete", "rita", "deletion"),  # both rules must allow it
        ("refs/heads/release/1/2", "delete", "ann", None),
        ("refs/tags/v1", "create", "ann", None),
        ("refs/tags/v1", "force", "ann", "non-fast-forward"),
        ("refs/tags/v1", "force", "rita", None),
        ("refs/tags/v1", "delete", "root", None),
    ],
)
def test_what_is_refused(ref, kind, user, reason):
    found = refusal(ref, kind, user)
    assert found is None if reason is None else found is not None and reason in found


def test_a_rule_may_ask_for_signatures():
    assert "signed" in (refusal("refs/heads/x", name="team/signed") or "")
    assert refusal("refs/heads/x", "delete", name="team/signed", signed=True) is None


def test_every_name_of_a_ref_is_protected():
    found = rules().refusal(("refs/heads/alias", "refs/heads/main"), facts("delete"))
    assert found is not None and "deletion" in found


def test_history_is_walked_only_when_it_matters():
    def never() -> bool:
        raise AssertionError("asked")

    for ref, deletes in (("refs/heads/main", True), ("refs/heads/other", False)):
        rules().refusal((ref,), UpdateFacts(deletes, False, never, False))
    assert rules(name="team/signed").refusal(("refs/heads/x",), UpdateFacts(False, False, never, True)) is None


def test_admins_are_who_have_the_level_by_this_login():
    # A token of an admin that may only write is no admin.
    assert "not yours" in (rules("root", level=Level.WRITE).refusal(("refs/heads/release/1",), facts()) or "")


def test_no_rules_refuse_nothing():
    assert not NO_RULES
    assert NO_RULES.refusal(("refs/heads/main",), facts("delete")) is None
