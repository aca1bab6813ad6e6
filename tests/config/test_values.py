import subprocess

import pytest

from govc.config.config import Config, Scope
from govc.config.values import (
    NEVER_SECONDS,
    NOW_SECONDS,
    BadConfigValue,
    BadValue,
    expand_path,
    parse_bool,
    parse_expiry,
    parse_int,
    parse_unsigned,
)

TEXTS = [
    "true",
    "YES",
    "on",
    "false",
    "No",
    "off",
    "",
    "0",
    "1",
    "-1",
    "2k",
    "010",
    "0x1F",
    "08",
    "0x",
    "1kk",
]
TEXTS += [
    "1K",
    "3m",
    "1g",
    "4g",
    " 7",
    "7 ",
    "abc",
    "+5",
    "--5",
    "2147483647",
    "2147483648",
    "9223372036854775807",
]
TEXTS += ["9223372036854775808", "8589934592g", "1.5", "1_0", "٣"]


def ask_git(kind: str, text: str) -> str | None:
    command = ["git", "-c", f"a.b={text}", "config", f"--type={kind}", "a.b"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else None


@pytest.mark.parametrize("text", TEXTS)
def test_a_bool_is_what_git_says(text: str) -> None:
    expected = ask_git("bool", text)
    try:
        actual = str(parse_bool(text)).lower()
    except BadValue:
        actual = None
    assert expected == actual


@pytest.mark.parametrize("text", TEXTS)
def test_a_number_is_what_git_says(text: str) -> None:
    expected = ask_git("int", text)
    try:
        actual = str(parse_int(text))
    except BadValue:
        actual = None
    assert expected == actual


def test_an_unsigned_number_has_no_sign() -> None:
    assert parse_unsigned("1024g") == 1 << 40
    with pytest.raises(BadValue):
        parse_unsigned("-1")


def test_endless_digits_are_out_of_range() -> None:
    with pytest.raises(BadValue, match="out of range"):
        parse_int("9" * 100_000)


def test_a_home_is_expanded_or_missing() -> None:
    assert expand_path("~/x", "/h") == "/h/x"
    assert expand_path("~", "/h") == "/h"
    assert None is expand_path("~/x", None)
    assert None is expand_path("~no-such-user-here/x", "/h")
    assert expand_path("~root/x", "/h") == "/root/x"
    assert expand_path("a~", None) == "a~"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("never", NEVER_SECONDS),
        ("now", NOW_SECONDS),
        ("1700000000", 1_700_000_000),
        ("2.weeks.ago", 1_700_000_000 - 1_209_600),
        ("1 day ago", 1_700_000_000 - 86_400),
        ("2023-11-14", 1_699_920_000),
        ("2023-11-14 22:13:20", 1_700_000_000),
        ("1.month.ago", 1_700_000_000 - 31 * 86_400),
        ("90.years.ago", 0),
    ],
)
def test_an_expiry_is_a_moment(text: str, seconds: int) -> None:
    assert seconds == parse_expiry(text, 1_700_000_000)


@pytest.mark.parametrize("text", ["", "soon", "2023-13-01", "x.weeks.ago"])
def test_a_date_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(BadValue):
        parse_expiry(text, 1_700_000_000)


def test_the_last_value_wins_and_a_list_has_them_all() -> None:
    config = Config.of([("receive.unpackLimit", "1"), ("Receive.UNPACKLIMIT", "2k")])
    assert config.get_int("receive.unpackLimit", 100) == 2048
    assert config.get_all("receive.unpacklimit") == ["1", "2k"]
    assert config.get_int("transfer.unpackLimit", 100) == 100


def test_a_subsection_keeps_its_case() -> None:
    config = Config.of([("uploadpackfilter.Blob:none.Allow", "no")])
    assert config.find_bool("uploadpackfilter.blob:none.allow") is None
    assert config.find_bool("UploadPackFilter.Blob:none.allow") is False


def test_a_name_without_value_is_true_and_no_string() -> None:
    config = Config.of([("a.b", None)])
    assert config.get_bool("a.b", False) is True
    assert config.get_bool_or_int("a.b", False) is True
    with pytest.raises(BadConfigValue, match=r"missing value for 'a\.b'"):
        config.get("a.b")


def test_a_bad_value_is_an_error_only_when_asked_for() -> None:
    config = Config.of([("receive.unpackLimit", "abc"), ("http.receivepack", "maybe")])
    with pytest.raises(
        BadConfigValue, match=r"bad numeric config value 'abc' for 'receive\.unpacklimit': invalid unit"
    ):
        config.get_int("receive.unpackLimit", 100)
    with pytest.raises(BadConfigValue, match=r"bad boolean config value 'maybe' for 'http\.receivepack'"):
        config.get_bool("http.receivepack", False)
    with pytest.raises(BadConfigValue, match="out of range"):
        Config.of([("a.b", "4g")]).get_int("a.b", 0, bits=32)


def test_bool_or_int_tells_the_two_apart() -> None:
    config = Config.of([("a.t", "yes"), ("a.n", "3")])
    assert tuple(config.get_bool_or_int(f"a.{name}", 7) for name in "tnx") == (True, 3, 7)
    assert type(config.get_bool_or_int("a.n", 7)) is int


def test_restricting_drops_the_other_scopes() -> None:
    both = Config((*Config.of([("a.b", "1")], Scope.GLOBAL).entries, *Config.of([("a.b", "2")]).entries))
    assert both.get("a.b") == "2"
    assert both.restricted_to({Scope.GLOBAL}).get("a.b") == "1"
    assert list(both.items()) == [("a.b", "1", "global"), ("a.b", "2", "local")]


def test_a_section_is_listed_in_order() -> None:
    config = Config.of([("receive.fsck.badDate", "warn"), ("receive.denyDeletes", "1"), ("x.fsck.y", "1")])
    found = [(sub, name, entry.value) for sub, name, entry in config.iter_section("Receive")]
    assert found == [("fsck", "baddate", "warn"), (None, "denydeletes", "1")]


def test_a_path_is_expanded_and_an_optional_one_may_be_missing() -> None:
    entries = Config.of([("a.p", "~/x"), ("a.o", ":(optional)/no/such/file"), ("a.u", "~nobody-here/x")]).entries
    config = Config(entries, "/home/me")
    assert config.get_path("a.p") == "/home/me/x"
    assert None is config.get_path("a.o")
    with pytest.raises(BadConfigValue, match="failed to expand"):
        config.get_path("a.u")


def test_an_expiry_key_falls_back_to_its_default() -> None:
    config = Config.of([("gc.x", "never"), ("gc.bad", "soon")])
    assert config.get_expiry("gc.x", "2.weeks.ago", now_seconds=10_000_000) == 0
    assert config.get_expiry("gc.y", "2.weeks.ago", now_seconds=10_000_000) == 10_000_000 - 1_209_600
    with pytest.raises(BadConfigValue, match=r"'soon' for 'gc\.bad' is not a valid timestamp"):
        config.get_expiry("gc.bad", "now", now_seconds=1)
