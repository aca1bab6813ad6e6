"""gunicorn's master as `govc serve` runs it: what happens to workers on a reload, a stop, and a mistake in a file.

    SIGHUP     new workers beside the old ones, which take no new connections and end when their requests have; a
               clone that takes long gets `reload_seconds`. The settings and all files of logins and permissions are
               checked before: with a mistake nothing happens but a line in the log that names it
    SIGTERM    nothing new; what runs gets `graceful_seconds`, in the old workers of a reload, too
    a crash    another worker, unless some file has a mistake now: a worker could not start with it, which for
               gunicorn is a reason to end the whole server. Those that live go on with the version that they have,
               and another one is started as soon as the file is right. What fails in spite of that is tried again

gunicorn's own master counts workers that are on their way out as workers: a long clone in one would keep a crashed one
from being replaced. It also waits inside a reload until the old ones are gone, deaf to everything else.
And when it stops it removes whatever lies at the path of its Unix socket, be it another server's by then, and falls
over when nothing does, before its workers have been told to end.

The master runs under no patch of gevent's. It imports the application for its workers, and makes none.
"""

import mmap
import os
import signal
import socket
import time
from typing import Any, Protocol

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

STOPPING = mmap.mmap(-1, 1)
"""Not zero once the server stops: shared with the workers, for whom a reload and a stop are the same signal."""

BOOTED = mmap.mmap(-1, 1)
"""Not zero once a worker has started: before, a mistake ends the server, as who starts it expects."""

RETRY_SECONDS = 5.0
"""So long after a worker that could not start, the next one is tried."""


class CheckedApplication(Protocol):
    """What the master asks of its application."""

    def find_problem(self) -> str:
        """Return why a worker could not start now, "" when it could."""


def _identify(path: str) -> tuple[int, int] | None:
    """Return what tells a file from others that come to lie at its path; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class GovcArbiter(Arbiter):  # type: ignore[misc]
    """See the story of this module."""

    app: CheckedApplication
    LISTENERS: list[Any]

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._leaving: set[int] = set()
        self._problem = ""
        self._not_before = 0.0
        self._socket_files: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Begin to listen (gunicorn's own hook)."""
        umask = os.umask(0o077)
        os.umask(umask)
        try:
            super().start()
        finally:
            os.umask(umask)  # gunicorn forgets to, where an address can't be had at the first try
        for listener in self.LISTENERS:
            path = listener.getsockname()
            # One in the abstract name space has bytes, and no file.
            identity = _identify(path) if listener.family == socket.AF_UNIX and isinstance(path, str) else None
            if identity is not None:
                self._socket_files[path] = identity

    def reload(self) -> None:
        """Replace the workers (gunicorn's own hook for SIGHUP)."""
        problem = self.app.find_problem()
        if problem:
            self.log.error("not reloaded: %s", problem)
            return
        self._stats["reloads"] += 1
        self.log.reopen_files()
        old = self._staying()
        for _ in range(self.num_workers):
            self.spawn_worker()
        for pid in old:
            self._send_away(pid)

    def manage_workers(self) -> None:
        """Have as many workers as there should be, beside those that are on their way out (gunicorn's own hook)."""
        staying = self._staying()
        while len(staying) > self.num_workers:
            self._send_away(staying.pop(0))
        if len(staying) == self.num_workers or time.monotonic() < self._not_before:
            return
        # At the first start whoever started us has just checked, and a mistake ends it.
        problem = self.app.find_problem() if self.worker_age else ""
        if problem:
            if problem != self._problem:
                self.log.error("%d of %d workers run; no other can start: %s", len(staying), self.num_workers, problem)
            self._problem = problem
            return
        self._problem = ""
        for _ in range(self.num_workers - len(staying)):
            self.spawn_worker()

    def reap_workers(self) -> None:
        """Take leave of workers that have ended (gunicorn's own hook)."""
        before = dict(self.WORKERS)
        try:
            super().reap_workers()
        except HaltServer as halt:
            if not BOOTED[0]:
                raise
            self.log.error("%s Another one is tried in %d seconds.", halt.reason, RETRY_SECONDS)
            self._not_before = time.monotonic() + RETRY_SECONDS
            for pid in before.keys() - self.WORKERS.keys():
                before[pid].tmp.close()
                self.cfg.child_exit(self, before[pid])

    def stop(self, graceful: bool = True) -> None:
        """End the workers (gunicorn's own hook)."""
        STOPPING[0] = 1
        self._stop_listening()
        super().stop(graceful)

    def _stop_listening(self) -> None:
        """Close the sockets, and remove the files of those that are ours alone and still the ones that we made.

        Files first: whoever starts meanwhile finds that we listen, and no other file has the number of one in use.
        """
        is_ours = self.reexec_pid == self.master_pid == 0 and not self.systemd and not self.cfg.reuse_port
        for path, identity in self._socket_files.items():
            if is_ours and _identify(path) == identity:
                try:
                    os.unlink(path)
                except OSError as error:
                    self.log.warning("%s stays: %s", path, error.strerror)
        self._socket_files.clear()
        for listener in self.LISTENERS:
            listener.close()
        self.LISTENERS = []

    def _staying(self) -> list[int]:
        """Return the workers that were not told to go, the oldest first."""
        self._leaving &= self.WORKERS.keys()
        workers = sorted((worker.age, pid) for pid, worker in self.WORKERS.items())
        return [pid for _, pid in workers if pid not in self._leaving]

    def _send_away(self, pid: int) -> None:
        self._leaving.add(pid)
        self.kill_worker(pid, signal.SIGTERM)
