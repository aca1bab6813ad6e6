"""A file that counts as it is now: read again when it changes, in every worker, without a signal.

Each use is one `stat` (see `watch`). A new version that can't be taken, or a file that went away, changes nothing:
the one that was read before still counts, the log says so once per version, and `on_refused` is told, so that a
metric shows it.
"""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from govc.auth.principal import BadAuthFile
from govc.watch import OUR_TROUBLE, WatchedFile, read_watched

log = logging.getLogger(__name__)

FILE_BYTES_MAX = 64 << 20

T = TypeVar("T")
Parse = Callable[[bytes, str], T]
"""(content, path) to a value; raises BadAuthFile."""

OnRead = Callable[[str, bool], None]
"""(kind, accepted): called for each version of a file."""


def ignore_reads(_kind: str, _accepted: bool) -> None:
    """Tell nobody."""


class WatchedValue(Generic[T]):
    """What a file says. `kind` names it in metrics; `absent` is its value when there is no file, None: that is an
    error.
    """

    def __init__(
        self, kind: str, path: str, parse: Parse[T], *, absent: T | None = None, on_read: OnRead = ignore_reads
    ) -> None:
        """Reads the file. Raises BadAuthFile."""
        self.kind = kind
        self.path = path
        self._parse = parse
        self._absent = absent
        self._on_read = on_read
        self._complaint = ""
        try:
            self._content, self._watch = read_watched(path, bytes_max=FILE_BYTES_MAX)
        except OSError as error:
            raise BadAuthFile(path, 0, error.strerror or "can't be read") from error
        self._value = self._make(self._content)
        on_read(kind, True)

    def get(self) -> T:
        """Return what the file says now, or what it said when it could last be read."""
        if not self._watch.is_current():
            self._read_again()
        return self._value

    def _make(self, content: bytes | None) -> T:
        if content is not None:
            return self._parse(content, self.path)
        if self._absent is None:
            raise BadAuthFile(self.path, 0, "there is no such file")
        return self._absent

    def _read_again(self) -> None:
        try:
            content, watch = read_watched(self.path, bytes_max=FILE_BYTES_MAX)
        except OSError as error:
            if error.errno not in OUR_TROUBLE:
                self._complain(f"{self.path}: {error.strerror}")
            return
        if content == self._content and not self._complaint:
            self._watch = watch
            return
        try:
            value = self._make(content)
        except BadAuthFile as error:
            self._watch = watch
            self._complain(str(error))
            return
        self._content, self._watch, self._value = content, watch, value
        self._complaint = ""
        self._on_read(self.kind, True)
        log.info("%s: a new version counts from now on", self.path)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            log.error("REFUSED, the version read before still counts: %s", complaint)
            self._on_read(self.kind, False)
        self._complaint = complaint

    @property
    def watch(self) -> WatchedFile:
        """The stamp of what was read last (two equal ones mean an equal value)."""
        return self._watch


def decode_text(content: bytes, path: str) -> str:
    """Return a file's text. Raises BadAuthFile with the line where it stops to be UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadAuthFile(path, content.count(b"\n", 0, error.start) + 1, "not UTF-8") from error
