"""What the limits do, counted (see `govc.limits.watch`).

govc_limit_refusals_total{limit}        refused or ended, by the setting that did it
govc_operations{operation}              under way: clone, fetch, push, archive
govc_operations_waiting                 in the queue
govc_operations_wait_seconds            a histogram of how long they stood there
govc_pressure_percent{resource}         how short the machine was when somebody last looked: cpu, memory, stall
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WAIT_BUCKETS = (0.02, 0.1, 0.5, 2.0, 10.0, 30.0)

LIMITS = (
    "rate_per_address",
    "rate_per_user",
    "operations_max",
    "operations_per_repository_max",
    "operations_per_client_max",
    "body_bytes_max",
    "max_request_buffer",
    "pack_bytes_max",
    "receive.maxInputSize",
    "object_bytes_max",
    "delta_result_bytes_max",
    "pack_expansion",
    "push_refs_max",
    "refs_max",
    "haves_max",
    "repository_bytes_max",
    "header_bytes_max",
    "client_idle_seconds",
    "client_bytes_per_second_min",
    "shed_cpu_percent",
    "shed_memory_percent",
    "shed_stall_percent",
)
OTHER = "other"
_ALSO = {
    "maxRequestBuffer": "max_request_buffer",
    "object bytes": "object_bytes_max",
    "object bytes in memory": "delta_result_bytes_max",
    "delta result bytes": "delta_result_bytes_max",
    "pack expansion bytes": "pack_expansion",
}
"""What other rooms call their limits."""


class LimitMetrics:
    """A LimitWatch that counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refusals = Counter(
            "govc_limit_refusals",
            "What a limit has refused or ended, by the name of its setting.",
            ["limit"],
            registry=registry,
        )
        # From 0 on: the growth of a series that wasn't there is none to Prometheus.
        for limit in (*LIMITS, OTHER):
            self._refusals.labels(limit)
        self._working = Gauge(
            "govc_operations",
            "Packs and archives being made, pushes being taken in.",
            ["operation"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._operations: dict[str, Gauge] = {}
        self._waiting = Gauge(
            "govc_operations_waiting",
            "Operations that wait for their turn.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._waited = Histogram(
            "govc_operations_wait_seconds",
            "Seconds that operations stood in the queue; who had a turn at once isn't counted.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._pressure = Gauge(
            "govc_pressure_percent",
            "How short the machine was when an operation last came.",
            ["resource"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._pressures: dict[str, Gauge] = {}

    def refused(self, limit: str) -> None:
        """Count what a limit refused or ended."""
        name = _ALSO.get(limit, limit)
        self._refusals.labels(name if name in LIMITS else OTHER).inc()

    def waiting(self, change: int) -> None:
        """Count who joins or leaves the queue."""
        self._waiting.inc(change)

    def waited(self, seconds: float) -> None:
        """Note how long somebody stood there."""
        self._waited.observe(seconds)

    def working(self, operation: str, change: int) -> None:
        """Count operations that begin or end."""
        child = self._operations.get(operation)
        if child is None:
            child = self._operations[operation] = self._working.labels(operation)
        child.inc(change)

    def pressure(self, resource: str, percent: float) -> None:
        """Note how short something is."""
        child = self._pressures.get(resource)
        if child is None:
            child = self._pressures[resource] = self._pressure.labels(resource)
        child.set(percent)
