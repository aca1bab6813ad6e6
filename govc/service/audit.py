"""Who did what: a line for every push and every fetch, in a file of its own.

    {"time": "2026-11-26T14:02:17.002Z", "event": "push", "request": "5f0c…", "user": "ann", "login": "token:Ab3…",
     "address": "192.0.2.1", "repository": "/srv/git/a.git", "unpack": "ok",
     "refs": [{"ref": "refs/heads/main", "old": "12…", "new": "ab…", "result": "ok"}]}

    event         written
    push-begun    before anything is accepted, only with `audit_required`: "refs" without results
    push          once its answer is decided, before the pusher reads it; `result` is "ok", or the reason that the
                  pusher is told; a push that broke off has "broke off" at whatever was not decided
    fetch         when the answer with a pack has ended: "wants", "bytes", "complete" (false: it broke off)
    archive       the same, without "wants"
    file          a file of the dumb protocol was asked for, whether or not it is there: "path"
    created       a push has made the repository

Old and new are object ids, of zeros for a ref that did not or will not exist. Times are UTC. A request that was
refused before it reached a service is in the access log, not here.

Each line is appended with one write, so lines of several processes never mix. The file is opened again when its name
stands for another one, so renaming it is enough. A write that fails (a full disk, a folder that went away) is an error
in the log, with the line, and counted. A line that was cut short is ended by the next one, so that it spoils no other.

With `audit_required` a push is refused when its "push-begun" can't be written: then nothing is accepted that has not
left at least that. Lines are not synced to disk one by one: a power cut may take the last seconds of them, unlike the
refs and their reflogs.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from govc.cache.bodies import Chunk
from govc.cache.span import FileSpan
from govc.service.context import RequestContext
from govc.service.push_state import PushState

log = logging.getLogger(__name__)

FILE_MODE = 0o640
"""The group may read it: whoever reads logs need not be us."""

LOOKS_MAX = 100
LOOK_SECONDS = 0.001
"""So often, and so far apart, a line without an end is looked at before it is taken for one that was cut short."""

REFUSAL = "the server's audit log can not be written"

Count = Callable[[str], None]
"""Told "written" or "failed" for each line."""


def count_nothing(_outcome: str) -> None:
    """Count nothing: where nobody asks for metrics."""


def _plain(text: str) -> str:
    return text


class AuditLog:
    """The file. `path` None: nothing is written, and nothing fails."""

    def __init__(
        self,
        path: str | None = None,
        *,
        required: bool = False,
        clean: Callable[[str], str] = _plain,
        count: Count = count_nothing,
    ) -> None:
        """`clean` cuts secrets out of a text."""
        self._path = path
        self._required = required
        self._clean = clean
        self._count = count
        self._lock = threading.Lock()
        self._descriptor = -1

    @property
    def is_kept(self) -> bool:
        """Whether there is such a log at all."""
        return self._path is not None

    def accepts_push(self, context: RequestContext, repository: str, state: PushState) -> bool:
        """Note that a push begins, where that is required; say whether it may."""
        if not self._required:
            return True
        refs = [_ref(state, index) for index in range(len(state.commands))]
        return self._write("push-begun", context, repository, {"refs": refs})

    def note_push(self, context: RequestContext, repository: str, state: PushState, *, broke_off: bool = False) -> None:
        """Write what became of a push."""
        if self._path is None:
            return
        otherwise = "broke off" if broke_off else "ok"
        refs = [
            {**_ref(state, index), "result": self._clean(state.errors.get(index, otherwise))}
            for index in range(len(state.commands))
        ]
        self._write("push", context, repository, {"unpack": self._clean(state.unpack), "refs": refs})

    def note_created(self, context: RequestContext, repository: str) -> None:
        """Write that a push has made a repository."""
        if self._path is not None:
            self._write("created", context, repository, {})

    def note_file(self, context: RequestContext, repository: str, relative: str) -> None:
        """Write that a file of the dumb protocol was asked for."""
        if self._path is not None:
            self._write("file", context, repository, {"path": relative})

    def watch_archive(self, context: RequestContext, repository: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass an archive on, and write a line at its end."""
        sent, complete = 0, False
        try:
            for chunk in chunks:
                sent += len(chunk)
                yield chunk
            complete = True
        finally:
            _close(chunks)
            self._write("archive", context, repository, {"bytes": sent, "complete": complete})

    def watch_fetch(
        self, context: RequestContext, repository: str, answer: Callable[[Callable[[int], None]], Iterator[Chunk]]
    ) -> Iterator[Chunk]:
        """Pass the answer to a fetch on, and write a line at its end when there was a pack in it.

        `answer` is given what to call with the number of wants, once a pack is to be sent.
        """
        wants: list[int] = []
        sent, complete = 0, False
        chunks = answer(wants.append)
        try:
            for chunk in chunks:
                sent += chunk.length if isinstance(chunk, FileSpan) else len(chunk)
                yield chunk
            complete = True
        finally:
            _close(chunks)
            if wants:
                self._write("fetch", context, repository, {"wants": wants[0], "bytes": sent, "complete": complete})

    def _write(self, event: str, context: RequestContext, repository: str, more: dict[str, Any]) -> bool:
        now = time.time()
        principal = context.principal
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z",
            "event": event,
            "request": context.request_id,
            "user": self._clean(context.remote_user) if context.remote_user is not None else None,
            "login": f"token:{principal.token_id}" if principal.token_id else principal.method,
            "address": context.remote_addr,
            "repository": repository,
            **more,
        }
        data = json.dumps(line).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._append(data)
        except OSError as error:
            self._count("failed")
            log.error("AUDIT LOG NOT WRITTEN: %s: %s: %s", self._path, error.strerror, data.decode("ascii").rstrip())
            return False
        self._count("written")
        return True

    def _append(self, data: bytes) -> None:
        assert self._path is not None
        try:
            is_same = self._descriptor >= 0 and os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = descriptor
        if self._is_cut_short():
            data = b"\n" + data
        if os.write(self._descriptor, data) < len(data):
            raise OSError(0, "the disk took only a part of the line")

    def _is_cut_short(self) -> bool:
        """Say whether this or another process could write only a part of the last line.

        One that another process writes just now may show its beginning first: it is looked at again.
        """
        for look in range(LOOKS_MAX):
            if look:
                time.sleep(LOOK_SECONDS)
            size = os.fstat(self._descriptor).st_size
            if not size or os.pread(self._descriptor, 1, size - 1) in (b"\n", b""):
                return False
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


NO_AUDIT = AuditLog()


def _ref(state: PushState, index: int) -> dict[str, str]:
    command = state.commands[index]
    return {
        "ref": command.refname.decode("utf-8", "backslashreplace"),
        "old": command.old.hex(),
        "new": command.new.hex(),
    }


def _close(chunks: Iterator[Any]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
