"""The form of a log line, made cheaply: there is one for every request.

    2026-11-26 14:02:17,002 INFO govc.access request=…

The text of a second is made once in it, and records carry no names of threads and processes, which the line doesn't
show and the standard library looks up each time. The master process uses this, too: it imports little.

Lines go to standard error, or are appended to a `log_file`; by one write each, by all processes. The file is opened
again when its name stands for another one (each line looks, which is one stat), so renaming it is enough; SIGUSR1 or
SIGHUP to the master makes gunicorn open it again at once. With `log_format = json` the form is that of `json_lines`.
"""

import _thread
import logging
import os
import time
from logging.handlers import WatchedFileHandler

from govc.web.json_lines import JsonFormatter
from govc.web.redaction import RedactingFilter

STDERR = 2


class LineFormatter(logging.Formatter):
    """Time, level, logger, message; an exception's text below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._second = -1
        self._text = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.exc_info or record.stack_info:
            return super().format(record)
        when = self.stamp(int(record.created))
        return f"{when},{int(record.msecs):03d} {record.levelname} {record.name} {record.getMessage()}"

    def stamp(self, second: int) -> str:
        """Return the text of a second."""
        if second != self._second:
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return self._text


class StderrHandler(logging.Handler):
    """Writes each line to standard error by one write(2), which needs no lock; under gevent a lock costs as much."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Let it through the filters, and write it."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; whatever fails must not end who logs."""
        try:
            _write(self.format(record))
        except Exception:
            self.handleError(record)

    def write_info(self, name: str, text: str) -> None:
        """Write a line that needs no record, as `emit` would; only of who was given this handler by `find_plain`."""
        now = time.time()
        formatter = self.formatter
        assert isinstance(formatter, LineFormatter)
        try:
            _write(f"{formatter.stamp(int(now))},{int(now * 1000) % 1000:03d} INFO {name} {text}")
        except Exception:
            self.handleError(logging.LogRecord(name, logging.INFO, __file__, 0, text, None, None))


class AppendingHandler(WatchedFileHandler):
    """Appends each line to a file, under a lock of the kernel's threads. gevent gives every handler one of its own: in
    that a thread of a pool, which has no hub, may wait for ever, and everybody else behind it.
    """

    def createLock(self) -> None:
        """Make the lock (the standard library's own hook)."""
        super().createLock()
        self._file_lock = _thread.RLock()

    def _at_fork_reinit(self) -> None:
        """Make it anew in a forked process, where nobody is who holds it (the standard library's own hook)."""
        super()._at_fork_reinit()  # type: ignore[misc]
        self._file_lock = _thread.RLock()

    def acquire(self) -> None:
        """Take it: gunicorn does, when it opens the file again."""
        self._file_lock.acquire()

    def release(self) -> None:
        """Give it back."""
        self._file_lock.release()

    def handle(self, record: logging.LogRecord) -> bool:
        """Let it through the filters, and write it."""
        passed = self.filter(record)
        if passed:
            with self._file_lock:
                self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)


def _write(text: str) -> None:
    line = f"{text}\n".encode("utf-8", "backslashreplace")
    written = os.write(STDERR, line)
    while written < len(line):
        written += os.write(STDERR, line[written:])


def find_plain(logger: logging.Logger) -> StderrHandler | None:
    """Return the handler that would write a line of this logger (level INFO) in our usual form, if nobody else would
    see it on its way: nobody who was added by an administrator's own configuration, or by a test.
    """
    ours = logger.parent
    if logger.handlers or logger.filters or logger.disabled or not logger.propagate or ours is None or ours.propagate:
        return None
    if len(ours.handlers) != 1 or not logger.isEnabledFor(logging.INFO):
        return None
    handler = ours.handlers[0]
    if type(handler) is not StderrHandler or type(handler.formatter) is not LineFormatter:
        return None
    if handler.level > logging.INFO:
        return None
    for each in handler.filters:
        if type(each) is not RedactingFilter:
            return None
    return handler


def configure(
    *filters: logging.Filter, level: int = logging.INFO, log_format: str = "text", log_file: str | None = None
) -> None:
    """Send what our loggers say to a file, else to standard error, through the filters. Raises OSError.

    Again: in the place of what was configured before.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = StderrHandler() if log_file is None else AppendingHandler(log_file, encoding="utf-8")
    for each in filters:
        handler.addFilter(each)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    logger = logging.getLogger("govc")
    logger.setLevel(level)
    before, logger.handlers = logger.handlers, [handler]
    for old in before:
        old.close()
    logger.propagate = False
