"""One request as a CGI program: what `govc http-backend` runs, in the place of git-http-backend.

Standard input may stay open after the request (a keep-alive connection behind it), so reading stops at
CONTENT_LENGTH; when that is absent or empty, the request ends where the input does. Output is headers with
CRLF, a blank line and the body; a `Status:` line only when it isn't 200. Every chunk is flushed, so that
progress is seen when it happens.

Source: RFC 3875; PEP 3333 "The Server/Gateway Side"; git-http-backend.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from govc.web.responses import Header, http_date

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def make_environ(variables: Mapping[str, str], request_body: BinaryIO, errors: Any) -> dict[str, Any]:
    """Return the WSGI environ of a CGI program's environment."""
    environ: dict[str, Any] = {name: os.fsencode(value).decode("latin-1") for name, value in variables.items()}
    environ.setdefault("REQUEST_METHOD", "")
    environ.setdefault("SCRIPT_NAME", "")
    environ.update(
        {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if environ.get("HTTPS", "").lower() in ("on", "1") else "http",
            "wsgi.input": request_body,
            "wsgi.input_terminated": True,
            "wsgi.errors": errors,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": True,
        }
    )
    return environ


def encode_head(status: str, headers: list[Header]) -> bytes:
    """Return the head of a CGI answer."""
    lines = [] if status.startswith("200 ") else [f"Status: {status}"]
    lines += [f"{name}: {value}" for name, value in headers]
    cacheable = any(name == "Cache-Control" and value.startswith("public") for name, value in headers)
    if cacheable:
        # No HTTP server of ours adds it here, and "Expires in a year" wants a date to count from.
        lines.append(f"Date: {http_date(time.time())}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def run_cgi(
    application: Application,
    *,
    variables: Mapping[str, str],
    request_body: BinaryIO,
    answer: BinaryIO,
    errors: Any,
) -> int:
    """Answer the one request that `variables` and `request_body` hold; return the exit status of the
    program."""
    head: list[bytes] = []

    def start_response(status: str, headers: list[Header], _exc_info: object = None) -> None:
        head[:] = [encode_head(status, headers)]

    chunks = application(make_environ(variables, request_body, errors), start_response)
    try:
        _write_all(answer, head[0])
        for chunk in chunks:
            _write_all(answer, chunk)
    except (BrokenPipeError, ConnectionResetError):
        return 1
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    return 0


def _write_all(answer: BinaryIO, data: bytes) -> None:
    """Write everything; an unbuffered stream may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[answer.write(view) :]
    answer.flush()
