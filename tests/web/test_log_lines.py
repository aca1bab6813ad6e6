"""The form of a log line is the one of the standard library's formatter."""

import logging
import sys

from govc.web.log_lines import LineFormatter, StderrHandler

PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")


def record(created, message="text %s", args=("x",), exc_info=None):
    made = logging.LogRecord("govc.access", logging.INFO, "", 0, message, args, exc_info)
    made.created, made.msecs = created, created % 1 * 1000
    return made


def test_lines_are_those_of_the_standard_formatter():
    ours = LineFormatter()
    for created in (1.0, 1.25, 1_800_000_000.999, 1_800_000_001.0, 1.5):
        assert ours.format(record(created)) == PLAIN.format(record(created))


def test_exceptions_keep_their_text():
    try:
        raise ValueError("a reason")
    except ValueError:
        made = record(5.0, exc_info=sys.exc_info())
    assert LineFormatter().format(made) == PLAIN.format(made)
    assert "ValueError: a reason" in PLAIN.format(made)


def test_lines_go_to_standard_error_through_the_filters(capfd):
    handler = StderrHandler()
    handler.setFormatter(LineFormatter())
    handler.addFilter(lambda made: "secret" not in made.getMessage())
    assert handler.handle(record(1.0, "caf\xe9 \udcff %s"))
    assert not handler.handle(record(1.0, "secret %s"))
    assert capfd.readouterr().err == PLAIN.format(record(1.0, "caf\xe9 \\udcff %s")) + "\n"


def test_a_line_that_cant_be_written_ends_nobody(monkeypatch, capfd):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    assert StderrHandler().handle(record(1.0, "%d"))
    assert "Logging error" in capfd.readouterr().err
