import errno
import os
import zlib

import pytest

from govc import disk
from govc.odb.quarantine import Migration
from govc.refs.plan import RefUpdate
from govc.repo.journal import JournalOptions
from govc.repo.writing import Origin, State, change_symref
from govc.wal.errors import LogError
from govc.wal.record import Draft, Kind, RefChange

from .logged import ZERO, CountingDisk, Logged, git, restart_machine

MAIN = b"refs/heads/main"


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


def changes(world):
    return [(r.kind.name, [(c.name, c.old, c.new) for c in r.draft.refs]) for r in world.records()]


def test_loose_objects_that_git_packs_before_they_are_recorded_are_read_from_the_pack(world):
    """As `git repack --cruft` does with what no ref reaches yet."""
    oid = git(world.path, "hash-object", "-w", "--stdin", input=b"by a hook").decode().strip()
    path = f"{world.repository.gitdir}/objects/{oid[:2]}/{oid[2:]}"
    world.repository.snapshot()
    journal = world.repository.journal(world.options)
    migration = Migration(pack_paths=(), loose_paths=(path,), keep_paths=())
    git(world.path, "pack-objects", "-q", f"{world.path}/objects/pack/pack", input=f"{oid}\n".encode())
    git(world.path, "prune-packed", "-q")
    assert not os.path.exists(path)
    ((recorded, content),) = journal.stage_objects(migration).loose_objects
    assert (recorded.hex(), zlib.decompress(content)) == (oid, b"blob 9\0by a hook")


def test_loose_objects_that_are_gone_before_they_are_recorded_fail_the_push(world):
    path = f"{world.repository.gitdir}/objects/12/{'3' * 38}"
    world.repository.snapshot()
    journal = world.repository.journal(world.options)
    with pytest.raises(LogError, match="missing object"):
        journal.stage_objects(Migration(pack_paths=(), loose_paths=(path,), keep_paths=()))


def test_a_push_is_one_record_with_everything_in_it(world):
    oid = world.commit()
    assert world.push((MAIN, ZERO, oid)) == {}
    assert world.ref("main") == oid
    (record,) = world.records()
    assert record.kind is Kind.CHANGE
    assert record.draft.refs == ((MAIN, ZERO, oid),)
    assert record.draft.actor == "ann"
    assert record.draft.packs[0][:4] == b"PACK"
    world.fsck()
    assert world.locks() == []


def test_a_small_push_costs_exactly_one_sync(world):
    first = world.commit()
    world.push((MAIN, ZERO, first))
    second = world.commit(first)
    counting = CountingDisk()
    with disk.use(counting):
        assert world.push((MAIN, first, second), without=[first]) == {}
    assert counting.syncs == ["data"]


@pytest.mark.parametrize(("durability", "expected"), [("batch", 0), ("none", 0)])
def test_weaker_promises_sync_later_or_never(world, durability, expected):
    first = world.commit()
    later = []
    options = JournalOptions(durability=durability, later=lambda seconds, flush: later.append(flush))
    world.push((MAIN, ZERO, first), options=options)
    second = world.commit(first)
    counting = CountingDisk()
    with disk.use(counting):
        assert world.push((MAIN, first, second), without=[first]) == {}
        assert len(counting.syncs) == expected
        for flush in later:
            flush()
    assert counting.syncs == (["data"] if durability == "batch" else [])


def test_a_large_pack_is_named_and_kept_beside_the_log(world):
    oid = world.commit(size=400_000)
    assert world.push((MAIN, ZERO, oid)) == {}
    (record,) = world.records()
    (reference,) = record.draft.pack_references
    kept = f"{world.path}/govc/packs/pack-{reference.checksum.hex()}.pack"
    assert os.path.getsize(kept) == reference.length
    git(world.path, "gc", "-q", "--prune=now")
    assert os.path.getsize(kept) == reference.length


