"""Phases are noted by whoever works for a request: in its thread, in others, in helper processes."""

import os
import pickle

import pytest

from govc import phases
from govc.phases import ENUMERATE, INDEX, PHASES, PhaseList, Timed, timed_steps
from govc.repo import helper, helper_main
from govc.repo.helper import HelperFailed, Job, drain
from govc.web.gevent_runtime import GEVENT
from govc.web.metrics import Metrics


@pytest.fixture
def noted():
    recorder = PhaseList()
    token = phases.CURRENT.set(recorder)
    yield recorder.phases
    phases.CURRENT.reset(token)


def names(noted):
    return [phase.name for phase in noted]


def test_what_is_done_is_noted_however_it_ends(noted):
    with Timed(INDEX):
        assert noted == []
    with pytest.raises(ZeroDivisionError), Timed(ENUMERATE):
        divmod(1, 0)
    assert names(noted) == [INDEX, ENUMERATE]
    assert all(phase.ended - phase.started == phase.seconds >= 0 for phase in noted)


def test_nobody_listens():
    assert phases.CURRENT.get() is None
    with Timed(INDEX):
        pass
    assert list(timed_steps(INDEX, iter_three(lambda: None))) == [0, 1, 2]


def iter_three(work):
    for number in range(3):
        work()
        yield number
    return "result"


def test_steps_count_what_they_work_and_not_what_they_wait(noted, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(phases, "monotonic", lambda: now[0])

    def pass_time(seconds):
        now[0] += seconds

    steps = timed_steps(INDEX, iter_three(lambda: pass_time(1)))
    for _ in steps:
        pass_time(10)  # a slow client
    assert [(p.name, p.started, p.ended, p.seconds) for p in noted] == [(INDEX, 100, 133, 3)]
    steps = timed_steps(INDEX, iter_three(lambda: pass_time(1)))
    next(steps)
    steps.close()
    assert noted[1].seconds == 1


def test_steps_have_their_result(noted):
    def outer():
        return (yield from timed_steps(INDEX, iter_three(lambda: None)))

    assert drain(outer()) == "result"


def test_a_thread_of_the_pool_works_for_whoever_called_and_raises_in_him_alone(noted, capfd):
    def work(number):
        with Timed(INDEX):
            return 1 // number

    assert GEVENT.call_blocking(work, 1) == 1
    with pytest.raises(ZeroDivisionError):
        GEVENT.call_cpu(work, 0)
    assert names(noted) == [INDEX, INDEX]
    assert capfd.readouterr().err == ""


def answer_of(job, monkeypatch, function):
    """The frames that a helper writes for a job that `function` does."""
    monkeypatch.setitem(helper_main.JOBS, "test", function)
    reading, writing = os.pipe()
    try:
        token = phases.CURRENT.set(None)
        helper_main.serve_one(pickle.dumps(job), writing)
        phases.CURRENT.reset(token)
    finally:
        os.close(writing)
    with open(reading, "rb") as file:
        return file.read()


def test_what_a_helper_does_counts_for_the_request(noted, monkeypatch):
    def work(argument, emit):
        with Timed(INDEX):
            emit(b"product")
        if argument:
            raise HelperFailed("public", "detail")
        return "result"

    for argument in (0, 1):
        frames = answer_of(Job("test", argument), monkeypatch, work)
        kinds = []
        while frames:
            kind, length = helper.FRAME_HEADER.unpack_from(frames)
            payload, frames = frames[5 : 5 + length], frames[5 + length :]
            kinds.append(kind)
            if kind == helper.KIND_PHASES:
                helper._note_phases(pickle.loads(payload))
        assert kinds == [b"D", b"T", b"E" if argument else b"R"]
    assert names(noted) == [INDEX, INDEX]


def test_a_helper_whose_parent_died_before_it_asked_says_nothing(capfd):
    reading, writing = os.pipe()
    for data in (b"", pickle.dumps(Job("pack", None))[:-3]):
        helper_main.serve_one(data, writing)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b""
    assert capfd.readouterr() == ("", "")


def test_every_phase_is_a_series_from_the_start():
    metrics = Metrics()
    metrics.note_phase(INDEX, 0.003)
    metrics.note_sync(0.003)
    text = metrics.encode().decode()
    for name in PHASES:
        assert f'govc_phase_seconds_count{{phase="{name}"}} {float(name == INDEX)}' in text
    assert 'govc_phase_seconds_bucket{le="0.01",phase="index"} 1.0' in text
    assert 'govc_phase_seconds_bucket{le="0.002",phase="index"} 0.0' in text
    assert 'govc_log_sync_duration_seconds_bucket{le="0.005"} 1.0' in text
    assert 'govc_log_sync_duration_seconds_bucket{le="0.002"} 0.0' in text
