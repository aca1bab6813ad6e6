"""The dumb routes: lists made on the spot, and files sent as they lie on the disk.

Only what `routes` matched comes here, so no name of a file is taken from the client beyond hex digits. A file
is sent in reads of 1 MB; its length and date are those of the open descriptor, and a file that shrinks while
it is sent ends the connection rather than the answer. Range is not honoured: a plain 200 is a sane answer to
it.

Source: gitprotocol-http "Dumb Server Response", gitrepository-layout.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from types import TracebackType

from govc.errors import GovcError
from govc.web.interface import RepositoryHandle
from govc.web.responses import (
    NEVER_CACHE,
    Response,
    cache_for_a_year,
    error_response,
    http_date,
    whole_response,
)
from govc.web.routes import Route, RouteKind

FILE_READ_BYTES = 1 << 20

_TEXT = "text/plain"
_ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_CONTENT_TYPES = {
    RouteKind.LOOSE: "application/x-git-loose-object",
    RouteKind.PACK: "application/x-git-packed-objects",
    RouteKind.IDX: "application/x-git-packed-objects-toc",
    RouteKind.ALTERNATES: _TEXT,
    RouteKind.HTTP_ALTERNATES: _TEXT,
}
_NEVER_CHANGING = (RouteKind.LOOSE, RouteKind.PACK, RouteKind.IDX)


class FileCutShort(GovcError):
    """A file that became shorter while it was sent."""


class FileChunks:
    """The bytes of an open file, from its start to the size it had; closes the descriptor."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left <= 0 or self._descriptor < 0:
            raise StopIteration
        data = os.read(self._descriptor, min(FILE_READ_BYTES, self._left))
        if not data:
            raise FileCutShort(f"a file ended {self._left} bytes before the size it had when it was opened")
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Close the file; again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "FileChunks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_regular(path: str) -> tuple[int, os.stat_result] | None:
    """Open a regular file; None when there is none. O_NONBLOCK, so that a named pipe can't hold us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _ABSENT_ERRNOS:
            return None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return descriptor, status


def _serve_file(handle: RepositoryHandle, route: Route) -> Response:
    path = handle.dumb_file(route.kind.value, route.tail.decode("ascii"))
    opened = _open_regular(path) if path is not None else None
    if opened is None:
        return error_response(404)
    descriptor, status = opened
    cache = cache_for_a_year(time.time()) if route.kind in _NEVER_CHANGING else NEVER_CACHE
    headers = [
        *cache,
        ("Content-Type", _CONTENT_TYPES[route.kind]),
        ("Content-Length", str(status.st_size)),
        ("Last-Modified", http_date(int(status.st_mtime))),
    ]
    return Response(200, headers, FileChunks(descriptor, status.st_size))


def serve_dumb(handle: RepositoryHandle, route: Route) -> Response:
    """Answer a GET of a dumb route (info/refs without `service` among them); 403 when http.getanyfile is
    false."""
    if not handle.getanyfile_enabled():
        return error_response(403)
    if route.kind is RouteKind.INFO_REFS:
        return whole_response(_TEXT, handle.dumb_info_refs())
    if route.kind is RouteKind.INFO_PACKS:
        return whole_response("text/plain; charset=utf-8", handle.dumb_info_packs())
    if route.kind is RouteKind.HEAD:
        body = handle.dumb_head()
        # The one route that git sends without any word on caching.
        return Response(200, [("Content-Type", _TEXT), ("Content-Length", str(len(body)))], body)
    return _serve_file(handle, route)
