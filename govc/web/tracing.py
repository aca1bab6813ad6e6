"""Traces of requests, for OpenTelemetry: a span for each request and one for each of its phases.

Sent as OTLP over HTTP (protobuf) by the OpenTelemetry SDK, in batches, by a greenlet of its own: no request waits for a
collector, and when one doesn't answer spans are dropped. The spans are made when a request has ended, from the times
that it took down (`access_log.Exchange`), so nothing of OpenTelemetry is touched while it is answered.

    POST rpc                    kind SERVER, child of the proxy's span if it sent one
        validate, negotiate, …  kind INTERNAL; govc.busy_seconds: how long it worked between its start and its end

The attributes are those of the access log, under the names of OpenTelemetry's conventions where there are any, and go
through the same redaction. Only imported when `otlp_endpoint` is set: it needs the extra `govc[otel]`.

Source: W3C "Trace Context"; OpenTelemetry "Semantic Conventions for HTTP Spans".
"""

import logging
import time
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from govc.web.access_log import Exchange
from govc.web.redaction import RedactingFilter, redact

EXPORT_SECONDS = 5
"""How long a collector may take for a batch; at the end of a worker, too."""

_QUIET = ("opentelemetry", "urllib3")


class OtlpTracing:
    """Sends traces to one collector. Make it in the worker, after the fork."""

    def __init__(self, endpoint: str, percent: int) -> None:
        """`endpoint`: the URL that spans are posted to. `percent` of the requests that no proxy has decided on."""
        _join_our_log()
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(percent / 100)),
            resource=Resource({SERVICE_NAME: "govc"}).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=1000, export_timeout_millis=EXPORT_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("govc")

    def begin(self, exchange: Exchange, environ: dict[str, Any], *, is_trusted: bool) -> None:
        """Have the request keep its phases."""
        exchange.traced = self._send
        exchange.spans = []
        if is_trusted:
            exchange.trace_parent = environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", "")

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _send(self, exchange: Exchange) -> None:
        """Make the spans of a request that has ended."""
        parent, state = exchange.trace_parent
        headers = {"traceparent": parent, "tracestate": state} if parent else {}
        context = self._propagator.extract(headers)
        wall = time.time() - time.monotonic()
        root = self._tracer.start_span(
            f"{exchange.method if exchange.method.isalpha() else '?'} {exchange.route}",
            context,
            SpanKind.SERVER,
            _attributes(exchange),
            start_time=_nanoseconds(wall + exchange.started_seconds),
        )
        if root.is_recording():
            inside = set_span_in_context(root, context)
            for phase in exchange.spans or ():
                span = self._tracer.start_span(
                    phase.name,
                    inside,
                    SpanKind.INTERNAL,
                    {"govc.busy_seconds": phase.seconds},
                    start_time=_nanoseconds(wall + phase.started),
                )
                span.end(_nanoseconds(wall + phase.ended))
            if exchange.status >= 500 or exchange.broke_off:
                root.set_status(StatusCode.ERROR, redact(exchange.error))
        root.end(_nanoseconds(wall + exchange.started_seconds + exchange.seconds))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _attributes(exchange: Exchange) -> dict[str, str | int]:
    """Return what is known of the request; a value that is unknown is left out."""
    fields: dict[str, str | int | None] = {
        "http.request.method": exchange.method,
        "http.response.status_code": exchange.status,
        "http.route": exchange.route,
        "url.path": exchange.path,
        "client.address": exchange.remote_addr,
        "user.name": exchange.remote_user,
        "govc.request": exchange.request_id,
        "govc.repository": exchange.repository,
        "govc.login": exchange.login,
        "govc.error": exchange.error,
        "http.request.body.size": exchange.bytes_received,
        "http.response.body.size": exchange.bytes_sent,
    }
    return {
        name: redact(value).encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in fields.items()
        if value not in (None, "")
    }


def _join_our_log() -> None:
    """A collector that doesn't answer is told of in our log, in our form, without the secrets of its URL."""
    ours = logging.getLogger("govc").handlers
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = list(ours)
        if not ours:
            handler = logging.StreamHandler()
            handler.addFilter(RedactingFilter())
            logger.handlers = [handler]
