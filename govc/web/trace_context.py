"""What the web room asks of tracing; `tracing` is the real thing, imported only where traces are wanted.

The context of a trace comes in the headers `traceparent` and `tracestate` (W3C Trace Context), and is believed from
trusted proxies only: anybody else could otherwise decide what is sampled, and write into other people's traces.
"""

from typing import Any, Protocol

from govc.web.access_log import Exchange


class Tracing(Protocol):
    """Makes traces of requests."""

    def begin(self, exchange: Exchange, environ: dict[str, Any], *, is_trusted: bool) -> None:
        """Have a request keep its phases, and say when it ends. `is_trusted`: the headers are a trusted proxy's."""

    def close(self) -> None:
        """Send what is left. Blocks, for seconds at most."""
