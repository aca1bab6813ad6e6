import contextlib
import fcntl
import os

import pytest

from govc.refs.plan import RefUpdate
from govc.repo import repository as repository_room
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.repo.late_hooks import LateHooksTask, has_late_hooks, late_hooks_job
from govc.repo.open_journal import open_journal
from govc.wal import reader as reader_room

from .logged import ZERO, Logged, git, run_and_die
from .test_recovery import DIE

MAIN = b"refs/heads/main"


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


@pytest.fixture
def told(world, tmp_path):
    """The file in which the hooks write down what they are told."""
    path = tmp_path / "told"
    for name, command in (("post-receive", "cat"), ("post-update", 'echo "$@"')):
        hook = f"{world.path}/hooks/{name}"
        with open(hook, "w") as file:
            file.write(f"#!/bin/sh\n(echo {name} $REMOTE_USER; {command}) >>{path}\n")
        os.chmod(hook, 0o755)
    return path


def die_before_hooks(world, first, second, *, where="nothing", names=(MAIN,)):
    """A push by another process, which dies between its acknowledgement and its hooks, or where `where` is renamed."""
    world.repository.close()
    code = DIE.replace('message=b"push")', 'message=b"push", actor="ann", has_late_hooks=True)').replace(
        "os._exit(0)", "os._exit(9)"
    )
    run_and_die(code, world.path, where, *(f"{name.decode()},{first.hex()},{second.hex()}" for name in names))


def run(world):
    return late_hooks_job(LateHooksTask(gitdir=os.path.realpath(world.path)), lambda item: None)


def test_hooks_that_a_kill_cut_off_are_run_once(world, told):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die_before_hooks(world, first, second)
    assert world.ref("main") == second
    assert has_late_hooks(world.path)
    assert run(world) == 1
    assert told.read_text() == (
        f"post-receive ann\n{first.hex()} {second.hex()} refs/heads/main\npost-update ann\nrefs/heads/main\n"
    )
    assert not has_late_hooks(world.path)
    assert run(world) == 0


def test_a_push_that_opens_the_log_meanwhile_does_not_hide_whose_hooks_were_told(world, told, monkeypatch):
    """At the first pushes to a repository: the other one may be through with the log before ours has opened it."""
    first = world.commit()
    git(world.path, "fetch", "-q", world.source, f"{first.hex()}:refs/heads/other")
    others = []

    def push_meanwhile(*arguments):
        monkeypatch.setattr(repository_room, "open_journal", open_journal)
        writer = world.writer(has_late_hooks=True)
        assert writer.change([RefUpdate(MAIN, ZERO, first)]) == {}
        others.append(writer)
        return open_journal(*arguments)

    monkeypatch.setattr(repository_room, "open_journal", push_meanwhile)
    world.repository.journal(world.options)
    world.repository.journal(world.options).late_hooks_done(others[0].sequences)
    assert os.listdir(f"{world.path}/govc/late") == []


def test_a_living_process_tells_its_own_hooks(world, told):
    first = world.commit()
    journal = world.repository.journal(world.options)
    writer = world.writer(has_late_hooks=True)
    git(world.path, "fetch", "-q", world.source, f"{first.hex()}:refs/heads/other")
    assert writer.change([RefUpdate(MAIN, ZERO, first)]) == {}
    assert len(os.listdir(f"{world.path}/govc/late")) == 1
    assert not has_late_hooks(world.path)
    assert run(world) == 0
    journal.late_hooks_done(writer.sequences)
    assert os.listdir(f"{world.path}/govc/late") == []
    assert not told.exists()


def test_hooks_of_a_record_that_is_gone_are_reported(world, told, caplog):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die_before_hooks(world, first, second)
    checkpoint_path(world.path, close_log=True)
    assert run(world) == 1
    assert "are not told" in caplog.text
    assert not told.exists()
    assert not has_late_hooks(world.path)


def test_a_checkpoint_that_retires_what_is_being_read_keeps_nobody_from_being_told(world, told, monkeypatch):
    first = world.commit()
    world.push((b"refs/heads/a", ZERO, first))
    for name in b"b", b"c", b"z":  # each fills most of a segment
        world.push((b"refs/heads/" + name, ZERO, world.commit(size=200_000)))
    second = world.ref("z")
    world.push((MAIN, ZERO, first))
    die_before_hooks(world, first, second)
    list_segments, lists = reader_room.list_segments, []

    def list_and_retire(folder):
        """Once it is known which segments will be read, another process makes a checkpoint, unless it has to wait."""
        lists.append(list_segments(folder))
        if len(lists) > 1:
            return lists[-1]
        with open(f"{world.path}/govc/checkpointing", "ab") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
            assert checkpoint_path(world.path).segments_retired
        return lists[0]

    monkeypatch.setattr(reader_room, "list_segments", list_and_retire)
    assert run(world) == 1
    assert len(lists[0]) > 1
    assert told.read_text().startswith(f"post-receive ann\n{first.hex()} {second.hex()} refs/heads/main\n")
    assert not has_late_hooks(world.path)


@pytest.mark.parametrize("others", [[b"refs/heads/z"], []])
def test_hooks_are_not_told_of_a_ref_that_was_given_up(world, told, others):
    """Another ref had come to lie in its place when the dead process's record was published."""
    oid = world.commit()
    world.push((b"refs/heads/main", ZERO, oid))
    names = [b"refs/heads/x", *others]
    die_before_hooks(world, ZERO, oid, where="refs/heads/x", names=names)
    git(world.path, "update-ref", "refs/heads/x/y", oid.hex())
    assert run(world) == 1
    assert (world.ref("x"), world.ref("x/y")) == (None, oid)
    if others:
        line = f"{ZERO.hex()} {oid.hex()} refs/heads/z"
        assert told.read_text() == f"post-receive ann\n{line}\npost-update ann\nrefs/heads/z\n"
    else:
        assert not told.exists()


def test_what_somebody_changes_later_is_told_all_the_same(world, told):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die_before_hooks(world, first, second)
    git(world.path, "update-ref", MAIN.decode(), first.hex())
    world.push((MAIN, first, second))
    assert run(world) == 1
    assert told.read_text().startswith(f"post-receive ann\n{first.hex()} {second.hex()} refs/heads/main\n")
