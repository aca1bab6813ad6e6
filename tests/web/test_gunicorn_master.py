"""What the master does about its own socket, without workers."""

import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn import arbiter as gunicorn_arbiter
from gunicorn import sock as gunicorn_sock

from govc.web.gunicorn_master import STOPPING, GovcArbiter


@pytest.fixture
def place():
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="govc-") as folder:
        yield Path(folder) / "folder" / "s"


@pytest.fixture
def master(monkeypatch, place):
    """One that makes its sockets as gunicorn does, and has no workers."""
    warned = []
    log = SimpleNamespace(
        warning=lambda *words: warned.append(words[0] % words[1:]), error=lambda *_: None, debug=lambda *_: None
    )
    made = object.__new__(GovcArbiter)
    made.cfg = SimpleNamespace(
        address=[str(place)], umask=0o117, uid=os.getuid(), gid=os.getgid(), backlog=5, reuse_port=False, certfile=None,
        keyfile=None, graceful_timeout=0,
    )  # fmt: skip
    made.log, made.warned = log, warned
    made._socket_files = {}
    made.systemd, made.reexec_pid, made.master_pid, made.dirty_arbiter_pid, made.WORKERS = False, 0, 0, 0, {}

    def start(self):
        self.LISTENERS = gunicorn_sock.create_sockets(self.cfg, self.log)

    monkeypatch.setattr(gunicorn_arbiter.Arbiter, "start", start)
    yield made
    made.stop()
    STOPPING[0] = 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gunicorn drops the first try's socket
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_workers_have_the_umask_of_the_process_though_a_socket_was_made_at_the_second_try(
    master, place, monkeypatch, umask
):
    before = os.umask(umask)
    try:
        monkeypatch.setattr(gunicorn_sock, "time", SimpleNamespace(sleep=lambda _: place.parent.mkdir()))
        master.start()
        assert place.is_socket()
        assert oct(os.umask(umask)) == oct(umask)
    finally:
        os.umask(before)


def test_a_stop_removes_the_socket(master, place):
    place.parent.mkdir()
    master.start()
    (listener,) = master.LISTENERS
    master.stop()
    assert not place.exists()
    assert listener.sock is None
    assert STOPPING[0]


def test_a_stop_leaves_the_socket_of_another(master, place):
    place.parent.mkdir()
    master.start()
    place.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        master.stop()
        assert place.is_socket()


def test_a_stop_without_its_socket_is_one(master, place):
    place.parent.mkdir()
    master.start()
    place.unlink()
    master.stop()
    assert (master.LISTENERS, master.warned) == ([], [])


def test_who_is_not_the_only_master_leaves_the_socket(master, place):
    place.parent.mkdir()
    master.start()
    master.reexec_pid = 1
    master.stop()
    assert place.is_socket()


def test_a_socket_that_may_not_be_removed_stays_and_the_stop_goes_on(master, place, monkeypatch):
    place.parent.mkdir()
    master.start()

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        master.stop()
    assert master.warned == [f"{place} stays: Permission denied"]
    assert master.LISTENERS == []
