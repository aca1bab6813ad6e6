import pytest

from govc.config.wildmatch import matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("foo", "foo", True),
        ("foo", "fo", False),
        ("f?o", "foo", True),
        ("f?o", "f/o", False),
        ("*", "foo", True),
        ("*", "foo/bar", False),
        ("*/b", "foo/b", True),
        ("**", "foo/bar", True),
        ("**", "", True),
        ("foo/**", "foo/", True),
        ("foo/**", "foo", False),
        ("foo/**", "foo/a/b", True),
        ("**/foo", "foo", True),
        ("**/foo", "a/b/foo", True),
        ("**/foo", "afoo", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a/**/**/b", "a/b", True),
        ("foo**bar", "foo/bar", False),
        ("foo**bar", "fooxbar", True),
        ("foo/**\\/bar", "foo/x/bar", True),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[]-]x", "]x", True),
        ("[]-]x", "-x", True),
        ("[a-]x", "-x", True),
        ("a[!b]c", "a/c", False),
        ("[[:digit:]x]", "5", True),
        ("[[:digit:]x]", "x", True),
        ("[[:nope:]]", "x", False),
        ("[abc", "a", False),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("foo\\", "foo", False),
        ("[\\]]", "]", True),
        ("release/*/x", "release/1/x", True),
    ],
)
def test_a_pattern_follows_git_s_path_rules(pattern: str, text: str, expected: bool) -> None:
    assert expected == matches(pattern, text)


def test_case_is_ignored_on_request() -> None:
    assert not matches("/A/*", "/a/B")
    assert matches("/A/*", "/a/B", ignore_case=True)
    assert matches("[A-C]", "b", ignore_case=True)
    assert matches("[[:upper:]]", "B", ignore_case=True)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 500 + "b", "a" * 3000)
    assert not matches("**/" * 300 + "b", "a/" * 500)


def test_an_endless_pattern_matches_nothing() -> None:
    assert not matches("*" * 5000, "a")
