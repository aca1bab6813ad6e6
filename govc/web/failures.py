"""Why there is no better answer: what was raised while a request was answered, as an answer (its status for the
client, its text for the log), and a wrong method."""

import logging
import math

from govc.auth.principal import LoginBusy
from govc.errors import GovcError, Refused
from govc.protocol.errors import RemoteProtocolError
from govc.web.access_log import Exchange
from govc.web.responses import Response, error_response
from govc.web.routes import Route

_LOG = logging.getLogger("govc.web")


def answer_error(error: Exception, exchange: Exchange) -> Response:
    """Turn an exception into an answer, and note it in the exchange."""
    if isinstance(error, LoginBusy):
        exchange.error = str(error)
        return error_response(error.http_status, ("Retry-After", str(error.retry_after_seconds)))
    if isinstance(error, Refused):
        exchange.error = str(error)
        retry = str(math.ceil(error.retry_after_seconds))
        return error_response(error.http_status, ("Retry-After", retry), sentence=error.text.encode("utf-8") + b"\n")
    if exchange.waits is not None and exchange.waits.broken_limit:
        return error_response(408)
    if isinstance(error, (GovcError, RemoteProtocolError)):
        status = error.http_status
        exchange.error = str(error)
        if status >= 500:
            _LOG.error("request %s: %s", exchange.request_id, error)
    else:
        status = 500
        exchange.error = f"{type(error).__name__}: {error}"
        _LOG.error("request %s: %s", exchange.request_id, exchange.repository, exc_info=error)
    if status < 500:
        return error_response(status)
    seconds = error.retry_after_seconds if isinstance(error, GovcError) else 0
    headers = [("Retry-After", str(math.ceil(seconds)))] if seconds else []
    return error_response(status, ("X-Request-Id", exchange.request_id), *headers)


def wrong_method(route: Route, server_protocol: str) -> Response:
    """405 with Allow; 400 for clients older than HTTP/1.1, which has the 405."""
    if server_protocol in ("", "HTTP/0.9", "HTTP/1.0"):
        return error_response(400)
    return error_response(405, ("Allow", "GET, HEAD" if route.method == "GET" else route.method))
