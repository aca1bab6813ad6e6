"""Which connections a worker closes, and how long it waits: without a server."""

from types import SimpleNamespace

import pytest

from govc.web import gunicorn_worker
from govc.web.gunicorn_master import STOPPING
from govc.web.gunicorn_worker import IDLE_SECONDS_AT_RELOAD, IDLE_SECONDS_AT_STOP, GovcWorker


class FakeClient:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.fixture
def worker():
    made = object.__new__(GovcWorker)
    made._idle, made._ending_since, made.stop_seconds = {}, None, 55
    values = {"graceful_timeout": 3600}
    made.cfg = SimpleNamespace(values=values, set=values.__setitem__)
    yield made
    STOPPING[0] = 0


def test_who_was_just_answered_may_ask_again_of_a_worker_that_ends(worker, now):
    long_idle, just_answered = FakeClient(), FakeClient()
    worker._idle = {long_idle: now[0] - IDLE_SECONDS_AT_RELOAD - 0.1, just_answered: now[0] - 0.1}
    worker._close_idle(IDLE_SECONDS_AT_RELOAD)
    assert (long_idle.closed, just_answered.closed) == (True, False)
    now[0] += IDLE_SECONDS_AT_RELOAD
    worker._close_idle(IDLE_SECONDS_AT_RELOAD)
    assert just_answered.closed


def test_when_the_server_stops_nobody_waits_for_idle_connections(worker):
    assert worker._idle_seconds_at_end() == IDLE_SECONDS_AT_RELOAD
    STOPPING[0] = 1
    assert worker._idle_seconds_at_end() == IDLE_SECONDS_AT_STOP


def test_a_worker_of_an_earlier_reload_has_the_grace_of_a_stop_from_the_stop_on(worker, now):
    worker._limit_ending()
    now[0] += 100
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 3600
    STOPPING[0] = 1
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 155  # since it was told to end
    now[0] += 10
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 155


def test_an_ordinary_stop_has_the_grace_of_a_stop(worker, now):
    STOPPING[0] = 1
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 55
