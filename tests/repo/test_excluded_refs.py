"""A recorded ref that can't be made, because another one has come to lie in its place."""

import os
import shutil

import pytest

from govc import disk
from govc.refs.plan import REASON_FAILED, RefUpdate
from govc.refs.transaction import PACKED_CREATION_MIN
from govc.repo.checkpoint_schedule import checkpoint_path, load_site
from govc.repo.journal import Journal
from govc.repo.open_journal import may_need_recovery
from govc.repo.writing import State
from govc.wal.errors import IN_DOUBT, LogBlocked
from govc.wal.record import Draft, Kind
from govc.wal.state import UNPUBLISHED_MAX

from .logged import ZERO, Logged, git, restart_machine, run_and_die
from .test_recovery import DIE, die

MAIN, A, X, XY = b"refs/heads/main", b"refs/heads/a", b"refs/heads/x", b"refs/heads/x/y"


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    made.push((MAIN, ZERO, made.commit()))
    yield made
    made.repository.close()


class Meanwhile(disk.Disk):
    """Calls `act` before a file is renamed to `refs/heads/x` for the first time."""

    def __init__(self, act):
        self.acts = [act]

    def rename(self, source, target):
        if target.endswith("refs/heads/x") and self.acts:
            self.acts.pop()()
        super().rename(source, target)


def create_below(world):
    git(world.path, "update-ref", XY.decode(), world.ref("main").hex())


def create_both(world, *, atomic=False):
    oid = world.ref("main")
    return world.writer().change([RefUpdate(A, ZERO, oid), RefUpdate(X, ZERO, oid)], atomic=atomic)


def tail(world):
    return world.repository.journal(world.options).log.tail()


def test_the_ref_is_refused_and_nothing_of_it_is_left(world):
    oid = world.ref("main")
    steps = world.writer().change_in_steps([RefUpdate(A, ZERO, oid), RefUpdate(X, ZERO, oid)])
    assert next(steps).state is State.PREPARING
    assert steps.send(True).state is State.PREPARED
    create_below(world)
    assert steps.send(True) == (State.COMMITTED, (RefUpdate(A, ZERO, oid),))
    with pytest.raises(StopIteration) as stop:
        steps.send(True)
    assert {name: error.reason for name, error in stop.value.value.items()} == {X: REASON_FAILED}
    assert (world.ref("a"), world.ref("x"), world.ref("x/y")) == (oid, None, oid)
    assert world.locks() == []
    assert tail(world).is_all_published
    assert [(r.kind.name, [tuple(c) for c in r.draft.refs]) for r in world.records()[1:]] == [
        ("CHANGE", [(A, ZERO, oid), (X, ZERO, oid)]),
        ("OBSERVED", [(X, oid, ZERO)]),
    ]
    assert world.recover().kind == "clean"
    assert world.push((XY, oid, ZERO), (X, ZERO, world.commit(oid)), without=[oid]) == {}


def test_a_lock_in_its_place_is_enough_and_its_log_is_nobodys_obstacle(world):
    """So it is with reflogs: while there is one of `x`, git can't make `x/y`, but it tries."""
    git(world.path, "config", "core.logAllRefUpdates", "true")
    world.reopen()
    lock = f"{world.path}/refs/heads/x/y.lock"

    def make_lock():
        os.mkdir(os.path.dirname(lock))
        open(lock, "x").close()

    with disk.use(Meanwhile(make_lock)):
        assert list(create_both(world)) == [X]
    assert world.locks() == [lock]
    os.unlink(lock)
    create_below(world)
    assert world.ref("x/y") == world.ref("main")


def create_many(world):
    """So many that they go straight into packed-refs."""
    oid = world.ref("main")
    tags = [RefUpdate(b"refs/tags/%04d" % number, ZERO, oid) for number in range(PACKED_CREATION_MIN)]
    return world.writer().change_in_steps([*tags, RefUpdate(X, ZERO, oid)])


