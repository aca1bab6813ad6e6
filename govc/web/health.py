"""Is this worker alive, and may it be sent requests?

    /-/healthz    200 while the worker answers at all: restart it when it doesn't
    /-/readyz     200 while it can do its work, else 503 with one reason a line: send it no requests meanwhile

A worker is ready when

    the root folder can be listed (a mount that went away, rights that were taken away)
    every file of logins, permissions or keys has been accepted once
    it isn't shutting down

A newer version of such a file with a mistake in it doesn't make it unready: the one before still counts, and all
servers that share the file would leave service at once. It is named in the answer, and by `govc_login_file_refused`.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

CallBlocking = Callable[..., Any]
"""Runs a call that may wait for the kernel (a dead mount) where it makes nobody else wait."""


def _call_here(function: Callable[..., Any], /, *arguments: object) -> Any:
    return function(*arguments)


class Readiness(NamedTuple):
    """Why not, if anything, and what is wrong without being a reason."""

    problems: list[str]
    notes: list[str]

    def encode(self) -> bytes:
        """Return the text of the answer."""
        return "\n".join([*(self.problems or ["ok"]), *self.notes, ""]).encode("utf-8", "backslashreplace")


def _never() -> bool:
    return False


def _list_folder(path: str) -> str:
    """Return why the folder can't be listed, "" when it can."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


class Health:
    """What one worker knows of itself."""

    def __init__(self, root: str | None = None, call_blocking: CallBlocking = _call_here) -> None:
        """`root` None: repositories are found by whole paths, so there is no folder to look at."""
        self._root = root
        self._call_blocking = call_blocking
        self._accepted: set[str] = set()
        self._refused: set[str] = set()
        self._is_ending: Callable[[], bool] = _never

    def note_file(self, kind: str, accepted: bool) -> None:
        """Note whether the newest version of a file of logins or permissions was taken."""
        if accepted:
            self._accepted.add(kind)
            self._refused.discard(kind)
        else:
            self._refused.add(kind)

    def watch_ending(self, is_ending: Callable[[], bool]) -> None:
        """From now on ask this whether the worker is shutting down."""
        self._is_ending = is_ending

    def end(self) -> None:
        """The worker is shutting down."""
        self._is_ending = lambda: True

    def check(self) -> Readiness:
        """Look. May switch."""
        problems = []
        if self._is_ending():
            problems.append("shutting down")
        if self._root is not None and (reason := self._call_blocking(_list_folder, self._root)):
            problems.append(f"the folder of repositories can't be read: {reason}")
        never = sorted(self._refused - self._accepted)
        problems += [f"{kind}: no version of it was accepted" for kind in never]
        notes = [f"{kind}: the newest version was refused, an older one counts" for kind in sorted(self._refused)]
        return Readiness(problems, [note for note in notes if note.partition(":")[0] not in never])
