"""Properties of the token bucket: against one that counts tokens with fractions, and of the shared table."""

import errno
import multiprocessing
import os
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc import ofd_lock
from govc.errors import Refused
from govc.limits import buckets as buckets_module
from govc.limits.bucket import SECOND_NS, Rate, rate_per_minute, take
from govc.limits.buckets import Buckets
from govc.limits.rates import Rates

RATES = st.builds(Rate, interval_ns=st.integers(1, 10**10), burst=st.integers(1, 50))
STEPS = st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 20)), max_size=60)


class CountingBucket:
    """The textbook's bucket: tokens, refilled by the time that has passed; it may owe some."""

    def __init__(self, rate):
        self.rate = rate
        self.tokens = Fraction(rate.burst)
        self.at = 0

    def take(self, now, debt):
        self.tokens = min(Fraction(self.rate.burst), self.tokens + Fraction(now - self.at, self.rate.interval_ns))
        self.at = now
        if self.tokens - 1 < -debt:
            return False
        self.tokens -= 1
        return True


@given(RATES, STEPS)
def test_the_bucket_gives_what_one_that_counts_tokens_gives(rate, steps):
    other = CountingBucket(rate)
    full_at, now = 0, 0
    for passed, debt in steps:
        now += passed
        full_at, wait = take(full_at, now, rate, debt=debt)
        assert (wait == 0) == other.take(now, debt)


@given(RATES, STEPS)
def test_after_the_wait_that_is_told_there_is_a_token_and_not_before(rate, steps):
    full_at, now = 0, 0
    for passed, _ in steps:
        now += passed
        before = full_at
        full_at, wait = take(full_at, now, rate)
        if wait:
            assert full_at == before  # who has to wait has taken nothing
            assert take(full_at, now + wait, rate)[1] == 0
            assert take(full_at, now + wait - 1, rate)[1] == 1


@given(RATES, st.lists(st.integers(0, 10**9), max_size=80))
def test_no_span_of_time_gets_more_than_the_burst_and_what_came_in(rate, passed):
    full_at, now, taken = 0, 0, []
    for step in passed:
        now += step
        full_at, wait = take(full_at, now, rate)
        if not wait:
            taken.append(now)
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            span = taken[end] - taken[start]
            assert end - start + 1 <= rate.burst + span // rate.interval_ns + 1


