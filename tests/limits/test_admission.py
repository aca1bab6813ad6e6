"""The door and the queue before it, with a clock that stands until it is moved. No test here waits for time to pass."""

import contextlib
import random
import tempfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from govc.errors import ClientGone, Refused
from govc.limits.admission import Admission, AdmissionLimits, Wish
from govc.limits.places import Places
from govc.limits.pressure import Pressure
from govc.limits.shedding import Shedder, Thresholds


class Watch:
    """Counts what it is told."""

    def __init__(self):
        self.refusals = []
        self.queue = 0
        self.waits = []
        self.operations = {}
        self.pressures = {}

    def refused(self, limit):
        self.refusals.append(limit)

    def waiting(self, change):
        self.queue += change

    def waited(self, seconds):
        self.waits.append(seconds)

    def working(self, operation, change):
        self.operations[operation] = self.operations.get(operation, 0) + change

    def pressure(self, resource, percent):
        self.pressures[resource] = percent


class World:
    """One server of some workers, each with its door; time is `now`."""

    def __init__(self, path=None, *, workers=1, read=None, thresholds=None, **limits):
        self.now = 1000.0
        self.watch = Watch()
        self.doors = [
            Admission(
                AdmissionLimits(**limits),
                Places(path),
                Shedder(read, thresholds, watch=self.watch, clock=self.clock) if read is not None else None,
                watch=self.watch,
                clock=self.clock,
                start_thread=lambda _look: None,
            )
            for _ in range(workers)
        ]

    def clock(self):
        return self.now

    def come(self, client="ann", repository="/a", operation="clone", worker=0, is_gone=lambda: False):
        return self.doors[worker].line_up(Wish(operation, repository, client, is_gone))

    def serve(self, worker=0):
        self.doors[worker].serve()


def states(*turns):
    return [turn.wait(0) for turn in turns]


def test_there_is_a_place_at_once():
    world = World(operations_max=2)
    turn = world.come()
    assert turn.wait(0)
    assert world.watch.operations == {"clone": 1}
    turn.leave()
    turn.leave()
    assert world.watch.operations == {"clone": 0}


def test_who_finds_no_place_waits_for_one():
    world = World(operations_max=1, queued_max=2)
    first, second, third = (world.come(name) for name in ("ann", "bob", "eve"))
    assert states(first, second, third) == [True, False, False]
    assert world.watch.queue == 2
    world.now += 3
    first.leave()
    assert states(second, third) == [True, False]
    second.leave()
    assert states(third) == [True]
    assert world.watch.waits == [3, 3]
    third.leave()
    assert (world.watch.queue, world.watch.refusals) == (0, [])


def test_the_queue_is_bounded():
    world = World(operations_max=1, queued_max=1, queue_seconds=30)
    world.come("ann")
    world.come("bob")
    with pytest.raises(Refused, match="as much to do as it can take on") as refused:
        world.come("eve")
    assert (refused.value.http_status, refused.value.retry_after_seconds) == (503, 30)
    assert world.watch.refusals == ["operations_max"]


def test_without_a_queue_nobody_waits():
    world = World(operations_max=1)
    world.come("ann")
    with pytest.raises(Refused):
        world.come("bob")


def test_who_has_waited_too_long_is_turned_away():
    world = World(operations_max=1, queued_max=4, queue_seconds=30)
    first, second = world.come("ann"), world.come("bob")
    world.now += 29.9
    world.serve()
    assert not second.wait(0)
    world.now += 0.1
    world.serve()
    with pytest.raises(Refused):
        second.wait(0)
    second.leave()
    assert (world.watch.queue, world.watch.refusals) == (0, ["operations_max"])
    first.leave()
    assert world.come("eve").wait(0)


def test_who_hangs_up_while_he_waits_gives_his_place_in_the_queue_back():
    world = World(operations_max=1, queued_max=1)
    world.come("ann")
    second = world.come("bob", is_gone=lambda: True)
    world.now += 0.9
    world.serve()
    assert not second.wait(0)  # so soon he might only have closed his sending side
    world.now += 1
    world.serve()
    with pytest.raises(ClientGone):
        second.wait(0)
    second.leave()
    assert world.watch.queue == 0
    world.come("eve")


def test_who_leaves_the_queue_by_himself_gives_his_place_back():
    world = World(operations_max=1, queued_max=1)
    first, second = world.come("ann"), world.come("bob")
    second.leave()
    third = world.come("eve")
    first.leave()
    assert states(third) == [True]


def test_who_was_let_in_and_never_looked_gives_his_place_back():
    world = World(operations_max=1, queued_max=1)
    first, second = world.come("ann"), world.come("bob")
    first.leave()
    second.leave()  # it was his turn, and he has not asked since
    assert world.come("eve").wait(0)


def test_clients_that_wait_are_let_in_by_turns():
    world = World(operations_max=1, queued_max=100)
    first = world.come("zoe")
    crowd = [world.come("ann") for _ in range(5)]
    single = world.come("bob")
    first.leave()
    assert states(*crowd, single) == [True, False, False, False, False, False]
    crowd[0].leave()
    assert states(*crowd[1:], single) == [False, False, False, False, True]
    single.leave()
    assert states(*crowd[1:]) == [True, False, False, False]


