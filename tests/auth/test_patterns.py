import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.patterns import BadPattern, RefPattern, RepositoryPattern, repository_name
from govc.config.wildmatch import matches
from govc.repo.discover import SUFFIXES

PARTS = st.lists(st.sampled_from(["a", "b", "team", "x.git", ".git", "~u", "a.git.git", "ü"]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/team/app.git", "team/app"),
        ("/team/app", "team/app"),
        ("/team/app/.git", "team/app"),
        ("/team/app.git/.git", "team/app"),
        ("/team/app.git/", "team/app"),
        ("/app.git.git", "app"),
        ("/.git", ""),
        ("/", ""),
        ("", ""),
        ("~ann/x.git", "~ann/x"),
        ("/app.git/worktrees/w", "app.git/worktrees/w"),
    ],
)
def test_all_urls_of_a_repository_have_one_name(path, name):
    assert repository_name(path) == name


@given(PARTS, st.sampled_from(SUFFIXES))
def test_property_what_git_guesses_has_the_name_of_what_was_asked_for(parts, suffix):
    # find_repository looks for path + suffix; a rule about what is found must hold for what was asked.
    path = "/" + "/".join(parts)
    assert repository_name(path + suffix) == repository_name(path)


@given(PARTS)
def test_property_a_name_is_its_own_name(parts):
    name = repository_name("/".join(parts))
    assert repository_name(name) == repository_name("/" + name) == name


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("team/app", ["team/app"], ["team/app2", "team", "team/app/x", "Team/app"]),
        ("/team/app.git", ["team/app"], ["team/app.git/x"]),
        ("team/*", ["team/app", "team/b"], ["team", "team/a/b", "teams/a"]),
        ("team/*.git", ["team/app"], ["team/a/b"]),
        ("team/**", ["team/app", "team/a/b/c"], ["team", "teams/a"]),
        ("**/secret", ["secret", "a/secret", "a/b/secret"], ["a/secret2", "secret/a"]),
        ("**", ["", "a", "a/b/c"], []),
        ("*", ["a", "ab"], ["a/b"]),
        ("/", [""], ["a"]),
        ("team/[ab]?", ["team/ax", "team/b1"], ["team/cx", "team/a", "team/a/"]),
    ],
)
def test_what_a_pattern_covers(pattern, covered, not_covered):
    made = RepositoryPattern(pattern)
    assert [made.matches(name) for name in covered] == [True] * len(covered)
    assert [made.matches(name) for name in not_covered] == [False] * len(not_covered)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "empty"),
        ("//", "empty"),
        ("team/", "team/\\*\\*"),
        ("team//app", "matches nothing"),
        ("../x", "matches nothing"),
        ("team/./x", "matches nothing"),
        ("team/[ab", "bracket"),
        ("team\\", "backslash"),
        ("**.git", "write"),
        ("team/**.git", "write"),
        ("a" * 5000, "longer"),
    ],
)
def test_a_pattern_that_would_match_nothing_or_too_much_is_refused(pattern, reason):
    with pytest.raises(BadPattern, match=reason):
        RepositoryPattern(pattern)


@given(
    st.text("ab*?/[]!-\\", min_size=1, max_size=12).filter(lambda text: not text.endswith("/")),
    st.text("ab/-!", max_size=12),
)
def test_property_the_short_cuts_agree_with_the_matcher(pattern, name):
    try:
        made = RepositoryPattern(pattern)
    except BadPattern:
        return
    assert made.matches(name) == matches(pattern.removeprefix("/"), name)


def test_a_ref_pattern_is_a_full_name():
    assert RefPattern("refs/heads/release/*").matches("refs/heads/release/1")
    assert not RefPattern("refs/heads/release/*").matches("refs/heads/release/1/2")
    assert RefPattern("refs/**").matches("refs/tags/v1")
    for bad in ("main", "heads/main", "HEAD", "refs/heads//x", "refs/heads/", "refs/[a"):
        with pytest.raises(BadPattern):
            RefPattern(bad)
