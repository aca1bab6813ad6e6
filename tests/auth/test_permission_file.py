from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.permission_file import parse_permissions
from govc.auth.principal import BadAuthFile

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[groups\n", 1, "not TOML"),
        ("a = 1\nb = = 2\n", 2, "not TOML"),
        ('[groups]\na = ["x"]\n[rules]\n', 3, "no 'rules' here; there are groups, rule, branch"),
        ("[rule]\n", 1, "two brackets"),
        ("rule = 3\n", 1, "two brackets"),
        ('[groups]\nusers = ["x"]\n', 2, "built in"),
        ('[groups]\n"@a" = ["x"]\n', 2, "group's name"),
        ('[groups]\na = "x"\n', 2, "list of users"),
        ('[groups]\nb = []\na = ["@b"]\n', 3, "groups don't hold groups"),
        ('[groups]\na = ["x\\ny"]\n', 2, "can't be a user's name"),
        ("groups = 1\n", 1, "table"),
        ("\n[[rule]]\n", 2, "'repositories' is missing"),
        ('[[rule]]\nrepositories = ["a"]\n', 1, "gives nothing to anybody"),
        ('[[rule]]\nrepositories = []\nread = ["x"]\n', 2, "about nothing"),
        ('[[rule]]\nrepositories = "a"\nread = ["x"]\n', 2, "list of patterns"),
        ('[[rule]]\nrepositories = ["a"]\nread = ["x"]\nwirte = ["y"]\n', 4, "no 'wirte' here"),
        ('[[rule]]\nrepositories = ["a"]\nread = ["x"]\n\n[[rule]]\nrepositories = ["b/"]\nread = ["x"]\n', 6, "slash"),
        ('[[rule]]\nrepositories = ["a"]\nread = ["@devs"]\n', 3, "no group '@devs'"),
        ('[[rule]]\nrepositories = ["a"]\nread = ["@admins"]\n', 3, "means nothing here"),
        ('[[rule]]\nrepositories = ["a"]\nread = "x"\n', 3, "list of users"),
        ('[[rule]]\nrepositories = ["a"]\nread = [""]\n', 3, "can't be a user's name"),
        ('[[rule]]\nrepositories = ["a"]\nadmin = ["@anyone"]\n', 3, "can't be admin"),
        ('[[branch]]\nrepositories = ["a"]\n', 1, "'refs' is missing"),
        ('[[branch]]\nrepositories = ["a"]\nrefs = ["main"]\n', 3, "no full refname"),
        ('[[branch]]\nrepositories = ["a"]\nrefs = ["refs/heads/main"]\nforce = "no"\n', 4, "true or false"),
        ('[[branch]]\nrepositories = ["a"]\nrefs = ["refs/heads/main"]\nonly = ["@nix"]\n', 4, "no group"),
        ('[[branch]]\nrepositories = ["a"]\nrefs = ["refs/heads/main"]\nsinged = true\n', 4, "no 'singed' here"),
        ('[[rule]]\nrepositories = [\n  "a",\n  "b/",\n]\nread = ["x"]\n', 2, "slash"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, line, reason):
    with pytest.raises(BadAuthFile, match=reason) as caught:
        parse_permissions(text.encode(), "conf/p.toml")
    assert (line, "conf/p.toml") == (caught.value.line, caught.value.path)
    assert f"conf/p.toml line {line}: " in str(caught.value)


def test_bytes_that_are_no_text_are_named_with_their_line():
    with pytest.raises(BadAuthFile, match="line 2: not UTF-8"):
        parse_permissions(b"[groups]\n\xff\n", "p")


@given(st.binary(max_size=200) | st.text("[]=\"'\\\n#ab,.{} ", max_size=200).map(str.encode))
def test_property_arbitrary_bytes_are_a_policy_or_one_error(content):
    try:
        parse_permissions(content, "p")
    except BadAuthFile as error:
        assert error.path == "p"


def test_deep_nesting_is_an_error_not_a_crash():
    with pytest.raises(BadAuthFile):
        parse_permissions(b"a = " + b"[" * 100_000, "p")


def test_the_example_of_the_project_is_taken():
    path = PROJECT / "conf" / "permissions.toml"
    policy = parse_permissions(path.read_bytes(), str(path))
    assert policy.rules and policy.branches