def test_one_client_never_has_all_places_nor_the_whole_queue():
    world = World(operations_max=4, queued_max=4)
    ann = [world.come("ann") for _ in range(6)]
    assert states(*ann) == [True] * 3 + [False] * 3
    with pytest.raises(Refused, match="You have as many operations under way"):
        world.come("ann")
    assert world.watch.refusals == ["operations_per_client_max"]
    assert world.come("bob").wait(0)
    assert not world.come("bob").wait(0)


def test_one_client_never_has_all_places_of_a_repository():
    world = World(per_repository_max=4)
    assert all(world.come("ann", "/a").wait(0) for _ in range(3))
    with pytest.raises(Refused, match="You have as many"):
        world.come("ann", "/a")
    assert world.come("bob", "/a").wait(0)
    assert world.come("ann", "/b").wait(0)


def test_the_share_of_one_client_may_be_set():
    world = World(operations_max=4, per_client_max=1)
    assert world.come("ann").wait(0)
    with pytest.raises(Refused):
        world.come("ann")
    assert world.come("bob").wait(0)


def test_a_busy_repository_keeps_back_only_its_own():
    world = World(operations_max=8, per_repository_max=1, queued_max=8)
    first = world.come("ann", "/busy")
    waiting = world.come("ann", "/busy")
    other = world.come("ann", "/idle")
    assert states(first, waiting, other) == [True, False, True]
    first.leave()
    assert states(waiting) == [True]


def test_a_repository_that_is_full_says_so():
    world = World(per_repository_max=1)
    world.come("ann", "/busy")
    with pytest.raises(Refused, match="This repository"):
        world.come("bob", "/busy")
    assert world.watch.refusals == ["operations_per_repository_max"]
    assert world.come("bob", "/idle").wait(0)


def test_who_is_not_let_in_holds_nothing():
    world = World(operations_max=1, per_repository_max=1, per_client_max=1, queued_max=1)
    first = world.come("ann", "/a")
    second = world.come("bob", "/b")
    second.leave()
    first.leave()
    assert world.come("bob", "/b").wait(0)


def test_workers_share_the_places_and_the_queue(tmp_path):
    world = World(str(tmp_path / "places"), workers=2, operations_max=2, per_client_max=2, queued_max=2)
    first, second = world.come("ann", worker=0), world.come("ann", worker=1)
    third, fourth = world.come("bob", worker=0), world.come("eve", worker=1)
    assert states(first, second, third, fourth) == [True, True, False, False]
    for worker in range(2):
        with pytest.raises(Refused):
            world.come("zoe", worker=worker)
    first.leave()
    assert states(third, fourth) == [False, False]  # the lot decides: who looks first
    world.serve(1)
    assert states(third, fourth) == [False, True]
    second.leave()
    world.serve(0)
    assert states(third) == [True]


def test_who_arrives_goes_past_nobody_who_waits_in_another_worker(tmp_path):
    world = World(str(tmp_path / "places"), workers=2, operations_max=1, queued_max=4)
    first = world.come("ann", worker=0)
    waiting = world.come("bob", worker=0)
    first.leave()
    waiting.leave()
    first, waiting = world.come("ann", worker=1), world.come("bob", worker=0)
    first.leave()  # the place is free, and worker 0 has not looked yet
    late = world.come("eve", worker=1)
    assert states(waiting, late) == [False, False]
    world.serve(0)
    assert states(waiting, late) == [True, False]


def test_nothing_is_counted_where_nothing_is_limited():
    world = World()
    assert all(world.come().wait(0) for _ in range(1000))


def test_a_thread_that_can_not_be_started_leaves_nobody_behind():
    def fail(_look):
        raise RuntimeError("can't start new thread")

    watch = Watch()
    door = Admission(AdmissionLimits(operations_max=1, queued_max=1), Places(None), watch=watch, start_thread=fail)
    door.line_up(Wish("clone", "/a", "ann"))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            door.line_up(Wish("clone", "/a", "bob"))
    assert watch.queue == 0


def test_the_thread_serves_who_waits_and_ends():
    """With the real clock and thread: it is waited for what must happen, however long that takes."""
    door = Admission(AdmissionLimits(operations_max=1, queued_max=8, queue_seconds=600), Places(None))
    first, second = (door.line_up(Wish("clone", "/a", name)) for name in ("ann", "bob"))
    assert not second.wait(0)
    threads = [thread for thread in threading.enumerate() if thread.name.endswith("(_look)")]
    assert threads
    first.leave()
    assert second.wait(60)
    second.leave()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_the_thread_lets_nobody_wait_for_ever_when_it_fails(caplog):
    def fail():
        raise OSError("gone")

    door = Admission(AdmissionLimits(operations_max=1, queued_max=8, queue_seconds=600), Places(None))
    first = door.line_up(Wish("clone", "/a", "ann"))
    second = door.line_up(Wish("clone", "/a", "bob", fail))
    with pytest.raises(OSError, match="gone"):
        while not second.wait(60):
            continue
    second.leave()
    first.leave()
    assert "the queue could not be served" in caplog.text


