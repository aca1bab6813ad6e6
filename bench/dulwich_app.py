"""Dulwich's own WSGI application over the folder BENCH_ROOT, for gunicorn."""

from __future__ import annotations

import os
from pathlib import Path

from dulwich.repo import Repo
from dulwich.server import Backend
from dulwich.web import make_wsgi_chain


class FolderBackend(Backend):
    """Opens BENCH_ROOT/NAME for the path /NAME (dulwich's FileSystemBackend takes /NAME for absolute)."""

    def open_repository(self, path: str) -> Repo:
        """The repository at a URL path."""
        return Repo(str(Path(os.environ["BENCH_ROOT"]) / os.fsdecode(path).lstrip("/")))


application = make_wsgi_chain(FolderBackend())
