"""What is counted, in Prometheus' format: requests, bytes, seconds, phases, logins, caches, logs, helpers.

With several workers each counts into files in PROMETHEUS_MULTIPROC_DIR (which `govc serve` makes) and any of
them adds up all. The library looks at that variable when it is first imported, so it must be set before.

Counting one request in these files costs as much as answering a listing, and counting a hundred at once no more. So
where something can call us back (`later`), what requests did is noted, and counted within `COUNT_SECONDS`, or when
somebody asks this process. A process that is killed takes so much of its last counts with it.
"""

import os
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from glob import glob
from typing import NamedTuple, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from govc.phases import PHASES, VALIDATE
from govc.web.limit_metrics import LimitMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
COUNT_SECONDS = 0.1
"""So late may a count show in another worker: far below the seconds between two visits of Prometheus."""

SECONDS_BUCKETS = (0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 120.0, 600.0)
"""From a listing of refs to the clone of a large repository over a slow line. Few: each is a series per route."""

PHASE_BUCKETS = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 120.0)
SYNC_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
"""From a disk that lies or has a battery to one that is about to fail."""


_T = TypeVar("_T")


def _take_all(pending: "deque[_T]") -> Iterator[_T]:
    """Take what is there, whoever else takes from it or adds to it."""
    while True:
        try:
            yield pending.popleft()
        except IndexError:
            return


class _Histogram(Histogram):
    """One that takes many values at the price of one."""

    def observe_many(self, values: list[float]) -> None:
        """As `observe`, of each."""
        counts: dict[int, int] = defaultdict(int)
        for value in values:
            counts[bisect_left(self._upper_bounds, value)] += 1
        self._sum.inc(sum(values))
        for index, count in counts.items():
            self._buckets[index].inc(count)


class _AllWorkers(MultiProcessCollector):
    """The counts in the files of all workers, those that have ended included."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """Add up all files but those that are being made: they have no size yet, and the library can't read them."""
        files = []
        for path in glob(f"{self._path}/*.db"):
            with suppress(FileNotFoundError):  # of a worker that has just ended
                if os.path.getsize(path):
                    files.append(path)
        summed: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return summed


class _Done(NamedTuple):
    """A request that is over."""

    route: str
    status: int
    bytes_sent: int
    bytes_received: int
    seconds: float
    finished: bool


