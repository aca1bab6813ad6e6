"""Fakes for the tests of the web room: a backend that remembers what it was asked, and a client by hand."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from govc.errors import RepositoryNotFound
from govc.service.context import RequestContext
from govc.web.interface import BodyReader
from govc.web.wsgi_app import Application, WebOptions


@dataclass
class FakeHandle:
    allowed: dict[str, bool] = field(
        default_factory=lambda: dict.fromkeys(("upload-pack", "receive-pack", "upload-archive"), True)
    )
    getanyfile: bool = True
    max_bytes: int = 10 << 20
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=lambda: [b"first", b"", b"second"])
    failure: Exception | None = None
    fail_after: int = 0
    contexts: list[RequestContext] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    closed: int = 0

    def service_enabled(self, service: str, remote_user: str | None) -> bool:
        return self.allowed[service]

    def getanyfile_enabled(self) -> bool:
        return self.getanyfile

    def max_request_bytes(self) -> int:
        return self.max_bytes

    def known_listing(self, path_info: str, context: RequestContext, body: bytes | None) -> None:
        return None

    def known_place(self, path_info: str, context: RequestContext) -> None:
        return None

    def advertise(self, context: RequestContext) -> bytes:
        self.contexts.append(context)
        if self.failure is not None:
            raise self.failure
        return b"advertisement"

    def _produce(self) -> Iterator[bytes]:
        try:
            for number, chunk in enumerate(self.chunks):
                if self.failure is not None and number == self.fail_after:
                    raise self.failure
                yield chunk
        finally:
            self.closed += 1

    def upload_pack(self, context: RequestContext, body: bytes) -> Iterator[bytes]:
        self.contexts.append(context)
        self.bodies.append(body)
        return self._produce()

    def upload_archive(self, context: RequestContext, body: bytes) -> Iterator[bytes]:
        return self.upload_pack(context, body)

    def receive_pack(self, context: RequestContext, body: BodyReader) -> Iterator[bytes]:
        self.contexts.append(context)
        return self._receive(body)

    def _receive(self, body: BodyReader) -> Iterator[bytes]:
        self.bodies.append(b"".join(iter(lambda: body.read(1 << 20), b"")))
        yield from self._produce()

    def dumb_info_refs(self) -> bytes:
        return b"0" * 40 + b"\trefs/heads/main\n"

    def dumb_head(self) -> bytes:
        return b"ref: refs/heads/main\n"

    def dumb_info_packs(self) -> bytes:
        return b"P pack-x.pack\n\n"

    def dumb_file(self, kind: str, relative: str) -> str | None:
        return self.files.get((kind, relative))


class FakeBackend:
    def __init__(self, **repositories: FakeHandle) -> None:
        self.handle = FakeHandle()
        self.repositories = {"/a.git": self.handle, **repositories}
        self.opened: list[tuple[str, RequestContext]] = []
        self.failure: Exception | None = None

    def start(self) -> None:
        self.opened.clear()

    def close(self) -> None:
        self.opened.clear()

    def open(self, path_info: str, *, context: RequestContext) -> FakeHandle:
        self.opened.append((path_info, context))
        if self.failure is not None:
            raise self.failure
        if path_info not in self.repositories:
            raise RepositoryNotFound(path_info)
        return self.repositories[path_info]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def make_environ(method: str, path: str, body: bytes = b"", **more: Any) -> dict[str, Any]:
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ.update(more)
    return {name: value for name, value in environ.items() if value is not None}


class Client:
    def __init__(self, backend: FakeBackend | None = None, **options: Any) -> None:
        self.backend = backend or FakeBackend()
        self.application = Application(self.backend, WebOptions(**options))

    def start(self, environ: dict[str, Any]) -> tuple[list[Any], Any]:
        started: list[Any] = []
        start_response: Callable[..., None] = lambda status, headers: started.extend([status, headers])  # noqa: E731
        return started, self.application(environ, start_response)

    def request(self, method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
        started, chunks = self.start(make_environ(method, path, body, **more))
        try:
            whole = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        assert len({name for name, _ in started[1]}) == len(started[1])
        return Answer(int(started[0][:3]), dict(started[1]), whole)

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def rpc(self, service: str, body: bytes = b"0000", **more: Any) -> Answer:
        more.setdefault("CONTENT_TYPE", f"application/x-git-{service}-request")
        return self.request("POST", f"/a.git/git-{service}", body, **more)
