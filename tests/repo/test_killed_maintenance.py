"""A maintenance that is killed leaves no lock that anybody stumbles over: the next push knows whose it was."""

import os

import pytest

from govc.refs.plan import RefUpdate
from govc.repo.maintenance import maintain_path

from .logged import ENVIRONMENT, ZERO, Logged, run_and_die
from .test_reftable_recovery import push, refs_of
from .test_watching_reftable import change, make_stack
from .worlds import repository

MAIN = b"refs/heads/main"

MAINTAIN = """
import os, sys
from govc import disk
from govc.refs import database
from govc.repo.maintenance import maintain_path

class Dying(disk.Disk):
    def rename(self, source, target):
        self.at(target)
        super().rename(source, target)
    def unlink(self, path):
        self.at(path)
        super().unlink(path)
    def at(self, path):
        if path.endswith(sys.argv[2]):
            os._exit(9)

database.LOOSE_REFS_MAX = 0
with disk.use(Dying()):
    maintain_path(sys.argv[1], os.environ)
"""


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


@pytest.mark.parametrize(
    ("where", "left"),
    [("packed-refs", ["packed-refs.lock"]), ("refs/heads/a", ["packed-refs.lock", "refs/heads/a.lock"])],
)
def test_the_locks_of_refs_are_removed_by_who_meets_them(world, where, left):
    first, second = world.commit(), world.commit()
    world.push((b"refs/heads/a", ZERO, first), (MAIN, ZERO, second))
    run_and_die(MAINTAIN, world.path, where)
    assert sorted(world.locks()) == [f"{world.path}/{name}" for name in left]
    assert world.push((b"refs/heads/a", first, second)) == {}
    assert world.push((b"refs/heads/a", second, ZERO)) == {}
    assert (world.ref("a"), world.ref("main")) == (None, second)
    assert world.locks() == []


def test_the_locks_of_a_stack_are_removed_by_who_meets_them(site):
    path = make_stack(site)
    opened = repository(path, site.environ)
    assert push(opened, RefUpdate(b"refs/heads/new", ZERO, site.first)) == {}
    for name in (b"refs/heads/a", b"refs/heads/b", b"refs/heads/c"):
        change(path, (name, site.first))  # tables that nobody has merged
    run_and_die(MAINTAIN, str(path), "tables.list")
    folder = path / "reftable"
    assert (folder / "tables.list.lock").exists()
    assert push(opened, RefUpdate(b"refs/heads/a", site.first, site.second)) == {}
    assert refs_of(path)[b"refs/heads/a"] == site.second
    assert list(folder.glob("*.lock")) == []
    opened.close()


def test_one_that_ends_leaves_nothing_in_the_logs_folder(world, monkeypatch):
    monkeypatch.setattr("govc.refs.database.LOOSE_REFS_MAX", 0)
    world.push((MAIN, ZERO, world.commit()))
    before = os.listdir(f"{world.path}/govc/locks")
    assert maintain_path(world.path, ENVIRONMENT).refs_packed == 1
    assert os.listdir(f"{world.path}/govc/locks") == before


def test_where_there_is_no_log_none_is_begun(world, monkeypatch):
    monkeypatch.setattr("govc.refs.database.LOOSE_REFS_MAX", 0)
    oid = world.commit()
    os.makedirs(f"{world.path}/refs/heads", exist_ok=True)
    with open(f"{world.path}/refs/heads/main", "w") as file:
        file.write(f"{oid.hex()}\n")
    maintain_path(world.path, ENVIRONMENT)
    assert not os.path.exists(f"{world.path}/govc")
