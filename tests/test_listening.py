"""Where a server will listen, and what keeps it from a Unix socket."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from govc.cli.listening import find_socket_problem, listens_on_unix


@pytest.fixture
def place():
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="govc-") as folder:
        yield Path(folder) / "s"


@pytest.fixture
def listener(place):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
        made.listen(0)
        yield made


def test_who_listens_there_is_left_alone(place, listener):
    problem = f"the socket is in use: {place}"
    assert find_socket_problem(f"unix:{place}") == problem
    assert find_socket_problem(f"unix://{place}") == problem  # our first look still waits, and fills the queue
    listener.close()
    assert find_socket_problem(f"unix:{place}") == ""


def test_a_socket_of_another_kind_is_left_alone(place):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place))
        assert find_socket_problem(f"unix:{place}").startswith(f"the socket can't be looked at: {place}: ")


def test_where_nothing_is_a_socket_can_be(place):
    assert find_socket_problem(f"unix:{place}") == ""
    assert find_socket_problem("127.0.0.1:8000") == ""


def test_what_was_handed_over_wins(monkeypatch, place, listener):
    """By systemd, or by a master that is being replaced: then it is ours that is in use."""
    with socket.socket() as tcp:
        monkeypatch.setenv("GUNICORN_FD", f"{tcp.fileno()}")
        assert find_socket_problem(f"unix:{place}") == ""
        assert not listens_on_unix(f"unix:{place}")
        monkeypatch.setenv("GUNICORN_FD", f"{tcp.fileno()},{listener.fileno()}")
        assert listens_on_unix("127.0.0.1:8000")
        assert (tcp.getsockname(), listener.getsockname()) == (("0.0.0.0", 0), str(place))  # both still open
    monkeypatch.delenv("GUNICORN_FD")
    assert listens_on_unix(f"unix:{place}")
    assert not listens_on_unix("127.0.0.1:8000")


def test_what_was_handed_to_somebody_else_is_not_ours(monkeypatch, place, listener):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert find_socket_problem(f"unix:{place}") == f"the socket is in use: {place}"
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert find_socket_problem(f"unix:{place}") == ""