def test_what_plain_git_changed_is_recorded_before_our_next_change(world):
    first, second, third = (world.commit() for _ in range(3))
    world.push((MAIN, ZERO, first))
    world.push((b"refs/heads/other", ZERO, second))
    git(world.path, "update-ref", "refs/heads/main", second.hex())
    world.push((MAIN, second, third))
    assert changes(world)[-2:] == [
        ("OBSERVED", [(MAIN, first, second)]),
        ("CHANGE", [(MAIN, second, third)]),
    ]


def test_what_plain_git_had_before_the_log_is_known(world):
    first, second = world.commit(), world.commit()
    git(world.path, "fetch", "-q", world.source, f"{first.hex()}:refs/heads/main")
    world.push((MAIN, first, second))
    assert changes(world) == [("CHANGE", [(MAIN, first, second)])]


class FailingAroundSync(disk.Disk):
    """A sync fails, and then, once, the lock under which the log would be cut can't be opened."""

    left = 2

    def sync_data(self, descriptor):
        if self.left == 2:
            self.left = 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(descriptor)

    def open(self, path, flags, mode=0o666):
        if self.left == 1 and path.endswith("/appending"):
            self.left = 0
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().open(path, flags, mode)


def test_what_a_failed_sync_took_is_not_voided_by_a_number_that_another_record_gets(world, tmp_path, monkeypatch):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    journal = world.repository.journal(world.options)
    with journal.log.append_lock():  # another worker's, which that sync has to cover, too
        journal.log.append([Draft(kind=Kind.CHANGE, refs=(RefChange(b"refs/heads/x", ZERO, first),))])
    failing = FailingAroundSync()
    with disk.use(failing):
        assert MAIN in world.push((MAIN, first, second))
    assert failing.left == 0
    world.push((b"refs/heads/y", ZERO, first))
    assert world.push((MAIN, first, second)) == {}
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    for name in ("main", "y"):
        with open(f"{world.path}/refs/heads/{name}", "w"):
            pass  # torn
    world.recover()
    assert (world.ref("main"), world.ref("y")) == (second, first)


def test_a_push_that_makes_room_is_two_records(world):

    first, second = world.commit(), world.commit()
    world.push((b"refs/heads/a", ZERO, first))
    assert world.push((b"refs/heads/a", first, ZERO), (b"refs/heads/a/b", ZERO, second)) == {}
    assert [refs for _, refs in changes(world)[1:]] == [
        [(b"refs/heads/a", first, ZERO)],
        [(b"refs/heads/a/b", ZERO, second)],
    ]


