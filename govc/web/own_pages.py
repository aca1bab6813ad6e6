"""What does the server answer about itself? `/-/healthz`, `/-/readyz` and `/-/metrics`: no repository's affair."""

from typing import Any

from govc.web.health import Health
from govc.web.metrics import CONTENT_TYPE, Metrics
from govc.web.responses import Response, error_response, whole_response

PREFIX = "/-/"
_METRICS, _READY, _HEALTHY = _PATHS = ("/-/metrics", "/-/readyz", "/-/healthz")
_PLAIN_TEXT = "text/plain; charset=utf-8"


class OwnPages:
    """The three pages of one worker. `metrics` None: nothing is counted, and that page is not there."""

    def __init__(self, health: Health, metrics: Metrics | None) -> None:
        self._health = health
        self._metrics = metrics

    def answer(self, path: str, environ: dict[str, Any]) -> Response | None:
        """Answer a request whose path begins with PREFIX; None for other paths, which may be repositories."""
        if path not in _PATHS or (path == _METRICS and self._metrics is None):
            return None
        method = environ.get("REQUEST_METHOD")
        if method not in ("GET", "HEAD"):
            return error_response(405, ("Allow", "GET, HEAD"))
        if path == _METRICS and self._metrics is not None:
            response = whole_response(CONTENT_TYPE, self._metrics.encode())
        elif path == _READY:
            readiness = self._health.check()
            response = whole_response(_PLAIN_TEXT, readiness.encode())
            response = response._replace(status=503 if readiness.problems else 200)
        else:
            response = whole_response(_PLAIN_TEXT, b"ok\n")
        return response._replace(body=b"") if method == "HEAD" else response
