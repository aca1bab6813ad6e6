"""How long a lock is waited for: as git does, and, where many pushes queue for one lock, as long as the queue moves."""

import itertools
import os
from pathlib import Path

import pytest

from govc.refs.lock import LockFailed, LockFile, PlainModes, acquire_lock


class Others:
    """Stand-ins for other processes: the lock goes to the next of `count` of them every `hold_ms` of our pauses."""

    def __init__(self, path: Path, count: int | None, hold_ms: float) -> None:
        self.lock = Path(f"{path}.lock")
        self.left = itertools.repeat(None) if count is None else iter(range(count))
        self.hold_ms = hold_ms
        self.waited_ms = self.held_ms = 0.0
        self.longest_ms = 0.0
        self.pass_on()

    def pass_on(self) -> None:
        self.lock.unlink(missing_ok=True)
        if next(self.left, self) is not self:
            self.lock.touch()
            ns = 1_700_000_000_000_000_000 + int(self.waited_ms * 1_000_000)
            os.utime(self.lock, ns=(ns, ns))
        self.held_ms = 0.0

    def sleep(self, seconds: float) -> None:
        self.waited_ms += seconds * 1000
        self.held_ms += seconds * 1000
        self.longest_ms = max(self.longest_ms, seconds * 1000)
        if self.held_ms >= self.hold_ms:
            self.pass_on()

    def acquire(self, *, timeout_ms: int, queue_ms: int) -> LockFile:
        path = str(self.lock).removesuffix(".lock")
        return acquire_lock(path, "x", timeout_ms=timeout_ms, queue_ms=queue_ms, sleep=self.sleep, modes=PlainModes())


@pytest.mark.rows("RP-92")
def test_a_queue_that_moves_is_waited_for(tmp_path: Path) -> None:
    others = Others(tmp_path / "list", count=24, hold_ms=300)
    others.acquire(timeout_ms=1000, queue_ms=60_000).release()
    assert others.waited_ms >= 24 * 300
    assert others.longest_ms <= 25  # who has waited longest doesn't try least often


@pytest.mark.parametrize("queue_ms", [0, 60_000])
def test_who_stands_still_is_given_up_after_the_time_out(tmp_path: Path, queue_ms: int) -> None:
    others = Others(tmp_path / "list", count=1, hold_ms=float("inf"))
    with pytest.raises(LockFailed, match="File exists"):
        others.acquire(timeout_ms=1000, queue_ms=queue_ms)
    assert others.waited_ms == pytest.approx(1000)


@pytest.mark.rows("CF-58")
def test_a_time_out_that_is_set_is_for_all_of_the_waiting(tmp_path: Path) -> None:
    others = Others(tmp_path / "list", count=24, hold_ms=300)
    with pytest.raises(LockFailed):
        others.acquire(timeout_ms=1000, queue_ms=0)
    assert others.waited_ms == pytest.approx(1000)


def test_a_queue_without_end_is_left_some_day(tmp_path: Path) -> None:
    others = Others(tmp_path / "list", count=None, hold_ms=300)
    with pytest.raises(LockFailed):
        others.acquire(timeout_ms=1000, queue_ms=5000)
    assert 5000 <= others.waited_ms <= 6300
