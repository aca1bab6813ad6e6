import os

import pytest

from govc.refs.plan import RefUpdate
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.repo.late_hooks import LateHooksTask, has_late_hooks, late_hooks_job

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


def die_before_hooks(world, first, second):
    """A push by another process, which dies between its acknowledgement and its hooks."""
    world.repository.close()
    code = DIE.replace('message=b"push")', 'message=b"push", actor="ann", has_late_hooks=True)').replace(
        "os._exit(0)", "os._exit(9)"
    )
    run_and_die(code, world.path, "nothing", f"{MAIN.decode()},{first.hex()},{second.hex()}")


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