# Shedding


def test_the_expensive_is_refused_first():
    now = {"cpu": 0.0}
    world = World(read=lambda: Pressure(now["cpu"], 0.0, 0.0), thresholds=Thresholds(cpu=60))

    def let_in():
        world.now += 1
        accepted = []
        for operation in ("clone", "archive", "fetch", "push"):
            try:
                world.come(operation=operation).leave()
                accepted.append(operation)
            except Refused as error:
                assert error.limit == "shed_cpu_percent"
                assert "short of processor time" in error.public_text
        return accepted

    assert let_in() == ["clone", "archive", "fetch", "push"]
    now["cpu"] = 60.0
    assert let_in() == ["fetch", "push"]
    now["cpu"] = 80.0
    assert let_in() == []
    now["cpu"] = 59.0
    assert let_in() == ["clone", "archive", "fetch", "push"]
    assert world.watch.pressures["cpu"] == 59.0


def test_pressure_is_read_once_a_second():
    reads = []

    def read():
        reads.append(1)
        return Pressure(0.0, 0.0, 0.0)

    world = World(read=read, thresholds=Thresholds(memory=90))
    for _ in range(10):
        world.come().leave()
        world.now += 0.25
    assert len(reads) == 3


# Everything at once


@settings(stateful_step_count=50, max_examples=50)
class Crowd(RuleBasedStateMachine):
    """Clients come, hang up, leave and lose patience at two workers, and one worker may be killed."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.limits = AdmissionLimits(operations_max=4, per_repository_max=2, queued_max=4, queue_seconds=10)
        self.now = 0.0
        self.watch = Watch()
        self.turns = []
        self.doors = [self.make_door(), self.make_door()]

    def teardown(self):
        self.folder.cleanup()

    def make_door(self):
        return Admission(
            self.limits,
            Places(f"{self.folder.name}/places"),
            watch=self.watch,
            clock=lambda: self.now,
            start_thread=lambda _look: None,
        )

    @rule(worker=st.integers(0, 1), client=st.sampled_from("abc"), repository=st.sampled_from("xyz"))
    def come(self, worker, client, repository):
        with contextlib.suppress(Refused):
            self.turns.append((worker, self.doors[worker].line_up(Wish("clone", repository, client))))

    @precondition(lambda self: self.turns)
    @rule(number=st.integers(0, 100))
    def leave(self, number):
        self.turns.pop(number % len(self.turns))[1].leave()

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds):
        self.now += seconds

    @rule(worker=st.integers(0, 1))
    def serve(self, worker):
        self.doors[worker].serve()

    @rule(worker=st.integers(0, 1))
    def kill_worker(self, worker):
        """Its descriptors are closed, which is all that the kernel does for us."""
        for _, turn in (item for item in self.turns if item[0] == worker):
            turn.wish = turn._admission = None
            turn.places.clear()
            turn.in_queue.clear()
        self.turns = [item for item in self.turns if item[0] != worker]
        self.doors[worker] = None
        self.doors[worker] = self.make_door()

    def working(self):
        return [turn for _, turn in self.turns if turn.admitted]

    @invariant()
    def no_limit_is_exceeded(self):
        working = self.working()
        assert len(working) <= self.limits.operations_max
        for name in "xyz":
            assert sum(turn.wish.repository == name for turn in working) <= self.limits.per_repository_max
        for name in "abc":
            mine = [turn for turn in working if turn.wish.client == name]
            assert len(mine) <= self.limits.client_share
            for repository in "xyz":
                count = sum(turn.wish.repository == repository for turn in mine)
                assert count <= self.limits.client_share_of_repository
        waiting = [turn for _, turn in self.turns if not turn.admitted and turn.refusal is None]
        assert len(waiting) <= self.limits.queued_max

    @invariant()
    def nobody_waits_for_what_is_free_once_all_have_looked(self):
        order = [0, 1]
        random.Random(len(self.turns)).shuffle(order)
        for worker in order:
            self.doors[worker].serve()
        working = self.working()
        for _, turn in self.turns:
            if turn.admitted or turn.refusal is not None:
                continue
            same_repository = sum(other.wish.repository == turn.wish.repository for other in working)
            same_client = sum(other.wish.client == turn.wish.client for other in working)
            same_both = sum(other.wish[1:3] == turn.wish[1:3] for other in working)
            assert (
                len(working) == self.limits.operations_max
                or same_repository == self.limits.per_repository_max
                or same_client == self.limits.client_share
                or same_both == self.limits.client_share_of_repository
            )


TestCrowd = Crowd.TestCase


@given(st.integers(0, 200))
def test_the_share_is_at_least_one_and_never_all_of_many(operations_max):
    share = AdmissionLimits(operations_max=operations_max).client_share
    if operations_max == 0:
        assert share == 0
    else:
        assert 1 <= share <= operations_max
        assert share < operations_max or operations_max == 1
