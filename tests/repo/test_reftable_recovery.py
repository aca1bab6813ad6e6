"""A push to a reftable repository goes through the log: killed at any change of the disk, it is whole or not there."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from govc import disk
from govc.protocol.oid import SHA1
from govc.refs.backend import LogUpdates, Reflogging, ReftableBackend, WriteOptions
from govc.refs.plan import ANY, RefUpdate
from govc.refs.reftable.merged import merge_logs
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.repo.journal import JournalOptions
from govc.repo.repository import Repository
from govc.repo.writing import Origin, RefWriter, change_symref
from tests.repo.stepping import SteppingDisk
from tests.repo.test_watching_reftable import change, make_stack
from tests.repo.worlds import Site, repository

ORIGIN = Origin(committer=b"C <c@example.com>", message=b"push")
KILLED = 77


def push(opened: Repository, *updates: RefUpdate) -> dict[bytes, object]:
    writer = RefWriter(opened, opened.snapshot(), ORIGIN, JournalOptions(), clock=lambda: 1700000000.0)
    return dict(writer.change(updates))


def refs_of(path: Path) -> dict[bytes, bytes]:
    state = ReftableBackend(str(path), str(path), SHA1).load()
    return {ref.name: ref.oid for ref in state.table.iter_refs()}


class Dying(SteppingDisk):
    """A disk whose process is gone before its nth change; what it has done stays (the page cache)."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            os._exit(KILLED)


def run_and_die(path: Path, site: Site, left: int, work: Callable[[Repository], None]) -> bool:
    """Run in a process that is killed before its nth change of the disk; say whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            opened = repository(path, site.environ)
            opened.snapshot()
            opened.journal(JournalOptions())
            with disk.use(Dying(left)):
                work(opened)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED)
    return code == 0


def test_a_push_that_is_killed_anywhere_is_whole_or_not_there(site: Site) -> None:
    base = make_stack(site)
    before = refs_of(base)
    updates = (
        RefUpdate(b"refs/heads/main", site.first, site.second),
        RefUpdate(b"refs/heads/new", SHA1.zero, site.first),
    )
    after = {b"refs/heads/main": site.second, b"refs/heads/new": site.first}
    seen: list[bool] = []
    number = 0
    is_done = False
    while not is_done:
        path = site.folder / f"n{number}.git"
        shutil.copytree(base, path)
        is_done = run_and_die(path, site, number, lambda opened: assert_empty(push(opened, *updates)))
        opened = repository(path, site.environ)
        opened.recover(JournalOptions())
        found = refs_of(path)
        assert found in (before, after), f"killed before change {number}"
        seen.append(found == after)
        # Whoever comes next finds no lock in the way, and the log knows what the refs are.
        assert push(opened, RefUpdate(b"refs/heads/next", SHA1.zero, site.first)) == {}
        assert refs_of(path) == found | {b"refs/heads/next": site.first}
        opened.close()
        number += 1
    # From the first rename of publishing on it stays. (A sync of the log that was cut off takes the record with it.)
    assert not any(seen[:15])
    assert all(seen[-25:])


def assert_empty(refused: dict[bytes, object]) -> None:
    assert refused == {}


def test_a_later_transaction_of_others_is_not_undone(site: Site) -> None:
    """A dead writer's lock whose table isn't in a record is thrown away, its table with it."""
    path = make_stack(site)

    def prepare_only(opened: Repository) -> None:
        assert push(opened, RefUpdate(b"refs/heads/a", SHA1.zero, site.first)) == {}
        reflogging = Reflogging(committer=b"C <c@example.com>", message=b"x", updates=LogUpdates.NONE)
        options = WriteOptions(owner=opened.journal(JournalOptions()))
        transaction = opened.ref_database.begin(options, reflogging, None)
        transaction.add(RefUpdate(b"refs/heads/a", ANY, site.second))
        assert transaction.prepare() == {}
        os._exit(KILLED)

    assert not run_and_die(path, site, 1 << 30, prepare_only)
    opened = repository(path, site.environ)
    opened.recover(JournalOptions())
    assert refs_of(path)[b"refs/heads/a"] == site.first
    assert push(opened, RefUpdate(b"refs/heads/a", site.first, site.second)) == {}
    opened.close()


def test_a_power_cut_that_lost_the_rename_is_made_good(site: Site) -> None:
    """The record is durable, the list isn't: the machine starts again with the old list."""
    path = make_stack(site)
    opened = repository(path, site.environ)
    opened.snapshot()
    opened.journal(JournalOptions())
    shutil.copytree(path / "reftable", path / "old")
    assert push(opened, RefUpdate(b"refs/heads/main", site.first, site.second)) == {}
    assert push(opened, RefUpdate(b"refs/heads/x", SHA1.zero, site.first)) == {}
    opened.close()
    shutil.rmtree(path / "reftable")
    (path / "old").rename(path / "reftable")
    change(path, (b"refs/heads/outside", site.first))
    for shared in (path / "govc").glob("state*"):
        shared.unlink()  # as after a restart: nothing is known of the processes before
    again = repository(path, site.environ)
    again.snapshot()
    again.recover(JournalOptions())
    assert refs_of(path) == {
        b"refs/heads/main": site.second,
        b"refs/heads/x": site.first,
        b"refs/heads/outside": site.first,
    }
    again.close()


def test_checkpoints_and_the_default_branch(site: Site) -> None:
    path = make_stack(site)
    opened = repository(path, site.environ)
    snapshot = opened.snapshot()
    change_symref(opened, snapshot, ORIGIN, JournalOptions(), b"HEAD", b"refs/heads/side")
    assert opened.snapshot().table.head.symref_target == b"refs/heads/side"
    assert push(opened, RefUpdate(b"refs/heads/side", SHA1.zero, site.first)) == {}
    change(path, (b"refs/heads/outside", site.second))
    opened.close()
    report = checkpoint_path(str(path), close_log=True)
    assert (report.records, report.observed) == (2, 1)
    assert not (path / "govc/log").exists()
    again = repository(path, site.environ)
    again.snapshot()
    assert push(again, RefUpdate(b"refs/heads/side", site.first, site.second)) == {}
    again.close()
    assert refs_of(path)[b"refs/heads/side"] == site.second


def test_reflogs_go_with_the_push(site: Site) -> None:
    path = make_stack(site)
    with open(path / "config", "a") as file:
        file.write("[core]\n\tlogAllRefUpdates = true\n")
    opened = repository(path, site.environ)
    opened.snapshot()
    assert push(opened, RefUpdate(b"refs/heads/main", site.first, site.second)) == {}
    opened.close()
    tables = ReftableBackend(str(path), str(path), SHA1).load().stacks[0].tables
    for name in b"refs/heads/main", b"HEAD":
        [log] = merge_logs(tables, name, drop_tombstones=True)
        assert log.entry is not None
        assert (log.entry.old, log.entry.new, log.entry.seconds) == (site.first, site.second, 1700000000)


class OwnNamesStay(disk.Disk):
    """What a lock file of ours is called in `govc/locks` can't be removed."""

    def unlink(self, path: str) -> None:
        if "/govc/locks/" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        super().unlink(path)


def test_a_name_of_a_lock_that_stays_behind_costs_no_table(site: Site) -> None:
    path = make_stack(site)
    opened = repository(path, site.environ)
    with disk.use(OwnNamesStay()):
        assert push(opened, RefUpdate(b"refs/heads/main", site.first, site.second)) == {}
    assert refs_of(path)[b"refs/heads/main"] == site.second
    opened.close()
