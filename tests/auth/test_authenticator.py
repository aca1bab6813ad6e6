import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.authenticator import Authenticator
from govc.auth.principal import ANONYMOUS, LoginFailed, Principal

JWT = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"


class Recorder:
    """Any of the four checkers: remembers what it was asked."""

    def __init__(self, method):
        self.method = method
        self.asked = []

    def check(self, *what):
        self.asked.append(what)
        return Principal(user=self.method, method=self.method)


def authenticator(*methods, **more):
    made = {name: Recorder(name) for name in methods}
    return Authenticator(**made, **more), made


ALL = ("passwords", "tokens", "jwt", "introspection")


def basic(user, password):
    return "Basic " + base64.b64encode(user + b":" + password).decode()


def outcome(methods, header):
    checker, made = authenticator(*methods)
    try:
        user = checker.authenticate(header, "192.0.2.1").user
    except LoginFailed as error:
        assert not any(recorder.asked for recorder in made.values())
        return error.reason
    return user, *(what for recorder in made.values() for what in recorder.asked)


@pytest.mark.parametrize("header", [None, "", "  "])
def test_without_a_header_nobody_asks(header):
    checker, _ = authenticator(*ALL)
    assert checker.authenticate(header, None) is ANONYMOUS


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic(b"ann", b"pw:x"), ("passwords", ("ann", b"pw:x", "192.0.2.1"))),
        (basic("zoë".encode(), b"\xff"), ("passwords", ("zoë", b"\xff", "192.0.2.1"))),
        (basic(b"ann", b""), ("passwords", ("ann", b"", "192.0.2.1"))),
        (basic(b"ann", b"pw").replace("Basic", "bAsIc "), ("passwords", ("ann", b"pw", "192.0.2.1"))),
        (basic(b"anything", b"govc_abc"), ("tokens", ("govc_abc",))),
        (basic(b"oauth2", JWT.encode()), ("jwt", (JWT,))),
        (basic(b"oauth2", b"opaque"), ("introspection", ("opaque", "192.0.2.1"))),
        ("Bearer govc_abc", ("tokens", ("govc_abc",))),
        (f"bearer {JWT}", ("jwt", (JWT,))),
        ("Bearer opaque", ("introspection", ("opaque", "192.0.2.1"))),
    ],
)
def test_who_is_asked(header, expected):
    assert expected == outcome(ALL, header)


def test_what_is_not_configured_is_not_asked():
    assert outcome(("passwords",), basic(b"x", b"govc_abc")) == ("passwords", ("x", b"govc_abc", "192.0.2.1"))
    assert outcome(("passwords",), basic(b"oauth2", b"x")) == ("passwords", ("oauth2", b"x", "192.0.2.1"))
    assert outcome(("tokens",), basic(b"ann", b"pw")) == "no passwords are taken here"
    assert outcome(("tokens",), f"Bearer {JWT}") == "no bearer tokens are taken here"
    assert outcome(("passwords",), "Bearer x") == "no bearer tokens are taken here"
    assert outcome(("jwt",), "Bearer opaque") == ("jwt", ("opaque",))
    assert outcome(("introspection",), f"Bearer {JWT}") == ("introspection", (JWT, "192.0.2.1"))


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic YW5u",
        "Basic YW5uOnB3 x",
        basic(b"\xff\xfe", b"pw"),
        basic(b"", b"pw"),
        basic(b"a\nb", b"pw"),
        basic(b" ann", b"pw"),
        basic(b"x" * 300, b"pw"),
        "Digest username=ann",
        "Negotiate YII=",
        "ann:pw",
        "Bearer " + "x" * 30000,
        "Basic \xff\u0100",
    ],
)
def test_what_proves_nothing_is_refused_before_anybody_is_asked(header):
    assert isinstance(outcome(("passwords", "tokens", "jwt"), header), str)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: f"Basic {text}"))
def test_property_any_header_is_somebody_or_one_error(header):
    checker, _ = authenticator("passwords", "tokens")
    try:
        checker.authenticate(header, None)
    except LoginFailed as error:
        assert len(header) < 8 or header not in str(error)


def test_the_challenge_offers_what_there_is():
    checker, _ = authenticator("passwords", realm="our git")
    assert checker.challenges == ('Basic realm="our git", charset="UTF-8"',)
    checker, _ = authenticator("jwt")
    assert checker.challenges == ('Basic realm="Git", charset="UTF-8"', 'Bearer realm="Git"')