@pytest.mark.parametrize(
    ("count", "seconds", "interval_ns", "burst"),
    [(60, 60, SECOND_NS, 60), (600, 1, SECOND_NS // 10, 10), (1, 1, 60 * SECOND_NS, 1)],
)
def test_rate_per_minute(count, seconds, interval_ns, burst):
    assert rate_per_minute(count, seconds) == Rate(interval_ns, burst)


class Clock:
    def __init__(self):
        self.now = 10**15

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


ONE_A_SECOND = Rate(SECOND_NS, 3)


@pytest.mark.parametrize("is_shared", [True, False])
def test_names_have_buckets_of_their_own(tmp_path, clock, is_shared):
    table = Buckets(str(tmp_path / "b") if is_shared else None, clock)
    assert [table.take("ann", ONE_A_SECOND) for _ in range(4)] == [0, 0, 0, 1.0]
    assert table.take("bob", ONE_A_SECOND) == 0
    clock.now += SECOND_NS
    assert [table.take("ann", ONE_A_SECOND) for _ in range(2)] == [0, 1.0]


def test_two_openings_share_the_buckets(tmp_path, clock):
    one, other = (Buckets(str(tmp_path / "b"), clock) for _ in range(2))
    assert [table.take("ann", ONE_A_SECOND) for table in (one, other, one, other)] == [0, 0, 0, 1.0]


def _take_many(path, count, pipe):
    table = Buckets(path, lambda: 10**15)
    pipe.send("ready")
    pipe.recv()
    taken = sum(table.take("ann", Rate(SECOND_NS, 500)) == 0 for _ in range(count))
    pipe.send((taken, table.unlocked_takes))


def test_processes_that_take_at_once_get_no_token_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_take_many, args=(str(tmp_path / "b"), 1000, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    assert [pipe.recv() for pipe in pipes] == ["ready", "ready"]
    for pipe in pipes:
        pipe.send("go")
    taken, unlocked = map(sum, zip(*(pipe.recv() for pipe in pipes), strict=True))
    for process in processes:
        process.join()
    # Nobody waits for a lock, so while a process is held up that has one the other takes from buckets of its own: for
    # nothing, all that it takes, if the machine is busy.
    assert 500 <= taken <= 500 + unlocked


def test_who_does_not_get_the_lock_undoes_nothing_that_others_take_meanwhile(tmp_path):
    """He wrote back what he had read before: all tokens that another had taken since came again."""
    file = str(tmp_path / "b")
    holder, other = Buckets(file, lambda: 10**15), Buckets(file, lambda: 10**15)
    others = []

    def held_up():
        """The clock is asked between reading a number and writing it: the lock is given back there, and used."""
        for set_number in range(buckets_module.SETS):
            ofd_lock.unlock(holder._descriptor, set_number)
        others.extend(other.take("ann", ONE_A_SECOND) for _ in range(2))
        return 10**15

    late = Buckets(file, held_up)
    assert other.take("ann", ONE_A_SECOND) == 0
    for set_number in range(buckets_module.SETS):
        assert ofd_lock.try_lock(holder._descriptor, set_number)
    assert late.take("ann", ONE_A_SECOND) == 0
    assert (late.unlocked_takes, others) == (1, [0, 0])
    assert [other.take("ann", ONE_A_SECOND) for _ in range(2)] == [1.0, 1.0]


def test_while_a_lock_is_held_for_long_a_worker_counts_for_itself(tmp_path, clock):
    table, holder = Buckets(str(tmp_path / "b"), clock), Buckets(str(tmp_path / "b"), clock)
    for set_number in range(buckets_module.SETS):
        assert ofd_lock.try_lock(holder._descriptor, set_number)
    assert [table.take("ann", ONE_A_SECOND) for _ in range(4)] == [0, 0, 0, 1.0]
    assert table.unlocked_takes == 4


def test_who_is_alone_is_never_without_the_lock(tmp_path, clock):
    table = Buckets(str(tmp_path / "b"), clock)
    for number in range(1000):
        table.take(f"name {number % 7}", ONE_A_SECOND)
    assert table.unlocked_takes == 0


def test_a_crowd_of_names_makes_nobody_wait_and_needs_no_more_memory(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(buckets_module, "SETS", 1)
    table = Buckets(str(tmp_path / "b"), clock)
    table.take("ann", ONE_A_SECOND)
    for number in range(1000):
        assert table.take(f"stranger {number}", ONE_A_SECOND) == 0
    assert (tmp_path / "b").stat().st_size == buckets_module.FILE_BYTES
    assert table.take("ann", ONE_A_SECOND) == 0


def test_who_owes_most_is_forgotten_last(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(buckets_module, "SETS", 1)
    table = Buckets(str(tmp_path / "b"), clock)
    assert [table.take("ann", ONE_A_SECOND) for _ in range(4)] == [0, 0, 0, 1.0]
    for number in range(100):
        table.take(f"stranger {number}", ONE_A_SECOND)
    assert table.take("ann", ONE_A_SECOND) == 1.0


@pytest.mark.parametrize("content", [b"", b"something else" * 100_000])
def test_a_file_that_is_none_of_ours_is_not_used(tmp_path, clock, content, caplog):
    (tmp_path / "b").write_bytes(content)
    table = Buckets(str(tmp_path / "b"), clock)
    assert "each worker counts the requests that it gets itself" in caplog.text
    assert [table.take("ann", ONE_A_SECOND) for _ in range(4)] == [0, 0, 0, 1.0]
    assert (tmp_path / "b").read_bytes() == content


class Refusals:
    def __init__(self):
        self.limits = []

    def refused(self, limit):
        self.limits.append(limit)


def test_a_conversation_that_was_let_in_is_not_broken_off(clock):
    watch = Refusals()
    rates = Rates(Buckets(None, clock), ONE_A_SECOND, Rate(SECOND_NS, 1), watch=watch)
    for _ in range(3):
        rates.check_address("10.0.0.1", is_first=True)
    with pytest.raises(Refused, match=r"your address\. Please try again in 2 seconds") as refused:
        rates.check_address("10.0.0.1", is_first=True)
    assert (refused.value.http_status, refused.value.retry_after_seconds) == (429, 2)
    for _ in range(3):
        rates.check_address("10.0.0.1", is_first=False)
    with pytest.raises(Refused):
        rates.check_address("10.0.0.1", is_first=False)
    rates.check_address("10.0.0.2", is_first=True)
    rates.check_user("10.0.0.1", is_first=True)  # a user of that name is somebody else
    with pytest.raises(Refused, match="in your name"):
        rates.check_user("10.0.0.1", is_first=True)
    assert watch.limits == ["rate_per_address", "rate_per_address", "rate_per_user"]


def test_what_is_not_limited_is_not_counted(clock):
    rates = Rates(Buckets(None, clock), None, None)
    for _ in range(1000):
        rates.check_address("10.0.0.1", is_first=True)
        rates.check_user("ann", is_first=True)


def test_where_the_disk_has_no_room_a_worker_counts_for_itself(tmp_path, monkeypatch, caplog):
    """A page of a hole that the disk has no room for is SIGBUS: it ended the worker that wrote to it."""

    def allocate(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    table = Buckets(str(tmp_path / "buckets"))
    assert "each worker counts the requests that it gets itself" in caplog.text
    assert table.take("somebody", rate_per_minute(60, 60)) == 0
    assert os.listdir(tmp_path) == []
