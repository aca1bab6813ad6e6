"""Ending slow clients: over real TCP connections, with looks that the test does itself, so no time passes."""

import contextlib
import socket

import gevent.socket
import pytest

from govc.limits.pace import PaceLimits
from govc.web.counted_socket import CountedSocket
from govc.web.depth import DEEP_BYTES_MAX, bound_unsent
from govc.web.slow_clients import SlowClients, has_hung_up, moved_bytes

LIMITS = PaceLimits(bytes_per_second=10, window_seconds=100, idle_seconds=3)


class Refusals:
    def __init__(self):
        self.limits = []

    def refused(self, limit):
        self.limits.append(limit)


@pytest.fixture
def pair():
    """Our side of a connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, client:
        client.settimeout(60)
        ours.settimeout(60)
        yield ours, client


@pytest.fixture
def watch():
    return Refusals()


@pytest.fixture
def slow(watch):
    return SlowClients(LIMITS, watch=watch, start_thread=lambda _look: None)


def test_the_kernel_counts_what_comes_and_goes(pair):
    ours, client = pair
    before = moved_bytes(ours)
    client.sendall(b"x" * 1000)
    assert len(ours.recv(1000, socket.MSG_WAITALL)) == 1000
    assert moved_bytes(ours) == before + 1000
    ours.sendall(b"y" * 500)
    assert len(client.recv(500, socket.MSG_WAITALL)) == 500
    client.sendall(b"z")  # behind its acknowledgment of the 500
    assert ours.recv(1) == b"z"
    assert moved_bytes(ours) == before + 1501


def test_a_unix_socket_that_counts_nothing_is_not_watched(slow):
    ours, client = socket.socketpair()
    with ours, client:
        assert slow.begin(ours) is None
    assert slow.begin(None) is None


@pytest.fixture
def counted():
    """Our side of a Unix socket, which counts, and the proxy's."""
    ours, proxy = gevent.socket.socketpair()
    ours = CountedSocket.of(ours)
    ours.settimeout(60)
    with ours, proxy:
        proxy.settimeout(60)
        yield ours, proxy


def test_a_unix_socket_counts_what_it_moves(counted):
    ours, proxy = counted
    proxy.sendall(b"x" * 1000)
    assert ours.recv(600) == b"x" * 600
    assert ours.recv_into(bytearray(400)) == 400
    assert moved_bytes(ours) == 1000
    large = b"y" * (4 << 20)
    reading = gevent.spawn(lambda: sum(len(proxy.recv(1 << 16)) for _ in range(8)))
    sending = gevent.spawn(ours.sendall, large)
    reading.join()
    taken = moved_bytes(ours) - 1000
    assert 0 < taken < len(large)  # while it waits, as much as was taken so far
    proxy.close()
    sending.join()
    assert isinstance(sending.exception, OSError)


def fill(ours, piece_bytes=4096):
    """Send until the kernel takes no more; how much it took."""
    ours.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += ours.send(b"y" * piece_bytes)
    return taken


def test_what_waits_in_the_kernel_has_not_moved(counted):
    ours, proxy = counted
    bound_unsent(ours, DEEP_BYTES_MAX)
    before = moved_bytes(ours)
    taken = fill(ours, 65536)
    assert moved_bytes(ours) == before
    half = taken // 2
    while half > 0:
        half -= len(proxy.recv(half))
    assert 0.8 * taken < 2 * (moved_bytes(ours) - before) < 1.6 * taken  # the kernel's memory is more than the bytes
    ours.close()
    seen = moved_bytes(ours)
    assert moved_bytes(ours) == seen


def test_who_reads_slowly_out_of_a_deep_buffer_is_not_silent(counted, slow, watch):
    ours, proxy = counted
    bound_unsent(ours, DEEP_BYTES_MAX)
    waits = slow.begin(ours)
    waits.begins()
    assert fill(ours) > 8 * 8192
    for _ in range(8):
        proxy.recv(8192)
        slow.look(2.0)
        assert not waits.broken_limit
    for _ in range(2):
        slow.look(2.0)
    assert watch.limits == ["client_idle_seconds"]


