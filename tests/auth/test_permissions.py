import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.patterns import RepositoryPattern
from govc.auth.permission_file import parse_permissions
from govc.auth.permissions import ANSWERS_KEPT_MAX, LoginPermissions, Permissions
from govc.auth.principal import ANONYMOUS, Grant, Level, Principal

FILE = b"""
[groups]
developers = ["ann", "bob"]
ops = []

[[rule]]
repositories = ["team/secret"]
read = ["ann"]
none = ["@users"]

[[rule]]
repositories = ["team/**"]
read = ["@users"]
write = ["@developers"]
admin = ["dora", "@ops"]
none = ["eve"]

[[rule]]
repositories = ["public/*"]
read = ["@anyone"]
write = ["@users"]
"""


@pytest.fixture(scope="module")
def policy():
    return parse_permissions(FILE, "p.toml")


def level(policy, user, *names, **more):
    principal = ANONYMOUS if user is None else Principal(user=user, method="password", **more)
    return policy.level(principal, names)


@pytest.mark.parametrize(
    ("user", "name", "expected"),
    [
        ("ann", "team/app", Level.WRITE),
        ("carl", "team/app", Level.READ),
        ("dora", "team/app", Level.ADMIN),
        ("eve", "team/app", Level.NONE),
        (None, "team/app", Level.NONE),
        ("ann", "team/secret", Level.READ),
        ("bob", "team/secret", Level.NONE),
        ("dora", "team/secret", Level.NONE),
        (None, "team/secret", Level.NONE),
        (None, "public/x", Level.READ),
        ("eve", "public/x", Level.WRITE),
        (None, "public/x/y", Level.NONE),
        ("ann", "elsewhere", Level.NONE),
        ("@developers", "team/app", Level.READ),
        ("", "team/app", Level.READ),
    ],
)
def test_the_first_rule_that_speaks_of_somebody_decides(policy, user, name, expected):
    assert level(policy, user, name) is expected


def test_groups_of_a_bearer_token_count_beside_the_files(policy):
    assert level(policy, "zoe", "team/app", groups=frozenset(["ops"])) is Level.ADMIN
    assert level(policy, "zoe", "team/app", groups=frozenset(["developers", "x"])) is Level.WRITE
    assert level(policy, "zoe", "team/app") is Level.READ


def test_a_claim_cannot_name_a_built_in_group(policy):
    assert level(policy, "zoe", "team/app", groups=frozenset(["users", "anyone", "@ops"])) is Level.READ


def test_a_claim_of_admins_is_not_the_built_in_group_and_no_exemption():
    text = b"""
[groups]
ops = []
[[rule]]
repositories = ["**"]
write = ["@users"]
[[branch]]
repositories = ["**"]
refs = ["refs/**"]
only = ["@ops"]
exempt = ["@admins"]
"""
    policy = parse_permissions(text, "p")
    for claims, is_bound in ((["admins"], True), (["@admins"], True), (["users"], True), (["ops"], True)):
        principal = Principal(user="zoe", groups=frozenset(claims))
        assert policy.groups_of(principal) <= {"@ops"}
        assert bool(policy.branch_rules(principal, ("a",), Level.WRITE)) == is_bound
    assert not policy.branch_rules(Principal(user="zoe"), ("a",), Level.ADMIN)


def test_of_several_names_the_lowest_level_counts(policy):
    assert level(policy, "bob", "team/app", "team/secret") is Level.NONE
    assert level(policy, "ann", "team/app", "team/secret") is Level.READ
    assert level(policy, "ann") is Level.NONE


def test_a_token_gives_no_more_than_its_grants_and_no_more_than_its_user_has(policy):
    grants = (Grant(RepositoryPattern("team/**"), Level.READ), Grant(RepositoryPattern("public/x"), Level.WRITE))
    assert level(policy, "ann", "team/app", grants=grants) is Level.READ
    assert level(policy, "ann", "public/x", grants=grants) is Level.WRITE
    assert level(policy, "ann", "public/y", grants=grants) is Level.NONE
    assert level(policy, "bob", "team/secret", grants=grants) is Level.NONE
    assert level(policy, "ann", "team/app", grants=()) is Level.NONE


def test_the_answer_of_one_login_is_not_given_to_another(policy):
    # The memory of answers is by person; a token's limit is applied behind it.
    limited = (Grant(RepositoryPattern("public/*"), Level.READ),)
    for _ in range(2):
        assert level(policy, "ann", "team/app", grants=limited) is Level.NONE
        assert level(policy, "ann", "team/app") is Level.WRITE


def test_names_of_strangers_do_not_fill_the_memory():
    policy = parse_permissions(b'[[rule]]\nrepositories = ["**"]\nread = ["@anyone"]\n', "p")
    for number in range(ANSWERS_KEPT_MAX + 10):
        assert level(policy, None, f"r{number}") is Level.READ
    assert len(policy._answers) <= ANSWERS_KEPT_MAX


def test_an_empty_file_gives_nothing():
    assert level(Permissions(), "ann", "a") is Level.NONE


USERS = ["ann", "bob", "carl"]
SUBJECT = st.sampled_from([*USERS, "@g", "@h", "@users", "@anyone"])
RULES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["**", "a", "a/*", "b/**", "*"]), min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(["none", "read", "write"]), st.lists(SUBJECT, max_size=3), min_size=1),
    ),
    max_size=4,
)


def plainly(groups, rules, user, name):
    """The rule of the documentation, written as plainly as possible."""
    for patterns, levels in rules:
        if not any(RepositoryPattern(pattern).matches(name) for pattern in patterns):
            continue
        kinds = [lambda word: user is not None and word == user]
        kinds.append(lambda word: user is not None and word[:1] == "@" and user in groups.get(word[1:], ()))
        kinds.append(lambda word: user is not None and word == "@users")
        kinds.append(lambda word: word == "@anyone")
        for kind in kinds:
            said = [level for level, words in levels.items() if any(kind(word) for word in words)]
            if said:
                return "none" if "none" in said else "write" if "write" in said else "read"
    return "none"


@given(
    st.fixed_dictionaries({"g": st.lists(st.sampled_from(USERS)), "h": st.lists(st.sampled_from(USERS))}),
    RULES,
    st.sampled_from([None, *USERS]),
    st.sampled_from(["a", "a/x", "b/x/y", "c"]),
)
def test_property_the_policy_is_the_documented_rule(groups, rules, user, name):
    lines = ["[groups]", *(f"{group} = {members!r}" for group, members in groups.items())]
    for patterns, levels in rules:
        lines += [
            "[[rule]]",
            f"repositories = {patterns!r}",
            *(f"{word} = {list(who)!r}" for word, who in levels.items()),
        ]
    policy = parse_permissions("\n".join(lines).encode(), "p")
    assert plainly(groups, rules, user, name) == level(policy, user, name).name.lower()


def test_without_a_file_whoever_logged_in_is_left_to_the_repository():
    grants = (Grant(RepositoryPattern("a"), Level.READ),)
    policy = LoginPermissions()
    assert level(policy, None, "a") is Level.NONE
    assert level(policy, "ann", "a") is Level.WRITE
    assert level(policy, "ann", "a", grants=grants) is Level.READ
    assert level(LoginPermissions(Level.READ), None, "a") is Level.READ
    assert not policy.branch_rules(ANONYMOUS, ("a",), Level.WRITE)
