"""One line per request, on the logger "govc.access": who asked for what of which repository, and how it
ended.

    request=5f0c… remote=127.0.0.1 user="ann" login=token:Ab3… method=POST route=rpc repository="/a.git"
    path="/a.git/git-upload-pack" status=200 bytes=1234 seconds=0.012 error="client went away"

(On one line.) What a client can choose is quoted as JSON quotes it, so it can't forge a line of its own; what looks
like a secret in it is cut out (see `redaction`).
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from govc import phases
from govc.phases import VALIDATE, Phase
from govc.web.json_lines import CURRENT
from govc.web.log_lines import find_plain
from govc.web.metrics import Metrics
from govc.web.redaction import CleanRecord, redact
from govc.web.slow_clients import Waits

_LOG = logging.getLogger("govc.access")
NO_ROUTE = "none"
_SHORT_CHARACTERS_MAX = 200
SPANS_MAX = 200
"""Phases of one request that a trace shows: a push of many refs has an `update` hook each."""


_LIKE = logging.LogRecord(_LOG.name, logging.INFO, __file__, 0, "", None, None)

_quote_short = lru_cache(maxsize=4096)(json.dumps)


def _quote(text: str) -> str:
    """Quote as JSON does. The same users, repositories and paths come again and again."""
    return _quote_short(text) if len(text) <= _SHORT_CHARACTERS_MAX else json.dumps(text)


def _record(line: str) -> logging.LogRecord:
    if logging.logProcesses or logging.logThreads:  # not our configuration: a formatter may ask for them
        return logging.LogRecord(_LOG.name, logging.INFO, __file__, 0, line, None, None)
    return CleanRecord(_LIKE, line)


def write_plainly(request_id: str, middle: str, bytes_sent: int, seconds: float) -> bool:
    """Write the line of a request of which all is known, without an exchange and a record: that is half of what such a
    request costs. `middle`: of `Exchange.middle`, redacted. False: not written, since somebody wants more of it.
    """
    output = find_plain(_LOG)
    if output is None:
        return False
    output.write_info(_LOG.name, f"request={redact(request_id)}{middle}{bytes_sent} seconds={seconds:.6f}")
    return True


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and its answer while it happens; `finish` writes the line and counts, once.

    It is the recorder of the request's phases (`govc.phases`): each is counted, and kept when the request is `traced`.
    `trace_parent` is the trace context that the proxy sent (W3C: traceparent, tracestate).
    """

    request_id: str
    method: str
    path: str
    remote_addr: str | None = None
    remote_user: str | None = None
    login: str = "-"
    route: str = NO_ROUTE
    repository: str = ""
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    error: str = ""
    broke_off: bool = False
    started_seconds: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    finished: bool = False
    metrics: Metrics | None = None
    traced: "Callable[[Exchange], None] | None" = None
    listens: bool = False
    trace_parent: tuple[str, str] = ("", "")
    spans: list[Phase] | None = None
    held: object = None
    """What has to live as long as the answer."""
    waits: Waits | None = None
    """Where a client that is too slow is ended."""
    teach: Callable[[], None] | None = None
    """Tells who wants to know what was found out about the request, when it is answered by a body in a file."""
    known_middle: str = ""
    """What `middle(200)` says, redacted, where that is known."""

    def note(self, phase: Phase) -> None:
        """Take down a phase, from whatever thread."""
        if self.metrics is not None:
            self.metrics.note_phase(phase.name, phase.seconds)
        if self.spans is not None and len(self.spans) < SPANS_MAX:
            self.spans.append(phase)

    def note_validated(self, started: float) -> None:
        """Take down that the repository was found and validated: as `note`, and cheap, since every request does it."""
        ended = time.monotonic()
        if self.metrics is not None:
            self.metrics.note_phase(VALIDATE, ended - started)
        if self.spans is not None:
            self.spans.append(Phase(VALIDATE, started, ended, ended - started))

    def listen(self) -> None:
        """Hear of the phases of what this greenlet does from now on."""
        if self.metrics is not None or self.spans is not None:
            self.listens = True
            phases.CURRENT.set(self)

    def finish(self) -> None:
        """Write the line and count the request; a second call does nothing."""
        if self.finished:
            return
        self.finished = True
        self.held = self.teach = None  # what it keeps alive keeps packs open that plain git has replaced
        if self.waits is not None and self.waits.broken_limit:
            self.error = f"ended: the client was too slow ({self.waits.broken_limit})"
        seconds = self.seconds = time.monotonic() - self.started_seconds
        if self.metrics is not None:
            self.metrics.count(
                route=self.route,
                status=self.status,
                bytes_sent=self.bytes_sent,
                bytes_received=self.bytes_received,
                seconds=seconds,
                finished=not self.broke_off,
            )
        plain = find_plain(_LOG)
        if plain is not None:
            plain.write_info(_LOG.name, self.line(seconds))
        elif _LOG.isEnabledFor(logging.INFO):
            CURRENT.set(self)  # whoever ends an answer need not have begun it
            _LOG.handle(_record(self.line(seconds)))
        CURRENT.set(None)
        if self.listens:
            phases.CURRENT.set(None)
        if self.traced is not None:
            self.traced(self)

    def line(self, seconds: float) -> str:
        """Return the line."""
        if self.known_middle and self.status == 200 and not self.error:
            return f"request={redact(self.request_id)}{self.known_middle}{self.bytes_sent} seconds={seconds:.6f}"
        text = f"request={self.request_id}{self.middle(self.status)}{self.bytes_sent} seconds={seconds:.6f}"
        return redact(f"{text} error={_quote(self.error)}" if self.error else text)

    def middle(self, status: int) -> str:
        """Return what is in the line between the request's id and the bytes that were sent, secrets included."""
        quote = _quote
        return (
            f" remote={self.remote_addr or '-'} "
            f"user={quote(self.remote_user) if self.remote_user else '-'} login={self.login} "
            f"method={self.method if self.method.isalpha() else quote(self.method)} route={self.route} "
            f"repository={quote(self.repository)} path={quote(self.path)} status={status} bytes="
        )

    def log_fields(self) -> dict[str, Any]:
        """Return what is known of the request so far, for lines in JSON."""
        fields: dict[str, Any] = {
            "request": self.request_id,
            "user": self.remote_user,
            "repository": self.repository,
            "remote": self.remote_addr,
        }
        if self.finished:
            fields |= {
                "login": self.login,
                "method": self.method,
                "route": self.route,
                "path": self.path,
                "status": self.status,
                "bytes": self.bytes_sent,
                "bytes_in": self.bytes_received,
                "seconds": round(self.seconds, 6),
                "error": self.error,
            }
        return {name: value for name, value in fields.items() if value not in (None, "")}
