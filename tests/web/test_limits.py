"""What the web layer makes of limits: 429, 503 and 413, for whom, and what is never limited."""

import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from govc.errors import ClientGone, LimitExceeded, Refused
from govc.limits.bucket import SECOND_NS, Rate
from govc.limits.buckets import Buckets
from govc.limits.rates import Rates
from govc.web.limit_metrics import LIMITS, LimitMetrics
from govc.web.wsgi_app import Application, WebOptions
from tests.web.fakes import Client, FakeBackend

LISTING = "/a.git/info/refs?service=git-upload-pack"


class Clock:
    now = 10**15

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def client(clock, registry):
    """Two requests at once and one a second, of an address; one of a user."""
    watch = LimitMetrics(registry)
    made = Client(FakeBackend())
    rates = Rates(Buckets(None, clock), Rate(SECOND_NS, 2), Rate(SECOND_NS, 1), watch=watch)
    options = WebOptions(remote_user_header="X-Remote-User", trusted_proxies=("10.0.0.0/8",), body_bytes_max=100)
    made.application = Application(made.backend, options, rates=rates, limit_watch=watch)
    return made


def refusals(registry, limit):
    text = generate_latest(registry).decode()
    return next(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith(f'govc_limit_refusals_total{{limit="{limit}"}}')
    )


def statuses(client, path, count, **more):
    return [client.get(path, **more).status for _ in range(count)]


@pytest.mark.rows("HB-80")
def test_too_many_requests(client, clock, registry):
    assert statuses(client, LISTING, 2) == [200, 200]
    answer = client.get(LISTING)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
    assert answer.body == b"Too many requests from your address. Please try again in 2 seconds.\n"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Cache-Control"].startswith("no-cache")
    assert client.request("HEAD", LISTING).body == b""
    clock.now += 2 * SECOND_NS
    assert statuses(client, LISTING, 3) == [200, 200, 429]
    assert refusals(registry, "rate_per_address") == 3


def test_what_fails_counts_too(client):
    assert statuses(client, "/no/such/route", 3) == [404, 404, 429]


@pytest.mark.parametrize("path", ["/-/healthz", "/-/readyz"])
def test_health_is_never_limited(client, path):
    assert statuses(client, LISTING, 3) == [200, 200, 429]
    assert statuses(client, path, 50) == [200] * 50


def test_who_comes_past_the_proxy_is_where_he_is(client):
    """Only a trusted proxy may say where its client is; everybody else pays for himself, whatever he says."""
    forged = [client.get(LISTING, HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").status for n in range(4)]
    assert forged == [200, 200, 429, 429]
    through_proxy = [
        client.get(LISTING, REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").status for n in range(4)
    ]
    assert through_proxy == [200] * 4
    # What the client itself put in front of the proxy's word doesn't count.
    behind_proxy = [
        client.get(LISTING, REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{n}, 203.0.113.99").status
        for n in range(4)
    ]
    assert behind_proxy == [200, 200, 429, 429]


def test_of_ipv6_a_network_is_one_client(client):
    assert [client.get(LISTING, REMOTE_ADDR=f"2001:db8::{n}").status for n in range(3)] == [200, 200, 429]
    assert client.get(LISTING, REMOTE_ADDR="2001:db8:0:1::1").status == 200


def test_all_whose_address_is_not_known_are_one_client(client):
    assert statuses(client, LISTING, 5, REMOTE_ADDR="") == [200, 200, 429, 429, 429]


def test_a_user_is_counted_wherever_he_is(client):
    asked = [
        client.get(LISTING, REMOTE_ADDR=f"10.0.0.{n}", HTTP_X_REMOTE_USER="ann", HTTP_X_FORWARDED_FOR=f"192.0.2.{n}")
        for n in range(2)
    ]
    assert [answer.status for answer in asked] == [200, 429]
    assert asked[1].body.startswith(b"Too many requests in your name.")


def test_a_conversation_goes_on(client):
    assert statuses(client, LISTING, 3) == [200, 200, 429]
    assert [client.rpc("upload-pack").status for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack", "upload-archive"])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_is_too_large(client, registry, service, is_chunked):
    framing = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True} if is_chunked else {}
    assert client.rpc(service, b"x" * 100, **framing).status == 200
    answer = client.rpc(service, b"x" * 101, **framing)
    assert answer.status == 413
    assert refusals(registry, "body_bytes_max") == 1


def test_full(client, caplog):
    client.backend.handle.failure = Refused(
        "operations_max", "The server is full.", http_status=503, retry_after_seconds=29.2
    )
    with caplog.at_level(logging.INFO, "govc"):
        answer = client.rpc("upload-pack")
    assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "30", b"The server is full.\n")
    assert client.backend.handle.closed == 1
    assert "status=503" in caplog.text and "operations_max: The server is full." in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_client_that_is_gone_is_no_error_of_ours(client, caplog):
    client.backend.handle.failure = ClientGone()
    with caplog.at_level(logging.INFO, "govc"):
        assert client.rpc("upload-pack").status == 499
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_limits_have_names_of_a_closed_set(client, registry):
    for name in ("object_bytes_max", "something else"):
        client.backend.handle.failure = LimitExceeded(name, 1)
        client.rpc("upload-pack", REMOTE_ADDR="10.1.1.1")
    assert refusals(registry, "object_bytes_max") == 1
    assert refusals(registry, "other") == 1
    series = generate_latest(registry).decode().count("govc_limit_refusals_total{")
    assert series == len(LIMITS) + 1
