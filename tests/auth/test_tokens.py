import hmac
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth import tokens
from govc.auth.patterns import RepositoryPattern
from govc.auth.principal import BadAuthFile, Grant, Level, LoginFailed
from govc.auth.replacing import FILE_MODE
from govc.auth.token_file import changing_tokens, format_record, parse_tokens
from govc.auth.tokens import (
    TOKEN_PATTERN,
    TokenChecker,
    TokenRecord,
    hash_token,
    is_well_formed,
    looks_like_token,
    make_token,
    token_id,
)
from govc.auth.watched import WatchedValue

GRANTS = (Grant(RepositoryPattern("team/**"), Level.READ), Grant(RepositoryPattern("x"), Level.WRITE))


def record_of(token, **more):
    values = {"user": "ann", "grants": GRANTS, "created_at": 100, "expires_at": None, **more}
    return TokenRecord(id=token_id(token), hash=hash_token(token), **values)


class World:
    def __init__(self, tmp_path):
        self.path = str(tmp_path / "tokens")
        self.now = 1000.0
        self.checker = TokenChecker(WatchedValue("token_file", self.path, parse_tokens, absent={}), lambda: self.now)

    def add(self, token, **more):
        with changing_tokens(self.path) as records:
            records[token_id(token)] = record_of(token, **more)

    def check(self, token):
        try:
            return self.checker.check(token).user
        except LoginFailed as error:
            return error.reason


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_token_has_the_form_that_scanners_look_for():
    made = {make_token() for _ in range(50)}
    assert len(made) == 50
    for token in made:
        assert TOKEN_PATTERN.fullmatch(token) and looks_like_token(token) and is_well_formed(token)
        assert len(token) == 61


@given(st.integers(0, 55), st.sampled_from("0Zaz"))
def test_property_a_changed_character_breaks_the_checksum(position, char):
    token = make_token()
    at = len("govc_") + position
    changed = token[:at] + char + token[at + 1 :]
    assert is_well_formed(changed) == (changed == token)


@given(st.text(max_size=80))
def test_property_arbitrary_text_is_no_token(text):
    assert not is_well_formed(text) and not is_well_formed("govc_" + text)


def test_a_token_is_its_user_with_its_limits(world):
    token = make_token()
    world.add(token)
    principal = world.checker.check(token)
    assert ("ann", "token", token_id(token), GRANTS) == (
        principal.user,
        principal.method,
        principal.token_id,
        principal.grants,
    )


def test_expiry_is_exact(world):
    token = make_token()
    world.add(token, expires_at=1001)
    assert world.check(token) == "ann"
    world.now = 1001.0
    assert world.check(token) == f"token {token_id(token)} of 'ann' has expired"


def test_a_revoked_token_is_out_at_the_next_check(world):
    one, other = make_token(), make_token()
    world.add(one)
    world.add(other)
    assert world.check(one) == "ann"
    with changing_tokens(world.path) as records:
        del records[token_id(one)]
    assert (world.check(one), world.check(other)) == ("no such token", "ann")


def test_the_same_id_with_another_secret_is_refused(world):
    token = make_token()
    world.add(token)
    forged = token[: len("govc_") + 10] + "A" * 40
    forged += tokens._checksum(forged)
    assert is_well_formed(forged)
    assert world.check(forged) == world.check(make_token()) == "no such token"


def test_every_well_formed_token_costs_one_comparison_of_constant_time(world, monkeypatch):
    known = make_token()
    world.add(known, expires_at=5)
    forged = token_id(known)
    forged = f"govc_{forged}" + "B" * 40
    forged += tokens._checksum(forged)
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(tokens, "hmac", type("Counting", (), {"compare_digest": staticmethod(compare)}))
    for token in (known, forged, make_token()):
        compared.clear()
        world.check(token)
        assert compared == [(32, 32)]


def test_a_file_that_is_not_there_holds_no_tokens(world):
    assert world.check(make_token()) == "no such token"


# The file


def test_what_is_written_is_read_again(world):
    token = make_token()
    record = record_of(token, expires_at=7, description='for "CI"\n')
    assert {record.id: record} == parse_tokens(format_record(record).encode(), "t")
    assert token not in format_record(record)


def test_only_its_owner_reads_the_file_and_a_mode_that_was_set_is_kept(world, tmp_path):
    world.add(make_token())
    path = tmp_path / "tokens"
    assert path.stat().st_mode & 0o777 == FILE_MODE
    path.chmod(0o640)
    world.add(make_token())
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(item.name for item in tmp_path.iterdir()) == ["tokens", "tokens.lock"]


def test_many_admins_at_once_lose_nothing(world):
    made = [make_token() for _ in range(40)]
    threads = [threading.Thread(target=world.add, args=(token,)) for token in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {world.check(token) for token in made} == {"ann"}


def test_an_error_while_changing_changes_nothing(world, tmp_path):
    world.add(make_token())
    before = (tmp_path / "tokens").read_bytes()
    with pytest.raises(ZeroDivisionError), changing_tokens(world.path) as records:
        records.clear()
        raise ZeroDivisionError
    assert (tmp_path / "tokens").read_bytes() == before


def line(**changes):
    value = json.loads(format_record(record_of("govc_" + "a" * 56)))
    value.update(changes)
    return json.dumps({name: item for name, item in value.items() if item != "gone"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        (line(more=1), "unknown field 'more'"),
        (line(user="gone"), "field 'user' is missing"),
        (line(hash="sha256:00"), "'hash' wants"),
        (line(hash=5), "'hash' wants"),
        (line(id="x"), "'id' wants"),
        (line(user="a\nb"), "'user'"),
        (line(grants=[]), "'grants' wants"),
        (line(grants=[["a"]]), "'grants' wants"),
        (line(grants=[["a", "admin"]]), "read or write"),
        (line(grants=[["a/", "read"]]), "slash"),
        (line(created_at=True), "'created_at'"),
        (line(expires_at=-1), "'expires_at'"),
        (line(expires_at="soon"), "'expires_at'"),
        (line(description=1), "'description'"),
        (line(), "twice"),
        ("[" * 100_000, "not JSON|nested"),
    ],
)
def test_a_bad_line_is_named(text, reason):
    with pytest.raises(BadAuthFile, match=f"^t line 3: no token: .*(?:{reason})|^t line 3: .*{reason}"):
        parse_tokens(f"# comment\n{line()}\n{text}\n".encode(), "t")


def test_fields_that_may_be_left_out():
    records = parse_tokens(line(expires_at="gone", description="gone").encode(), "t")
    assert [(record.expires_at, record.description) for record in records.values()] == [(None, "")]


@given(st.binary(max_size=200))
def test_property_arbitrary_bytes_are_records_or_one_error(content):
    try:
        parse_tokens(content, "t")
    except BadAuthFile as error:
        assert error.line >= 1
