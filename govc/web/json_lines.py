"""Log lines as JSON: one object a line, for whoever collects logs (`log_format = json`).

    {"time": "2026-11-26T14:02:17.002Z", "level": "INFO", "logger": "govc.access", "message": "request=5f0c…",
     "request": "5f0c…", "user": "ann", "repository": "/a.git", "remote": "192.0.2.1", "method": "POST", "route": "rpc",
     "status": 200, "bytes": 1234, "bytes_in": 170, "seconds": 0.012, "error": "client went away"}

`time` is UTC. `request`, `user` and `repository` are there wherever a line is written on behalf of a request, whichever
room wrote it (helper processes don't know it); what stands behind them is the access log's own.
`exception` holds a traceback. Fields without a value are left out.

What looks like a secret is cut out of every text (see `redaction`), each by itself and before it is encoded: the
patterns know nothing of JSON's quotes. All is ASCII on one line, so nobody can forge a line of his own.
"""

import json
import logging
import time
from contextvars import ContextVar
from typing import Any, Protocol

from govc.web.redaction import redact


class LogFields(Protocol):
    """What knows the fields of a request."""

    def log_fields(self) -> dict[str, Any]:
        """Return those that are known now, by their names in a line."""


CURRENT: ContextVar[LogFields | None] = ContextVar("govc_request", default=None)
"""The request that is being answered: each greenlet and each thread has its own."""


class JsonFormatter(logging.Formatter):
    """One record, one object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if (current := CURRENT.get()) is not None:
            for name, value in current.log_fields().items():
                line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = redact(record.exc_text)
        return json.dumps(line)
