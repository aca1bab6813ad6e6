"""How much may wait in the kernel: little, but for a few quick clients at a time."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from govc.web import depth as depth_room
from govc.web.depth import DEEP_BYTES_MAX, UNSENT_BYTES_MAX, Depth, bound_unsent, send_all

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system bounds nothing")


@pytest.fixture
def connect():
    """Makes connections whose listener was bounded."""
    opened = []
    with socket.socket() as listener:
        bound_unsent(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def make():
            opened.append(socket.create_connection(listener.getsockname()))
            opened.append(listener.accept()[0])
            return opened[-1]

        yield make
        for connection in opened:
            connection.close()


def bound_of(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


def no_wait(_connection):
    return None


def test_a_connection_is_deep_while_something_long_is_sent(connect, monkeypatch):
    monkeypatch.setattr(depth_room, "monotonic", lambda: 0.0)
    connection = connect()
    assert bound_of(connection) == UNSENT_BYTES_MAX
    with Depth(connection, no_wait) as depth:
        assert bound_of(connection) == DEEP_BYTES_MAX
        depth.wait()
        assert bound_of(connection) == DEEP_BYTES_MAX
    assert bound_of(connection) == UNSENT_BYTES_MAX


def test_a_unix_socket_has_a_larger_buffer_meanwhile():
    ours, theirs = socket.socketpair()

    def size():
        return ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    most = int(Path("/proc/sys/net/core/wmem_max").read_text())
    with ours, theirs:
        with Depth(ours, no_wait) as depth:
            assert size() == min(DEEP_BYTES_MAX, 2 * most)
            depth.wait()
        assert size() == min(UNSENT_BYTES_MAX, 2 * most)
        with Depth(ours, lambda _: time.sleep(depth_room.QUIET_SECONDS * 1.2)) as depth:
            depth.wait()
            assert size() == min(UNSENT_BYTES_MAX, 2 * most)  # who makes us wait isn't quick


@pytest.mark.parametrize("is_long", [False, True])
def test_what_is_long_and_in_memory_goes_through_a_deep_unix_socket(is_long):
    ours, theirs = socket.socketpair()

    def size():
        return ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    most = int(Path("/proc/sys/net/core/wmem_max").read_text())
    before, deep = size(), min(DEEP_BYTES_MAX, 2 * most)
    left = 2 * deep if is_long else UNSENT_BYTES_MAX
    with ours, theirs:
        sender = threading.Thread(target=send_all, args=(ours, bytes(left)))
        sender.start()
        left -= len(theirs.recv(1))
        assert size() == (deep if is_long else before)
        while left:
            left -= len(theirs.recv(1 << 20))
        sender.join()
        assert size() == (min(UNSENT_BYTES_MAX, 2 * most) if is_long else before)


def test_only_so_many_are(connect, monkeypatch):
    monkeypatch.setattr(depth_room, "DEEP_MAX", 1)
    one, other = connect(), connect()
    with Depth(one, no_wait):
        with Depth(other, no_wait):
            assert (bound_of(one), bound_of(other)) == (DEEP_BYTES_MAX, UNSENT_BYTES_MAX)
        assert bound_of(one) == DEEP_BYTES_MAX
    with Depth(other, no_wait):
        assert bound_of(other) == DEEP_BYTES_MAX


def test_who_lets_us_wait_is_so_no_more_and_gives_the_place_back_when_little_is_left(connect, monkeypatch):
    monkeypatch.setattr(depth_room, "DEEP_MAX", 1)
    now = [0.0]
    monkeypatch.setattr(depth_room, "monotonic", lambda: now[0])
    slow, other = connect(), connect()
    seen = []

    def wait(_connection):
        seen.append((bound_of(slow), len(depth_room._deep)))
        now[0] += depth_room.QUIET_SECONDS + 1

    with Depth(slow, wait) as depth:
        depth.wait()
        assert seen == [(DEEP_BYTES_MAX, 1), (UNSENT_BYTES_MAX, 1)]
        with Depth(other, no_wait):
            assert bound_of(other) == DEEP_BYTES_MAX
        depth.wait()
        assert seen[2:] == [(UNSENT_BYTES_MAX, 0)]
    assert bound_of(slow) == UNSENT_BYTES_MAX


def test_an_error_gives_the_place_back(connect):
    def wait(_connection):
        raise ConnectionResetError

    connection = connect()
    depth = Depth(connection, wait)
    with pytest.raises(ConnectionResetError), depth:
        depth.wait()
    assert not depth_room._deep


def test_what_is_no_such_socket_stays_as_it_is():
    other = SimpleNamespace(family=socket.AF_UNSPEC)
    assert not bound_unsent(other)
    with Depth(other, no_wait) as depth:
        depth.wait()
    assert not depth_room._deep
