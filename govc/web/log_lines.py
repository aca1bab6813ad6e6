"""The form of a log line, made cheaply: there is one for every request.

    2026-11-26 14:02:17,002 INFO govc.access request=…

The text of a second is made once in it, and records carry no names of threads and processes, which the line doesn't
show and the standard library looks up each time. The master process uses this, too: it imports little.

With `log_format = json` the form is that of `json_lines`. A `log_file` is appended to, one write a line, by all
processes. It is opened again when its name stands for another file (each line looks, which is one stat), so renaming
it is enough; SIGUSR1 or SIGHUP to the master makes gunicorn open it again at once.
"""

import logging
import time
from logging.handlers import WatchedFileHandler

from govc.web.json_lines import JsonFormatter


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


def configure(
    *filters: logging.Filter, level: int = logging.INFO, log_format: str = "text", log_file: str | None = None
) -> None:
    """Send what our loggers say to a file, else to standard error, through the filters. Raises OSError.

    Again: in the place of what was configured before.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler() if log_file is None else WatchedFileHandler(log_file, encoding="utf-8")
    for each in filters:
        handler.addFilter(each)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    logger = logging.getLogger("govc")
    logger.setLevel(level)
    before, logger.handlers = logger.handlers, [handler]
    for old in before:
        old.close()
    logger.propagate = False
