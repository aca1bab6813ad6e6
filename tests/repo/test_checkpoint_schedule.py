"""When a worker looks at its logs, and what it lets go of then."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import ref

from govc.repo.checkpoint_schedule import CheckpointSchedule
from govc.repo.runtime import PLAIN
from tests.repo.logged import ZERO, Logged


def open_segments(folder: Path) -> int:
    """How many descriptors of segments below a folder, with a name or without, this process has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(path.startswith(f"{folder}/") and "/govc/log/" in path for path in found)


def test_a_worker_keeps_no_retired_segment_open(tmp_path: Path) -> None:
    """Whichever worker's checkpoint retired it; one that is in use stays, and is looked at again later."""
    world = Logged(tmp_path)
    first, second = world.commit(), world.commit()
    waiting: list[Callable[[], None]] = []
    runtime = replace(PLAIN, later=lambda _seconds, call: waiting.append(call))
    schedules = [CheckpointSchedule(runtime, None, bytes_min=1 << 30, seconds=300, archive_dir="") for _ in range(2)]
    repositories = [world.repository, world._open()]
    try:
        for number, repository in enumerate(repositories):
            world.repository = repository
            world.push((b"refs/heads/%d" % number, ZERO, first))
            schedules[number].note_push(repository, world.options)
        assert (len(waiting), open_segments(tmp_path)) == (2, 4)
        for call in (waiting.pop(0), waiting.pop(0)):
            call()
        assert (waiting, open_segments(tmp_path)) == ([], 0)
        for number, repository in enumerate(repositories):
            world.repository = repository
            world.push((b"refs/heads/%d" % number, first, second))
        schedules[0].note_push(repositories[0], world.options)
        repositories[1].close()
        schedules[1]._let_go(ref(repositories[1]))
        assert len(waiting) == 1, "who has no log open looks at none"
        waiting.pop()()
        assert (waiting, open_segments(tmp_path)) == ([], 0)
    finally:
        for repository in repositories:
            repository.close()


def test_a_segment_that_is_in_use_is_looked_at_again(tmp_path: Path) -> None:
    world = Logged(tmp_path)
    waiting: list[Callable[[], None]] = []
    runtime = replace(PLAIN, later=lambda _seconds, call: waiting.append(call))
    schedule = CheckpointSchedule(runtime, None, bytes_min=1 << 30, seconds=300, archive_dir="")
    try:
        world.push((b"refs/heads/a", ZERO, world.commit()))
        schedule._let_go(ref(world.repository))
        assert (len(waiting), open_segments(tmp_path)) == (1, 2)
        schedule.note_push(world.repository, world.options)  # a checkpoint that is planned looks, too
        waiting.pop(0)()
        assert len(waiting) == 1
        waiting.pop()()
        assert (waiting, open_segments(tmp_path)) == ([], 0)
    finally:
        world.repository.close()


def test_a_repository_that_is_opened_again_is_looked_at_and_the_dropped_one_is_not_kept(tmp_path: Path) -> None:
    world = Logged(tmp_path)
    first, second = world.commit(), world.commit()
    waiting: list[Callable[[], None]] = []
    runtime = replace(PLAIN, later=lambda _seconds, call: waiting.append(call))
    schedule = CheckpointSchedule(runtime, None, bytes_min=1 << 30, seconds=300, archive_dir="")
    world.push((b"refs/heads/a", ZERO, first))
    schedule.note_push(world.repository, world.options)
    dropped = ref(world.repository)
    world.repository = world._open()
    gc.collect()
    assert dropped() is None
    try:
        world.push((b"refs/heads/a", first, second))
        schedule.note_push(world.repository, world.options)
        assert (len(waiting), open_segments(tmp_path)) == (1, 2)
        waiting.pop()()
        assert (waiting, open_segments(tmp_path)) == ([], 0)
    finally:
        world.repository.close()
