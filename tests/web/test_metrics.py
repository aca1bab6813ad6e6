"""Counting many requests at once is counting each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from govc.web.metrics import COUNT_SECONDS, Metrics, _Histogram


class Clock:
    """What has to be called back, and when."""

    def __init__(self):
        self.calls = []

    def later(self, seconds, function):
        self.calls.append((seconds, function))


def counted(metrics, requests):
    for route, status, sent, received, seconds, finished in requests:
        metrics.note_phase("validate", seconds)
        metrics.count(
            route=route, status=status, bytes_sent=sent, bytes_received=received, seconds=seconds, finished=finished
        )


def samples(metrics):
    return [line for line in metrics.encode().decode().splitlines() if "_created" not in line]


REQUESTS = [
    ("rpc", 200, 10, 3, 0.25, True),
    ("info_refs", 200, 20, 0, 0.5, True),
    ("rpc", 200, 30, 0, 4.0, False),
    ("rpc", 500, 0, 7, 1024.0, True),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def test_what_is_counted_later_is_what_is_counted_at_once():
    clock = Clock()
    together, each = Metrics(clock.later), Metrics()
    counted(together, REQUESTS)
    counted(each, REQUESTS)
    assert samples(each) == samples(together)
    assert any(line.startswith('govc_http_requests_total{route="rpc",status="200"} 2.0') for line in samples(each))


def test_one_call_back_is_asked_for_at_a_time():
    clock = Clock()
    metrics = Metrics(clock.later)
    counted(metrics, REQUESTS)
    ((seconds, flush),) = clock.calls
    assert seconds == COUNT_SECONDS
    flush()
    counted(metrics, REQUESTS[:1])
    assert len(clock.calls) == 2


def test_a_call_back_counts():
    clock = Clock()
    metrics = Metrics(clock.later)
    counted(metrics, REQUESTS)

    def requests_counted():
        (family,) = (one for one in metrics._registry.collect() if one.name == "govc_http_requests")
        return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))

    assert requests_counted() == 0
    clock.calls[0][1]()
    assert requests_counted() == 4


def test_bodies_are_counted_before_any_request_ends():
    clock = Clock()
    metrics = Metrics(clock.later)
    for what, size in (("follow", 5), ("miss", 7), ("follow", 11)):
        metrics.count_body(what, 1, size)
    text = generate_latest(metrics._registry).decode()  # nothing is flushed
    assert 'govc_body_cache_bytes_total{result="follow"} 16.0' in text
    assert 'govc_body_cache_total{result="follow"} 2.0' in text
    assert 'govc_body_cache_total{result="miss"} 1.0' in text


def test_a_file_that_another_worker_is_making_is_passed_over(tmp_path, monkeypatch):
    """Between its making and its growing it has no size; who asked just then was answered with an error."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counts = MmapedDict(str(tmp_path / "counter_1.db"))
    counts.write_value(mmap_key("a_total", "a_total", ["b"], ["c"], "What a is."), 3.0, 0.0)
    counts.close()
    (tmp_path / "counter_2.db").touch()
    assert 'a_total{b="c"} 3.0' in Metrics().encode().decode()


def test_a_file_of_a_worker_that_has_just_ended_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "gauge_livemax_1.db").symlink_to(tmp_path / "gone")
    assert Metrics().encode() == b""


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 1e9]), max_size=9))
def test_property_a_histogram_takes_many_as_it_takes_each(values):
    ours = _Histogram("a", "a", buckets=(1.0, 2.0), registry=CollectorRegistry())
    theirs = Histogram("a", "a", buckets=(1.0, 2.0), registry=CollectorRegistry())
    ours.observe_many(values)
    for value in values:
        theirs.observe(value)

    def values_of(histogram):
        return [one.value for family in histogram.collect() for one in family.samples if "created" not in one.name]

    assert values_of(ours) == values_of(theirs)
