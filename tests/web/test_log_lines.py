"""The form of a log line is the one of the standard library's formatter."""

import logging
import sys
import threading

import pytest

from govc.web import log_lines
from govc.web.json_lines import JsonFormatter
from govc.web.log_lines import AppendingHandler, LineFormatter, StderrHandler, find_plain
from govc.web.redaction import RedactingFilter

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


@pytest.fixture
def child():
    """A logger of ours below one with our handler."""
    manager = logging.Manager(logging.RootLogger(logging.WARNING))
    parent, made = manager.getLogger("test"), manager.getLogger("test.access")
    handler = StderrHandler()
    handler.setFormatter(LineFormatter())
    handler.addFilter(RedactingFilter())
    parent.handlers, parent.propagate, parent.level = [handler], False, logging.INFO
    return made


def test_a_line_without_a_record_is_the_one_that_a_record_makes(child, capfd, monkeypatch):
    for now in (1_800_000_000.25, 1_800_000_001.0, 1.5):
        monkeypatch.setattr(log_lines.time, "time", lambda now=now: now)
        find_plain(child).write_info("govc.access", "text caf\xe9 \udcff")
        line = capfd.readouterr().err
        assert StderrHandler.handle(child.parent.handlers[0], record(now, "text caf\xe9 \udcff", ()))
        assert capfd.readouterr().err == line != ""


def test_it_is_written_to_the_end(child, capfd, monkeypatch):
    write = log_lines.os.write
    monkeypatch.setattr(log_lines.os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    find_plain(child).write_info("govc.access", "x" * 100)
    assert capfd.readouterr().err.endswith(f" INFO govc.access {'x' * 100}\n")


def test_it_ends_nobody_either(child, capfd, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(log_lines, "_write", lambda text: 1 // 0)
    find_plain(child).write_info("govc.access", "text")
    assert "Logging error" in capfd.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda child: child.addHandler(logging.NullHandler()),
        lambda child: child.addFilter(lambda made: False),
        lambda child: child.parent.addHandler(logging.NullHandler()),
        lambda child: child.parent.handlers[0].addFilter(lambda made: False),
        lambda child: child.parent.handlers[0].setFormatter(JsonFormatter()),
        lambda child: child.parent.handlers[0].setLevel(logging.WARNING),
        lambda child: child.setLevel(logging.WARNING),
        lambda child: setattr(child, "propagate", False),
        lambda child: setattr(child, "disabled", True),
        lambda child: setattr(child.parent, "propagate", True),
        lambda child: setattr(child.parent, "handlers", [logging.NullHandler()]),
    ],
)
def test_whoever_wants_a_record_gets_one(child, change):
    assert find_plain(child) is child.parent.handlers[0]
    change(child)
    assert find_plain(child) is None


def test_a_forked_process_does_not_wait_for_who_held_the_log_file_before(tmp_path):
    handler = AppendingHandler(tmp_path / "log")
    holder = threading.Thread(target=handler.acquire)
    holder.start()
    holder.join()
    assert not handler._file_lock.acquire(blocking=False)
    handler._at_fork_reinit()  # which the standard library calls in the child
    assert handler._file_lock.acquire(blocking=False)
    handler.release()
    handler.close()
