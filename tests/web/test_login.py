"""Logging in over WSGI: which status, which challenge, who it is for whom; and that no secret is logged."""

import base64
import logging

import pytest

from govc.auth.authenticator import Authenticator
from govc.auth.principal import AccessDenied, Level, LoginBusy, LoginFailed, Principal
from govc.errors import RepositoryNotFound
from govc.web.redaction import RedactingFilter
from govc.web.wsgi_app import Application, WebOptions
from tests.web.fakes import Client, FakeBackend

CHALLENGE = 'Basic realm="Git", charset="UTF-8"'
SECRETS = ("s3cr3t-passw0rd", "govc_" + "Ab3" * 18 + "zz", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl")


class Passwords:
    """ann's password is "a"; checks are counted, and may be busy."""

    def __init__(self):
        self.checked = []
        self.busy = False

    def check(self, user, password, client):
        self.checked.append((user, password, client))
        if self.busy:
            raise LoginBusy("password", "too many wait", retry_after_seconds=3)
        if (user, password) != ("ann", b"a"):
            raise LoginFailed("password", f"wrong password of {user!r}" if user == "ann" else "an unknown user")
        return Principal(user=user, method="password")


class GuardedBackend(FakeBackend):
    """Levels by user; repositories that nobody told of don't exist."""

    def __init__(self):
        super().__init__()
        self.levels = {}

    def open(self, path_info, *, context):
        self.opened.append((path_info, context))
        level = self.levels.get(context.principal.user, Level.NONE)
        wanted = Level.WRITE if context.service == "receive-pack" else Level.READ
        if level < wanted:
            raise AccessDenied(path_info, context.principal.user, wanted=wanted, has=level)
        if path_info not in self.repositories:
            raise RepositoryNotFound(path_info)
        return self.repositories[path_info]


class Guarded(Client):
    def __init__(self, backend=None, **options):
        self.passwords = Passwords()
        self.backend = backend or FakeBackend()
        authenticator = Authenticator(passwords=self.passwords)
        self.application = Application(self.backend, WebOptions(**options), authenticator=authenticator)


def basic(user="ann", password="a"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


FETCH, PUSH = "/a.git/info/refs?service=git-upload-pack", "/a.git/info/refs?service=git-receive-pack"


def status(client, path=FETCH, **more):
    answer = client.get(path, **more)
    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
    return answer.status


@pytest.fixture
def guarded():
    client = Guarded(GuardedBackend())
    client.backend.levels = {None: Level.NONE, "ann": Level.READ}
    return client


def test_who_has_nothing_is_asked_to_log_in_whether_or_not_there_is_a_repository(guarded):
    for path in (
        FETCH,
        PUSH,
        "/nix.git/info/refs?service=git-upload-pack",
        "/a.git/HEAD",
        "/nix.git/objects/info/packs",
    ):
        answer = guarded.get(path)
        assert (401, CHALLENGE, b"") == (answer.status, answer.headers["WWW-Authenticate"], answer.body)


def test_who_logged_in_is_told_404_about_what_may_not_be_known_and_403_about_what_may(guarded):
    assert status(guarded, FETCH, HTTP_AUTHORIZATION=basic()) == 200
    assert status(guarded, PUSH, HTTP_AUTHORIZATION=basic()) == 403
    assert status(guarded, "/nix.git/HEAD", HTTP_AUTHORIZATION=basic()) == 404
    guarded.backend.levels["ann"] = Level.NONE
    assert status(guarded, FETCH, HTTP_AUTHORIZATION=basic()) == 404
    assert status(guarded, PUSH, HTTP_AUTHORIZATION=basic()) == 404


def test_anonymous_reading_and_pushes_that_want_a_login(guarded):
    guarded.backend.levels = {None: Level.READ, "ann": Level.WRITE}
    assert status(guarded, FETCH) == 200
    assert status(guarded, "/nix.git/HEAD") == 404
    assert status(guarded, PUSH) == 401
    assert status(guarded, PUSH, HTTP_AUTHORIZATION=basic()) == 200
    # The POST asks by itself: a client may come without the discovery.
    assert guarded.rpc("receive-pack").status == 401
    assert guarded.rpc("upload-pack").status == 200
    assert guarded.rpc("receive-pack", HTTP_AUTHORIZATION=basic()).status == 200


def test_wrong_credentials_are_refused_even_where_none_were_needed(guarded):
    guarded.backend.levels = {None: Level.READ}
    for header in (basic(password="b"), basic("eve"), "Bearer x", "Nonsense"):
        assert status(guarded, FETCH, HTTP_AUTHORIZATION=header) == 401
    assert guarded.backend.opened == []


def test_a_check_that_cannot_be_made_now_is_503_so_that_nobody_forgets_a_password(guarded):
    guarded.passwords.busy = True
    answer = guarded.get(FETCH, HTTP_AUTHORIZATION=basic())
    assert (503, "3") == (answer.status, answer.headers["Retry-After"])
    assert "WWW-Authenticate" not in answer.headers


def test_the_services_learn_who_it_is():
    client = Guarded()
    client.rpc("receive-pack", HTTP_AUTHORIZATION=basic(), REMOTE_ADDR="192.0.2.7")
    context = client.backend.handle.contexts[0]
    assert ("ann", "password") == (context.remote_user, context.principal.method)
    assert ("ann", "Basic") == (context.environ["REMOTE_USER"], context.environ["AUTH_TYPE"])
    assert not any("AUTHORIZATION" in name for name in context.environ)
    assert client.passwords.checked == [("ann", b"a", "192.0.2.7")]


def test_the_repositorys_own_rules_still_hold_and_ask_for_a_login():
    client = Guarded()
    handle = client.backend.handle
    allowed = {}
    handle.service_enabled = lambda service, user: allowed[service](user)
    allowed["receive-pack"] = bool  # http.receivepack unset
    allowed["upload-pack"] = lambda _: True
    assert (status(client, FETCH), status(client, PUSH)) == (200, 401)
    assert client.rpc("receive-pack").status == 401
    assert status(client, PUSH, HTTP_AUTHORIZATION=basic()) == 200
    allowed["receive-pack"] = lambda _: False  # http.receivepack=false: no login helps
    assert status(client, PUSH) == 403
    assert status(client, PUSH, HTTP_AUTHORIZATION=basic()) == 403
    assert status(client, "/a.git/info/refs?service=git-unknown") == 403


def test_routes_and_methods_are_judged_before_anybody_logs_in():
    client = Guarded()
    assert client.get("/nowhere", HTTP_AUTHORIZATION=basic()).status == 404
    assert client.request("PUT", "/a.git/HEAD", HTTP_AUTHORIZATION=basic()).status == 405
    assert client.get("/a.git/../HEAD", HTTP_AUTHORIZATION=basic()).status == 500
    assert client.passwords.checked == []


def test_a_proxy_that_names_the_user_is_believed_first():
    client = Guarded(GuardedBackend(), remote_user_header="X-Remote-User")
    client.backend.levels = {"bob": Level.READ}
    more = {"HTTP_X_REMOTE_USER": "bob", "HTTP_AUTHORIZATION": basic(password="wrong")}
    assert status(client, FETCH, REMOTE_ADDR="127.0.0.1", **more) == 200
    assert client.passwords.checked == []
    assert status(client, FETCH, REMOTE_ADDR="192.0.2.1", **more) == 401
    assert len(client.passwords.checked) == 1


def test_where_nobody_checks_logins_here_a_header_means_nothing():
    client = Client(GuardedBackend())
    client.backend.levels = {None: Level.READ}
    assert status(client, FETCH, HTTP_AUTHORIZATION=basic(password="x")) == 200
    assert status(client, PUSH) == 403
    client.backend.levels = {}
    assert status(client, FETCH) == 404


def test_logins_are_counted():
    client = Guarded()
    client.get(FETCH)
    client.get(FETCH, HTTP_AUTHORIZATION=basic())
    client.get(FETCH, HTTP_AUTHORIZATION=basic(password="x"))
    client.passwords.busy = True
    client.get(FETCH, HTTP_AUTHORIZATION=basic(password="x"))
    text = client.get("/-/metrics").body.decode()
    for outcome in ("accepted", "refused", "busy"):
        assert f'govc_logins_total{{method="password",outcome="{outcome}"}} 1.0' in text


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_reaches_a_log(secret, caplog):
    client = Guarded()
    client.backend.handle.failure = RuntimeError(f"a library quotes Authorization: Bearer {secret}")
    encoded = base64.b64encode(f"ann:{secret}".encode()).decode()
    with caplog.at_level(logging.DEBUG):
        for headers in (
            {"HTTP_AUTHORIZATION": f"Basic {encoded}"},
            {"HTTP_AUTHORIZATION": f"Bearer {secret}"},
            {"HTTP_AUTHORIZATION": basic(secret, "x")},  # typed into the wrong field
            {"HTTP_AUTHORIZATION": f"Strange {secret}"},
            {"HTTP_AUTHORIZATION": secret},
            {"HTTP_COOKIE": f"session={secret}"},
            {"QUERY_STRING": f"service=git-upload-pack&access_token={secret}"},
        ):
            client.get(FETCH, **headers)
            client.get("/a.git/HEAD", **headers)
            client.get("/nowhere", **headers)
        client.get(FETCH)
    assert len(caplog.records) > 10
    access = "\n".join(record.getMessage() for record in caplog.records if record.name == "govc.access")
    assert secret not in access and encoded not in access
    assert "status=500" in access and "status=401" in access
    for record in caplog.records:
        RedactingFilter().filter(record)
        line = logging.Formatter().format(record)
        assert secret not in line and encoded not in line