def test_one_of_very_many_is_refused_as_well(world):
    oid = world.ref("main")
    steps = create_many(world)
    next(steps)
    assert steps.send(True).state is State.PREPARED
    create_below(world)
    assert len(steps.send(True).updates) == PACKED_CREATION_MIN
    with pytest.raises(StopIteration) as stop:
        steps.send(True)
    assert {name: error.reason for name, error in stop.value.value.items()} == {X: REASON_FAILED}
    assert (world.ref("x"), world.ref("x/y")) == (None, oid)
    assert len(git(world.path, "for-each-ref", "refs/tags").splitlines()) == PACKED_CREATION_MIN
    assert world.locks() == []
    assert tail(world).is_all_published
    assert [tuple(change) for change in world.records()[-1].draft.refs] == [(X, oid, ZERO)]
    assert world.recover().kind == "clean"


def test_of_an_atomic_change_nothing_stays(world):
    oid = world.ref("main")
    steps = world.writer().change_in_steps([RefUpdate(A, ZERO, oid), RefUpdate(X, ZERO, oid)], atomic=True)
    next(steps)
    steps.send(True)
    create_below(world)
    with pytest.raises(StopIteration) as stop:  # committed it never is
        steps.send(True)
    assert {name: error.reason for name, error in stop.value.value.items()} == {X: REASON_FAILED}
    assert (world.ref("a"), world.ref("x")) == (None, None)
    assert world.records()[-1].draft.refs == ((A, oid, ZERO),)
    assert world.locks() == []
    assert tail(world).is_all_published


def test_an_atomic_change_of_which_a_part_has_moved_on_is_in_doubt(world):
    second = world.commit()
    world.push((b"refs/heads/other", ZERO, second))

    def meanwhile():
        create_below(world)
        git(world.path, "update-ref", A.decode(), second.hex())

    with disk.use(Meanwhile(meanwhile)):
        refused = create_both(world, atomic=True)
    assert {name: error.reason for name, error in refused.items()} == {X: f"{REASON_FAILED}; {IN_DOUBT}"}
    assert world.ref("a") == second
    assert world.locks() == []
    assert tail(world).is_all_published


def test_a_log_that_can_not_say_so_leaves_it_in_doubt_until_it_can(world):
    class Failing(Meanwhile):
        def sync_data(self, descriptor):
            if not self.acts:
                raise OSError(5, "input/output error")
            super().sync_data(descriptor)

    with disk.use(Failing(lambda: create_below(world))):
        refused = create_both(world)
    assert {name: error.reason for name, error in refused.items()} == {X: f"{REASON_FAILED}; {IN_DOUBT}"}
    assert world.locks() == [f"{world.path}/refs/heads/x.lock"]
    assert list(create_both(world)) == [A, X]
    assert world.locks() == []
    assert tail(world).is_all_published


# What others have left


def test_the_ref_of_a_dead_process_is_given_up_and_the_rest_is_published(world):
    oid, second = world.ref("main"), world.commit()
    world.push((b"refs/heads/other", ZERO, second))
    die(world, "refs/heads/x", (X, ZERO, second), (b"refs/heads/z", ZERO, second))
    create_below(world)
    report = world.recover()
    assert (report.kind, report.records) == ("dead processes", 1)
    assert (world.ref("x"), world.ref("x/y"), world.ref("z")) == (None, oid, second)
    assert world.locks() == []
    assert not may_need_recovery(world.path)
    checkpoint_path(world.path)
    assert world.push((X, ZERO, second))[X].reason == "refname conflict"


