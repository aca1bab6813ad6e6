"""Loggers that import `logging` when there is something to say.

With what it imports (traceback, string templates, threads) that takes as long as Python's own start, and most processes
that are started for one piece of work have nothing to say. Names, levels and handlers are those of `logging`.
"""


class LateLog:
    """As much of a logger as is needed; `name` is the logger's."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def warning(self, text: str, *values: object) -> None:
        """Log a warning."""
        import logging

        logging.getLogger(self._name).warning(text, *values, stacklevel=2)

    def error(self, text: str, *values: object) -> None:
        """Log an error."""
        import logging

        logging.getLogger(self._name).error(text, *values, stacklevel=2)
