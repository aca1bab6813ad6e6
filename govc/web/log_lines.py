"""The form of a log line, made cheaply: there is one for every request.

    2026-11-26 14:02:17,002 INFO govc.access request=…

The text of a second is made once in it, and records carry no names of threads and processes, which the line doesn't
show and the standard library looks up each time. The master process uses this, too: it imports little.

Lines go to standard error, or are appended to a `log_file`; by one write each, by all processes. The file is opened
again when its name stands for another one (each line looks, which is one stat), so renaming it is enough; SIGUSR1 or
SIGHUP to the master makes gunicorn open it again at once. With `log_format = json` the form is that of `json_lines`.
"""

import logging
import os
import time
from logging.handlers import WatchedFileHandler

from govc.web.json_lines import JsonFormatter

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
        second = int(record.created)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return f"{self._text},{int(record.msecs):03d} {record.levelname} {record.name} {record.getMessage()}"


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
            line = memoryview(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            while line:
                line = line[os.write(STDERR, line) :]
        except Exception:
            self.handleError(record)


def configure(
    *filters: logging.Filter, level: int = logging.INFO, log_format: str = "text", log_file: str | None = None
) -> None:
    """Send what our loggers say to a file, else to standard error, through the filters. Raises OSError.

    Again: in the place of what was configured before.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = StderrHandler() if log_file is None else WatchedFileHandler(log_file, encoding="utf-8")
    for each in filters:
        handler.addFilter(each)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    logger = logging.getLogger("govc")
    logger.setLevel(level)
    before, logger.handlers = logger.handlers, [handler]
    for old in before:
        old.close()
    logger.propagate = False