def test_who_is_silent_behind_a_proxy_is_ended(counted, slow, watch):
    ours, proxy = counted
    waits = slow.begin(ours)
    waits.begins()
    for _ in range(4):
        proxy.sendall(b"x")
        assert ours.recv(1) == b"x"
        slow.look(2.0)
        assert not waits.broken_limit
    slow.look(3.0)
    assert watch.limits == ["client_idle_seconds"]
    assert ours.recv(1) == b""  # whoever waits is woken
    assert proxy.recv(1) == b""


def test_a_proxy_that_hangs_up_is_known_though_it_has_sent_more_than_was_read(counted):
    ours, proxy = counted
    proxy.sendall(b"x" * 1000)
    assert not has_hung_up(ours)
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while ours.send(b"y" * 4096):
            continue
    assert not has_hung_up(ours)  # though there is no room
    proxy.close()
    assert has_hung_up(ours)
    assert len(ours.recv(1000)) == 1000
    ours.close()
    assert not has_hung_up(ours)


def test_nobody_is_watched_without_limits(pair):
    assert SlowClients(None).begin(pair[0]) is None


def test_who_is_silent_while_we_wait_is_ended(pair, slow, watch):
    ours, client = pair
    waits = slow.begin(ours)
    waits.begins()
    for _ in range(2):
        slow.look(1.0)
    assert not waits.broken_limit
    slow.look(1.0)
    assert (waits.broken_limit, watch.limits) == ("client_idle_seconds", ["client_idle_seconds"])
    assert ours.recv(1) == b""  # whoever waits is woken
    with pytest.raises(OSError):
        ours.sendall(b"x")
    slow.look(100.0)
    assert watch.limits == ["client_idle_seconds"]
    ours.close()
    with contextlib.suppress(ConnectionError):  # an end or a reset: either ends the client's waiting
        assert client.recv(1) == b""


def test_who_is_silent_while_we_work_is_left_alone(pair, slow, watch):
    waits = slow.begin(pair[0])
    waits.begins()
    slow.look(2.0)
    waits.ends()
    slow.look(1000.0)
    assert watch.limits == []
    # Nothing has moved since, so it goes on where it stopped.
    waits.begins()
    slow.look(1.0)
    assert watch.limits == ["client_idle_seconds"]


def test_a_connection_is_watched_as_long_as_whoever_began_it_wants(pair, slow):
    ours, _ = pair
    lasting = slow.begin(ours, is_lasting=True)
    assert slow.begin(ours) is lasting
    lasting.begins()
    lasting.end_request()
    assert slow.begin(ours) is lasting
    slow.end(lasting)
    slow.end(None)
    passing = slow.begin(ours)
    assert passing is not lasting
    passing.begins()
    passing.end_request()
    slow.look(1000.0)
    assert not passing.broken_limit
    assert slow.begin(ours) is not passing


def test_who_hangs_up_is_known_though_he_has_sent_more_than_was_read(pair):
    ours, client = pair
    client.sendall(b"x" * 1000)
    assert not has_hung_up(ours)
    client.close()
    assert ours.recv(1000, socket.MSG_WAITALL) and ours.recv(1) == b""
    assert has_hung_up(ours)
    ours.close()
    assert not has_hung_up(ours)


def test_a_closed_connection_is_no_error(pair, slow, watch):
    ours, _ = pair
    waits = slow.begin(ours)
    waits.begins()
    ours.close()
    slow.look(1000.0)
    assert watch.limits == []


def test_somebody_looks_once_there_is_somebody_to_look_at(pair):
    started = []
    slow = SlowClients(LIMITS, start_thread=started.append)
    waits = slow.begin(pair[0])
    assert started == []
    for _ in range(3):
        waits.begins()
        waits.ends()
    assert len(started) == 1
