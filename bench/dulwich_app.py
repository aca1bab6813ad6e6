"""Dulwich's own WSGI application over the folder BENCH_ROOT, for gunicorn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dulwich.repo import Repo
from dulwich.server import Backend
from dulwich.web import make_wsgi_chain


class FolderBackend(Backend):
    """Opens BENCH_ROOT/NAME for the path /NAME (dulwich's FileSystemBackend takes /NAME for absolute)."""

    def open_repository(self, path: str) -> Repo:
        """The repository at a URL path."""
        return Repo(str(Path(os.environ["BENCH_ROOT"]) / os.fsdecode(path).lstrip("/")))


_chain = make_wsgi_chain(FolderBackend())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Gunicorn has undone the chunks already; dulwich would undo them once more."""
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return _chain(environ, start_response)