class Metrics:
    """The counters of one application. `later` calls a function back after some seconds; None: count at once."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._is_coming = False
        self._done: deque[_Done] = deque()
        self._registry = CollectorRegistry()
        # Looking a label up costs several times what counting does.
        self._children: dict[tuple[str, int], tuple[Counter, Counter, Counter, _Histogram]] = {}
        self._requests = Counter(
            "govc_http_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._bytes = Counter(
            "govc_http_response_bytes", "Bytes of response bodies sent.", ["route"], registry=self._registry
        )
        self._received = Counter(
            "govc_http_request_bytes", "Bytes of request bodies read.", ["route"], registry=self._registry
        )
        self._seconds = _Histogram(
            "govc_http_request_seconds",
            "Seconds from the first byte of a request known to the last byte of its answer handed over.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._unfinished = Counter(
            "govc_http_unfinished",
            "Answers that broke off after their headers were sent.",
            ["route"],
            registry=self._registry,
        )
        # From 0 on: the growth of a series that wasn't there is none to Prometheus.
        self._unfinished.labels("rpc")

        self._phase_seconds = _Histogram(
            "govc_phase_seconds",
            "Seconds that requests worked in each phase, helper processes included.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=self._registry,
        )
        self._phases = {name: self._phase_seconds.labels(name) for name in PHASES}
        self._sync_seconds = _Histogram(
            "govc_log_sync_duration_seconds",
            "Seconds of each sync (fdatasync) of a write-ahead log.",
            buckets=SYNC_BUCKETS,
            registry=self._registry,
        )
        self._phases_pending: deque[tuple[str, float]] = deque()
        self._body_children: dict[str, tuple[Counter, Counter]] = {}
        self._syncs_pending: deque[float] = deque()

        self._logins = Counter(
            "govc_logins",
            "Requests whose login was checked here, by way of logging in and outcome.",
            ["method", "outcome"],
            registry=self._registry,
        )
        self._refused_files = Gauge(
            "govc_login_file_refused",
            "1 while the newest version of a file of logins or permissions can't be taken and an older one counts.",
            ["file"],
            registry=self._registry,
            multiprocess_mode="livemax",
        )

        self._bodies = Counter(
            "govc_body_cache",
            "Bodies of fetch answers: hit (from the cache), follow (shared with a running production), miss "
            "(production begun), direct (not shared), stored (a pack as it lies), evicted.",
            ["result"],
            registry=self._registry,
        )
        self._body_bytes = Counter(
            "govc_body_cache_bytes", "Bytes of the same bodies.", ["result"], registry=self._registry
        )

        self._repositories = self._gauge("govc_open_repositories", "Repositories that are open in the workers.")
        self._descriptors = self._gauge("govc_open_descriptors", "Files of packs that are open in them.")
        self._log_size = Gauge(
            "govc_log_size_bytes",
            "Records that no checkpoint covers, in the largest log that is open; log_bytes_max is the limit.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._helpers_busy = self._gauge("govc_helpers_busy", "Helper processes that work.", "work")
        self._helpers_waiting = self._gauge("govc_helpers_waiting", "Work that waits for a helper process.", "work")

        self.limits = LimitMetrics(self._registry)

        self._audit = {
            outcome: Counter(f"govc_audit_{outcome}", text, registry=self._registry)
            for outcome, text in (
                ("written", "Lines written to the audit log."),
                ("failed", "Lines that could not be written to the audit log; the log holds them."),
            )
        }

        self._log = {
            name: Counter(f"govc_log_{name}", text, registry=self._registry)
            for name, text in (
                ("records", "Records appended to write-ahead logs."),
                ("bytes", "Bytes of these records."),
                ("syncs", "Syncs of logs; one covers all that wait for it."),
                ("sync_seconds", "Seconds spent in them."),
                (
                    "failed_syncs",
                    "Syncs that failed: the log went on in a new segment, the pushes in doubt were refused.",
                ),
                ("failed_appends", "Appends that failed (a full disk): the pushes were refused."),
                ("checkpoints", "Checkpoints made: what the log held is in git's own files."),
                ("failed_checkpoints", "Checkpoints that failed; the log keeps what they would have covered."),
                ("recoveries", "Logs that were recovered after a killed process or a power cut."),
                ("torn_records", "Records that were never acknowledged and were cut off by a recovery."),
            )
        }

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a gauge that adds up over the workers that live."""
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode="livesum")

    def note_pool(self, repositories: int, descriptors: int) -> None:
        """Note how many repositories this worker has open, and how many files of packs in them."""
        self._repositories.set(repositories)
        self._descriptors.set(descriptors)

    def note_phase(self, name: str, seconds: float) -> None:
        """Count a phase, from any thread: it shows when a request ends or somebody asks."""
        self._phases_pending.append((name, seconds))

    def note_sync(self, seconds: float) -> None:
        """Count a sync of a log, as `note_phase`."""
        self._syncs_pending.append(seconds)

    def flush(self) -> None:
        """Count what was noted."""
        self._is_coming = False
        requests: dict[tuple[str, int], list[_Done]] = defaultdict(list)
        for done in _take_all(self._done):
            requests[done.route, done.status].append(done)
        for key, group in requests.items():
            self._count_requests(key, group)
        phases: dict[str, list[float]] = defaultdict(list)
        for name, seconds in _take_all(self._phases_pending):
            phases[name].append(seconds)
        for name, values in phases.items():
            self._phases[name].observe_many(values)
        if self._syncs_pending:
            self._sync_seconds.observe_many(list(_take_all(self._syncs_pending)))

    def _count_requests(self, key: tuple[str, int], group: list[_Done]) -> None:
        route, status = key
        children = self._children.get(key)
        if children is None:
            children = (
                self._requests.labels(route, str(status)),
                self._bytes.labels(route),
                self._received.labels(route),
                self._seconds.labels(route),
            )
            self._children[key] = children
        requests, sent, received, spent = children
        requests.inc(len(group))
        sent.inc(sum(done.bytes_sent for done in group))
        if bytes_received := sum(done.bytes_received for done in group):
            received.inc(bytes_received)
        spent.observe_many([done.seconds for done in group])
        if unfinished := sum(not done.finished for done in group):
            self._unfinished.labels(route).inc(unfinished)

    def note_log_size(self, size: int) -> None:
        """Note how much the largest log holds that no checkpoint covers."""
        self._log_size.set(size)

    def count_helpers(self, work: str, busy: int, waiting: int) -> None:
        """Count helpers that began or ended, and work that began or ended to wait for one, by sort of work."""
        self._helpers_busy.labels(work).inc(busy)
        self._helpers_waiting.labels(work).inc(waiting)

    def count_log(self, what: str, number: float) -> None:
        """Count what write-ahead logs do; `what` is one of the names above."""
        self._log[what].inc(number)

    def count_audit(self, outcome: str) -> None:
        """Count a line of the audit log: "written" or "failed"."""
        self._audit[outcome].inc()

    def count_login(self, method: str, outcome: str) -> None:
        """Count one check of a login; both labels are from closed sets."""
        self._logins.labels(method, outcome).inc()

    def note_file(self, kind: str, accepted: bool) -> None:
        """Note whether the newest version of a file of logins or permissions was taken."""
        self._refused_files.labels(kind).set(0 if accepted else 1)

    def count(
        self, *, route: str, status: int, bytes_sent: int, bytes_received: int, seconds: float, finished: bool
    ) -> None:
        """Count one request. `route` is from a closed set, so that labels stay few."""
        self._done.append(_Done(route, status, bytes_sent, bytes_received, seconds, finished))
        if self._later is None:
            self.flush()
        elif not self._is_coming:
            self._is_coming = True
            self._later(COUNT_SECONDS, self.flush)

    def count_known(self, route: str, bytes_sent: int, bytes_received: int, seconds: float) -> None:
        """Count a request that was nothing but finding the repository unchanged, and took so long."""
        self.note_phase(VALIDATE, seconds)
        self.count(
            route=route,
            status=200,
            bytes_sent=bytes_sent,
            bytes_received=bytes_received,
            seconds=seconds,
            finished=True,
        )

    def count_body(self, what: str, number: int, size: int) -> None:
        """Count what the cache of bodies does, at once: a request that waits for another's bytes has not ended.

        `what` is one of the few words of `govc.cache.bodies`.
        """
        children = self._body_children.get(what)
        if children is None:
            children = self._body_children[what] = self._bodies.labels(what), self._body_bytes.labels(what)
        if number:
            children[0].inc(number)
        if size:
            children[1].inc(size)

    def encode(self) -> bytes:
        """Return everything counted so far, of all workers, as text."""
        self.flush()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        summed = CollectorRegistry()
        summed.register(_AllWorkers())
        return generate_latest(summed)
