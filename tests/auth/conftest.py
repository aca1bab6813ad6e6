"""A web server on loopback whose answers a test decides."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Answer = tuple[int, bytes, dict[str, str]]
Answerer = Callable[[bytes], Answer]


@pytest.fixture
def http_server() -> Iterator[Callable[[Answerer], str]]:
    """`http_server(answer)` starts a server and returns its URL; `answer` gets each body."""
    servers = []

    def start(answer: Answerer) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def _respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.server.seen.append((self.headers, body))  # type: ignore[attr-defined]
                status, content, headers = answer(body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _respond

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        start.servers.append(server)  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{server.server_address[1]}/"

    start.servers = []  # type: ignore[attr-defined]
    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
