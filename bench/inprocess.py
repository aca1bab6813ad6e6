"""The server in this process: the WSGI application, called without a socket, for figures that no neighbour disturbs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.wire import Refused, Request
from govc.app import create_app
from govc.settings import Settings


class Application:
    """govc over one folder, with nothing in the background that isn't the request's."""

    def __init__(self, root: Path, **settings: Any) -> None:
        chosen = {"export_all": True, "metrics": False, "helper_processes_max": 0, "cache_bytes_max": 0, **settings}
        self._application: Callable[..., Iterable[bytes]] = create_app(Settings(root=str(root), **chosen))

    def ask(self, request: Request) -> bytes:
        """The body of the answer; Refused unless the status is 200."""
        path, _, query = request.path.partition("?")
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(request.body)) if request.body else "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        status: list[str] = []
        chunks = self._application(environ, lambda text, headers, error=None: status.append(text))
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        if not status[0].startswith("200"):
            raise Refused(f"{status[0]}: {body[:200]!r}")
        return body
