import threading
import time

import pytest

from govc.auth.gate import Busy, ExpiringCache, Flights, Gate, client_key

WAIT = 120.0


class Crowd:
    """Threads at a gate; each holds its place until it is told to leave."""

    def __init__(self, gate):
        self.gate = gate
        self.entered = []
        self.refused = []
        self.threads = []
        self._leave = threading.Semaphore(0)
        self._changed = threading.Condition()

    def come(self, client, name=None):
        """One more; returns when it is inside, waiting or refused."""
        before = self._state()
        thread = threading.Thread(target=self._visit, args=(client, name or client), daemon=True)
        self.threads.append(thread)
        thread.start()
        deadline = time.monotonic() + WAIT
        while self._state() == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _state(self):
        return len(self.entered), self.gate._waiting, len(self.refused)

    def _visit(self, client, name):
        try:
            with self.gate.enter(client):
                with self._changed:
                    self.entered.append(name)
                    self._changed.notify_all()
                assert self._leave.acquire(timeout=WAIT)
        except Busy as error:
            with self._changed:
                self.refused.append((name, str(error)))
                self._changed.notify_all()

    def let_one_out(self):
        """One goes; returns when the next one is inside."""
        with self._changed:
            count = len(self.entered)
        self._leave.release()
        self.wait_for(lambda: len(self.entered) > count)

    def wait_for(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, WAIT)

    def end(self):
        for _ in self.threads:
            self._leave.release()
        for thread in self.threads:
            thread.join(WAIT)
            assert not thread.is_alive()


@pytest.fixture
def make_crowd():
    crowds = []

    def make(**limits):
        crowd = Crowd(Gate(**{"running_max": 1, "waiting_max": 4, "wait_seconds": WAIT, **limits}))
        crowds.append(crowd)
        return crowd

    yield make
    for crowd in crowds:
        crowd.end()
        assert (crowd.gate._running, crowd.gate._waiting, len(crowd.gate._queues)) == (0, 0, 0)


def test_so_many_at_once_and_no_more(make_crowd):
    crowd = make_crowd(running_max=2)
    for name in "abc":
        crowd.come(name)
    assert sorted(crowd.entered) == ["a", "b"]
    crowd.let_one_out()
    assert "c" in crowd.entered


def test_clients_take_turns(make_crowd):
    crowd = make_crowd(waiting_max=8)
    crowd.come("eve", "eve0")
    for number in (1, 2, 3):
        crowd.come("eve", f"eve{number}")
    crowd.come("ann")
    crowd.come("bob")
    for _ in range(5):
        crowd.let_one_out()
    assert crowd.entered == ["eve0", "eve1", "ann", "bob", "eve2", "eve3"]


def test_who_fills_the_queue_makes_room_for_others(make_crowd):
    crowd = make_crowd(waiting_max=3)
    for number in range(4):
        crowd.come("eve", f"eve{number}")
    crowd.come("eve", "eve4")
    crowd.wait_for(lambda: crowd.refused == [("eve4", "too many wait")])
    crowd.come("ann")
    crowd.wait_for(lambda: len(crowd.refused) == 2)
    assert crowd.refused[1] == ("eve3", "too many wait")
    crowd.let_one_out()
    crowd.let_one_out()
    assert crowd.entered == ["eve0", "eve1", "ann"]


def test_waiting_ends(make_crowd):
    crowd = make_crowd(wait_seconds=0.05)
    crowd.come("a")
    crowd.come("b")
    crowd.wait_for(lambda: crowd.refused == [("b", "waited too long")])


def test_a_place_is_given_back_by_who_fails():
    gate = Gate(running_max=1, waiting_max=1, wait_seconds=0.1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.enter("a"):
            raise ZeroDivisionError
    assert gate._running == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (None, ""),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::5", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_what_counts_as_one_client(address, key):
    assert client_key(address) == key


def test_equal_work_is_done_once():
    flights = Flights(WAIT)
    started, go = threading.Event(), threading.Event()
    calls, results = [], []

    def compute():
        calls.append(1)
        started.set()
        assert go.wait(WAIT)
        return "done"

    threads = [threading.Thread(target=lambda: results.append(flights.run("k", compute))) for _ in range(5)]
    threads[0].start()
    assert started.wait(WAIT)
    for thread in threads[1:]:
        thread.start()
    assert flights.run("other", lambda: "other") == "other"
    go.set()
    for thread in threads:
        thread.join(WAIT)
    assert results == ["done"] * 5
    assert flights.run("k", lambda: "anew") == "anew"
    # Who came after the landing computed again; who came before did not.
    assert 1 <= len(calls) <= 5


def test_followers_share_the_result_of_the_first(monkeypatch):
    flights = Flights(WAIT)
    outcomes, has_joined = [], threading.Event()
    join = flights._join

    def watched_join(flight):
        has_joined.set()
        return join(flight)

    monkeypatch.setattr(flights, "_join", watched_join)

    def follow():
        try:
            outcomes.append(flights.run("k", lambda: "second"))
        except KeyError as error:
            outcomes.append(repr(error))

    def compute():
        thread = threading.Thread(target=follow)
        thread.start()
        assert has_joined.wait(WAIT)  # it can't compute, since we are under way
        threads.append(thread)
        raise KeyError("x")

    threads = []
    with pytest.raises(KeyError):
        flights.run("k", compute)
    threads[0].join(WAIT)
    assert outcomes == ["KeyError('x')"]


def test_a_follower_does_not_wait_for_ever():
    flights = Flights(0.05)
    caught = []

    def follow():
        try:
            flights.run("k", lambda: "second")
        except Busy as error:
            caught.append(str(error))

    def compute():
        thread = threading.Thread(target=follow)
        thread.start()
        thread.join(WAIT)
        return "done"

    assert flights.run("k", compute) == "done"
    assert caught == ["waited too long"]


def test_what_is_remembered_ends_and_is_bounded():
    now = [0.0]
    cache = ExpiringCache(2, lambda: now[0])
    cache.put("a", 1, 10)
    cache.put("b", 2, 20)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, 2, None)
    now[0] = 10.0
    assert (cache.get("a"), cache.get("b")) == (None, 2)
    cache.put("c", 3, 10)
    cache.put("d", 4, 10)
    assert (len(cache), cache.get("b"), cache.get("d")) == (2, None, 4)
    cache.put("e", 5, 0)
    assert cache.get("e") is None
