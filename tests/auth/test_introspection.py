import base64
import json
from urllib.parse import parse_qs

import pytest

from govc.auth.claims import ClaimNames
from govc.auth.gate import Gate
from govc.auth.introspection import ANSWER_BYTES_MAX, AskIssuer, IntrospectionChecker, IntrospectionRules
from govc.auth.principal import LoginBusy, LoginFailed

RULES = {"url": "https://issuer.example/introspect", "client_id": "git", "client_secret": "s3cr3t"}


class World:
    def __init__(self, **rules):
        self.answers = {}
        self.asked = []
        self.now = 1000.0
        self.failure = None
        self.checker = IntrospectionChecker(
            IntrospectionRules(**{**RULES, "claims": ClaimNames(user="username", groups="groups"), **rules}),
            self._ask,
            Gate(running_max=1, waiting_max=1, wait_seconds=1),
            lambda: self.now,
        )

    def _ask(self, token):
        self.asked.append(token)
        if self.failure is not None:
            raise self.failure
        return self.answers.get(token, {"active": False})

    def check(self, token):
        try:
            return self.checker.check(token, "192.0.2.1").user
        except LoginFailed as error:
            return error.reason
        except LoginBusy as error:
            return f"busy: {error.reason}"


@pytest.fixture
def world():
    return World()


def test_an_active_token_names_its_user(world):
    world.answers["t"] = {"active": True, "username": "ann", "groups": ["a"]}
    found = world.checker.check("t", None)
    assert ("ann", frozenset("a"), "introspection") == (found.user, found.groups, found.method)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False, "username": "ann"}, "not active"),
        ({"active": "true", "username": "ann"}, "not active"),
        ({"username": "ann"}, "not active"),
        ({"active": True}, "the claim 'username' holds no user's name"),
        ({"active": True, "username": "ann", "exp": 1000}, "expired"),
        ({"active": True, "username": "ann", "exp": "x"}, "claim 'exp' is no time"),
        ({"active": True, "username": "ann", "nbf": 1001}, "not valid yet"),
        ({"active": True, "username": "ann", "nbf": 1000, "exp": 1001}, "ann"),
    ],
)
def test_what_an_answer_means(world, answer, reason):
    world.answers["t"] = answer
    assert reason == world.check("t")


def test_audience_and_issuer_are_checked_when_set():
    world = World(audience="git", issuer="https://i")
    good = {"active": True, "username": "ann", "aud": ["x", "git"], "iss": "https://i"}
    for changes, reason in (
        ({}, "ann"),
        ({"aud": "git"}, "ann"),
        ({"aud": "x"}, "for another audience"),
        ({"aud": None}, "for another audience"),
        ({"aud": {"git": 1}}, "for another audience"),
        ({"iss": "https://j"}, "from another issuer"),
    ):
        world.answers[str(changes)] = {**good, **changes}
        assert reason == world.check(str(changes))


def test_answers_are_kept_for_a_while_good_ones_not_beyond_their_expiry(world):
    world.answers["long"] = {"active": True, "username": "ann", "exp": 5000}
    world.answers["short"] = {"active": True, "username": "bob", "exp": 1005}
    for _ in range(3):
        assert [world.check(token) for token in ("long", "short", "bad")] == ["ann", "bob", "not active"]
    assert len(world.asked) == 3
    world.now = 1005.0
    assert world.check("short") == "expired"
    world.now = 1010.0
    assert world.check("bad") == "not active"
    assert world.check("long") == "ann"
    assert world.asked == ["long", "short", "bad", "short", "bad"]
    world.now = 1060.0
    world.answers["long"] = {"active": False}
    assert world.check("long") == "not active"


@pytest.mark.parametrize("failure", [OSError("s3cr3t"), ValueError("s3cr3t")])
def test_an_issuer_that_does_not_answer_refuses_nobody_for_good(world, failure, caplog):
    world.answers["t"] = {"active": True, "username": "ann"}
    world.failure = failure
    outcome = world.check("t")
    assert outcome.startswith("busy: no answer") and "s3cr3t" not in outcome
    world.failure = None
    assert world.check("t") == "ann"


@pytest.mark.parametrize("token", ["", "a b\n", "ü", "x" * 20000, "\x7f"])
def test_what_can_be_no_token_is_not_asked_about(world, token):
    assert world.check(token) in ("not a token", "not active")
    assert all(asked.isprintable() and len(asked) < 20000 for asked in world.asked)


# Over HTTP


def ask(http_server, answer, token="tok&en"):
    url = http_server(answer)
    return AskIssuer(IntrospectionRules(**{**RULES, "url": url}))(token)


def test_the_question_is_the_standards(http_server):
    assert ask(http_server, lambda _: (200, b'{"active": true}', {})) == {"active": True}
    headers, body = http_server.servers[0].seen[0]
    fields = parse_qs(body.decode())
    assert fields["token"] == ["tok&en"]
    assert headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"git:s3cr3t"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (302, b"{}"),
        (401, b"{}"),
        (200, b"no json"),
        (200, b"[]"),
        (200, json.dumps({"active": True, "x": "y" * ANSWER_BYTES_MAX}).encode()),
    ],
)
def test_anything_else_is_no_answer(http_server, status, body):
    with pytest.raises((OSError, ValueError)):
        ask(http_server, lambda _: (status, body, {"Location": "/"}))


def test_nobody_there_is_no_answer():
    with pytest.raises(OSError):
        AskIssuer(IntrospectionRules(**{**RULES, "url": "http://127.0.0.1:9/"}))("t")