def test_a_refused_update_is_in_no_record(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    refused = world.push((MAIN, second, second), (b"refs/heads/x", ZERO, second))
    assert list(refused) == [MAIN]
    assert changes(world)[-1] == ("CHANGE", [(b"refs/heads/x", ZERO, second)])
    before = len(world.records())
    assert world.push((MAIN, second, second), (b"refs/heads/y", ZERO, second), atomic=True)
    assert len(world.records()) == before


def test_a_push_that_changes_nothing_leaves_no_record(world):
    first = world.commit()
    world.push((MAIN, ZERO, first))
    assert world.push((MAIN, first, first)) == {}
    assert len(world.records()) == 1


class FailingRenames(disk.Disk):
    """Fails renames to some paths, so many times each."""

    def __init__(self, *ends, times=1):
        self.left = {end: times for end in ends}

    def rename(self, source, target):
        for end, left in self.left.items():
            if target.endswith(end) and left:
                self.left[end] -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().rename(source, target)


def test_a_record_of_which_nothing_could_be_published_is_taken_back(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    with disk.use(FailingRenames("refs/heads/main")):
        refused = world.push((MAIN, first, second))
    assert list(refused) == [MAIN]
    assert world.ref("main") == first
    assert changes(world)[-1][0] == "VOID"
    assert world.locks() == []
    assert world.repository.journal(world.options).log.tail().is_all_published
    assert world.push((MAIN, first, second)) == {}
    assert world.ref("main") == second
    assert [kind for kind, _ in changes(world)] == ["CHANGE", "CHANGE", "VOID", "CHANGE"]


def test_a_record_that_shows_in_part_is_rolled_forward(world):
    oid = world.commit()
    with disk.use(FailingRenames("refs/heads/b")):
        refused = world.push((b"refs/heads/a", ZERO, oid), (b"refs/heads/b", ZERO, oid), atomic=True)
    assert refused == {}
    assert (world.ref("a"), world.ref("b")) == (oid, oid)
    assert world.repository.journal(world.options).log.tail().is_all_published
    assert world.locks() == []


def test_what_can_not_be_rolled_forward_is_left_to_the_next_writer(world):
    oid = world.commit()
    with disk.use(FailingRenames("refs/heads/b", times=2)):
        refused = world.push((b"refs/heads/a", ZERO, oid), (b"refs/heads/b", ZERO, oid), atomic=True)
    assert refused == {}  # it is on the disk, and stays
    assert (world.ref("a"), world.ref("b")) == (oid, None)
    assert world.locks() == [f"{world.path}/refs/heads/b.lock"]
    other = world.commit(oid)
    assert world.push((b"refs/heads/b", oid, other), without=[oid]) == {}
    assert world.ref("b") == other
    assert world.repository.journal(world.options).log.tail().is_all_published
    assert world.locks() == []


def test_what_stays_stuck_is_published_when_its_process_is_gone(world):
    oid = world.commit()
    with disk.use(FailingRenames("refs/heads/b", times=2)):
        world.push((b"refs/heads/a", ZERO, oid), (b"refs/heads/b", ZERO, oid), atomic=True)
    world.recover()
    assert (world.ref("a"), world.ref("b")) == (oid, oid)
    assert world.locks() == []


class Interrupted(FailingRenames):
    """Lets something happen when a rename has failed."""

    def __init__(self, then, *ends, times=1):
        super().__init__(*ends, times=times)
        self.then = then

    def rename(self, source, target):
        try:
            super().rename(source, target)
        except OSError:
            self.then()
            raise


def prepare(world, *update):
    """Bring a change up to its record, all locks held; return what goes on with it."""
    steps = world.writer().change_in_steps([RefUpdate(*update)])
    assert next(steps).state is State.PREPARING
    assert steps.send(True).state is State.PREPARED
    return steps


def finish(steps):
    """Let a prepared change be made; return the refusals."""
    assert steps.send(True).state is State.COMMITTED
    with pytest.raises(StopIteration) as stop:
        steps.send(True)
    return stop.value.value


A, B = b"refs/heads/a", b"refs/heads/b"


def leave_stuck(world):
    """Push to a and b, of which b's rename fails twice; return the oid that both are to have."""
    oid = world.commit()
    with disk.use(FailingRenames("refs/heads/b", times=2)):
        assert world.push((A, ZERO, oid), (B, ZERO, oid), atomic=True) == {}
    return oid


def test_who_publishes_what_is_stuck_takes_no_lock_of_another_push(world):
    """The lock is of the same process, as the stuck one: what was pushed meanwhile stays."""
    first = leave_stuck(world)
    second, third, fourth = (world.commit() for _ in range(3))
    assert world.push((A, first, second)) == {}
    steps = prepare(world, A, second, third)
    assert world.push((B, first, fourth)) == {}  # meets the stuck lock
    assert (world.ref("a"), world.ref("b")) == (second, fourth)
    assert world.locks() == [f"{world.path}/refs/heads/a.lock"]
    assert finish(steps) == {}
    assert world.ref("a") == third


def test_nor_where_the_ref_has_come_back_to_its_old_value(world):
    first = leave_stuck(world)
    assert world.push((A, first, ZERO)) == {}
    steps = prepare(world, A, ZERO, first)  # the very same change
    assert world.push((B, first, world.commit())) == {}
    assert world.ref("a") is None
    assert world.locks() == [f"{world.path}/refs/heads/a.lock"]
    steps.close()
    assert world.ref("a") is None
    assert world.locks() == []


def test_nor_the_lock_of_packed_refs(world):
    first = leave_stuck(world)
    world.push((b"refs/heads/c", ZERO, first))
    steps = prepare(world, b"refs/heads/c", first, ZERO)
    assert world.push((B, first, world.commit())) == {}
    assert f"{world.path}/packed-refs.lock" in world.locks()
    assert finish(steps) == {}
    assert world.ref("c") is None
    assert world.locks() == []


def test_what_is_rolled_forward_at_once_takes_no_lock_of_another_push(world):
    first, second = world.commit(), world.commit()
    taken = []
    with disk.use(Interrupted(lambda: taken.append(prepare(world, A, first, second)), "refs/heads/b")):
        assert world.push((A, ZERO, first), (B, ZERO, first), atomic=True) == {}
    assert (world.ref("a"), world.ref("b")) == (first, first)
    assert finish(taken[0]) == {}
    assert world.ref("a") == second
    assert world.locks() == []


def test_without_a_log_nothing_is_accepted(world):
    oid = world.commit()
    with open(f"{world.path}/govc", "w") as file:
        file.write("in the way")
    refused = world.writer().change([RefUpdate(MAIN, ZERO, oid)])
    assert "log can not be written" in refused[MAIN].detail
    assert world.ref("main") is None


def test_a_full_disk_refuses_a_push_and_leaves_nothing(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    objects = None

    class FullDisk(disk.Disk):
        def pwrite(self, descriptor, data, offset):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with disk.use(FullDisk()):
        refused = world.writer(objects).change([RefUpdate(MAIN, first, second)])
    assert refused[MAIN].detail == "the server's log can not be written: No space left on device"
    assert world.ref("main") == first
    assert world.locks() == []
    assert len(world.records()) == 1


def test_a_clock_that_goes_backwards_does_no_harm(world):
    first, second = world.commit(), world.commit()
    world.options = JournalOptions(clock_ns=lambda: 1_700_000_000_000_000_000)
    world.push((MAIN, ZERO, first))
    world.reopen()
    world.options = JournalOptions(clock_ns=lambda: 1_600_000_000_000_000_000)
    assert world.push((MAIN, first, second)) == {}
    assert [record.time_seconds for record in world.records()] == [1_700_000_000, 1_600_000_000]


def test_the_default_branch_changes_through_the_log(world):
    oid = world.commit()
    world.push((b"refs/heads/next", ZERO, oid))
    origin = Origin(committer=b"c <c@x>", message=b"set-head", actor="root")
    change_symref(world.repository, world.repository.snapshot(), origin, world.options, b"HEAD", b"refs/heads/next")
    assert git(world.path, "symbolic-ref", "HEAD").decode().strip() == "refs/heads/next"
    assert world.records()[-1].draft.symrefs == ((b"HEAD", b"refs/heads/main", b"refs/heads/next"),)
    assert world.locks() == []


def test_the_log_is_private_and_a_shared_repository_shares_it_with_its_group(world):
    world.push((MAIN, ZERO, world.commit()))
    assert os.stat(f"{world.path}/govc").st_mode & 0o777 == 0o700
    assert os.stat(f"{world.path}/govc/checkpoint").st_mode & 0o077 == 0
    git(world.path, "config", "core.sharedRepository", "group")
    world.repository.close()
    os.rename(f"{world.path}/govc", f"{world.path}/old")
    world.reopen()
    world.push((b"refs/heads/x", ZERO, world.commit()))
    assert os.stat(f"{world.path}/govc").st_mode & 0o7777 == 0o2770
    assert os.stat(f"{world.path}/govc/log/000000000001.seg").st_mode & 0o777 == 0o660


def test_what_the_log_did_is_told_once(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    done, recoveries = world.repository.take_log_counts()
    assert (done.records, done.syncs, done.failed_syncs, recoveries) == (1, 1, 0, [])
    assert done.bytes > 200

    class BadSync(disk.Disk):
        def sync_data(self, descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with disk.use(BadSync()):
        assert world.push((MAIN, first, second))[MAIN].detail.endswith("a sync of the log has failed")
    assert world.ref("main") == first
    done, _ = world.repository.take_log_counts()
    assert (done.syncs, done.failed_syncs) == (0, 1)
    assert world.repository.take_log_counts()[0].records == 0
    assert world.push((MAIN, first, second)) == {}