def test_one_of_very_many_that_a_dead_process_has_not_looked_at_is_given_up(world):
    """It died right after its packed-refs was there; who made the other one had read the old packed-refs."""
    oid = world.ref("main")
    names = [X, *(b"refs/tags/%04d" % number for number in range(PACKED_CREATION_MIN))]
    world.repository.close()
    late = "            super().rename(source, target)\n            os._exit(9)"
    code = DIE.replace("            os._exit(9)", late, 1)
    run_and_die(code, world.path, "packed-refs", *(f"{name.decode()},{ZERO.hex()},{oid.hex()}" for name in names))
    assert world.ref("x") == oid
    os.mkdir(f"{world.path}/refs/heads/x")
    with open(f"{world.path}/{XY.decode()}", "x") as file:
        file.write(f"{oid.hex()}\n")
    assert world.recover().records == 1
    assert (world.ref("x"), world.ref("x/y")) == (None, oid)
    assert len(git(world.path, "for-each-ref", "refs/tags").splitlines()) == PACKED_CREATION_MIN
    assert [tuple(change) for change in world.records()[-1].draft.refs] == [(X, oid, ZERO)]
    assert world.locks() == []
    git(world.path, "fsck", "--strict")


def test_one_that_everything_waits_for_is_given_up(world):
    """Up to 2,048 records wait for one that can't be published; then there is no room for another."""
    oid = world.ref("main")
    die(world, "refs/heads/x", (X, ZERO, oid), (b"refs/heads/z", ZERO, oid))
    create_below(world)
    journal = Journal(load_site(os.path.realpath(world.path)).layout, world.options)
    with journal.log.append_lock():
        now = journal.log.tail()
        journal.log.append([Draft(kind=Kind.CHECKPOINT)] * (UNPUBLISHED_MAX - now.next_sequence + now.published))
    journal.close()
    assert world.recover().records == 1
    assert tail(world).is_all_published
    assert world.locks() == []
    assert world.push((MAIN, oid, world.commit(oid)), without=[oid]) == {}


def test_after_a_power_cut_the_ref_that_is_there_stays_and_the_rest_is_restored(world, tmp_path, monkeypatch):
    oid = world.ref("main")
    git(world.path, "config", "core.logAllRefUpdates", "true")
    world.reopen()
    world.push((X, ZERO, oid), (b"refs/heads/z", ZERO, oid))
    git(world.path, "update-ref", "-d", X.decode())
    create_below(world)
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    os.unlink(f"{world.path}/refs/heads/z")
    report = world.recover()
    assert report.problems == ["refs/heads/x: refs/heads/x/y is there, both can't be"]
    assert (world.ref("x"), world.ref("x/y"), world.ref("z")) == (None, oid, oid)
    assert world.recover().kind == "clean"


@pytest.mark.parametrize("first", [X, XY])
def test_after_a_power_cut_the_later_one_of_two_is_restored(world, tmp_path, monkeypatch, first):
    oid = world.ref("main")
    later = XY if first == X else X
    world.push((first, ZERO, oid))
    git(world.path, "update-ref", "-d", first.decode())
    world.push((later, ZERO, oid))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    path = f"{world.path}/refs/heads/x"
    shutil.rmtree(path) if later == XY else os.unlink(path)
    assert len(world.recover().problems) == 1
    assert (world.ref(first.decode()), world.ref(later.decode())) == (None, oid)


def test_after_a_power_cut_a_packed_ref_is_there_as_well(world, tmp_path, monkeypatch):
    oid = world.ref("main")
    world.push((X, ZERO, oid))
    git(world.path, "update-ref", "-d", X.decode())
    create_below(world)
    git(world.path, "pack-refs", "--all")
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    world.recover()
    assert (world.ref("x"), world.ref("x/y")) == (None, oid)


def test_after_a_power_cut_the_lock_of_another_program_below_is_waited_for(world, tmp_path, monkeypatch):
    oid = world.ref("main")
    world.push((X, ZERO, oid))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    path = f"{world.path}/refs/heads/x"
    os.unlink(path)
    os.mkdir(path)
    with open(f"{path}/y.lock", "x"), pytest.raises(LogBlocked):
        world.recover()
    os.unlink(f"{path}/y.lock")
    world.recover()
    assert world.ref("x") == oid
