"""A recovery that is killed itself is done again by the next one, which meets its locks."""

import subprocess
import sys

import pytest

from govc.refs.plan import RefUpdate
from govc.repo.writing import Origin, RefWriter, change_symref
from govc.wal import boot
from tests.waiting import SECONDS

from .logged import ZERO, Logged, git, restart_machine, run_and_die
from .test_recovery import die

MAIN = b"refs/heads/main"

RECOVER = """
import os, sys
from govc import disk
from govc.repo.checkpoint_schedule import load_site
from govc.repo.journal import JournalOptions
from govc.repo.open_journal import open_journal
from govc.wal import boot

boot._PATH = (*sys.argv, boot._PATH)[3]

class Dying(disk.Disk):
    def rename(self, source, target):
        if target.endswith(sys.argv[2]):
            os._exit(9)
        super().rename(source, target)

with disk.use(Dying()):
    open_journal(load_site(os.path.realpath(sys.argv[1])), JournalOptions())
os._exit(0)
"""


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


def test_a_deletion_is_finished(world):
    """The lock of packed-refs is the recovery's by then, and the ref's still that of the process that recorded it."""
    first = world.commit()
    world.push((b"refs/heads/a", ZERO, first), (MAIN, ZERO, first))
    git(world.path, "pack-refs", "--all")
    die(world, "packed-refs", (b"refs/heads/a", first, ZERO))
    run_and_die(RECOVER, world.path, "packed-refs")
    assert world.ref("a") == first
    # In another process: one that waits for itself could not be ended here.
    subprocess.run([sys.executable, "-c", RECOVER, world.path, "nothing"], check=True, timeout=SECONDS)
    world.reopen()
    assert (world.ref("a"), world.ref("main")) == (None, first)
    assert world.locks() == []


def test_the_shallow_file_and_head_are_written(world, tmp_path, monkeypatch):
    """After a power cut: their locks are known as a recovery's, and in nobody's way."""
    first = world.commit()
    world.push((MAIN, ZERO, first))
    snapshot = world.repository.snapshot()
    origin = Origin(committer=b"c <c@x>", message=b"push")
    writer = RefWriter(world.repository, snapshot, origin, world.options, shallow=[first])
    assert writer.change([RefUpdate(b"refs/heads/a", ZERO, first)]) == {}
    change_symref(world.repository, snapshot, origin, world.options, b"HEAD", b"refs/heads/a")
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    with open(f"{world.path}/HEAD", "w"):
        pass  # torn
    for name in "shallow", "HEAD":
        run_and_die(RECOVER, world.path, f"/{name}", boot._PATH)
        assert world.locks() == [f"{world.path}/{name}.lock"]
    assert world.recover().problems == []
    with open(f"{world.path}/shallow") as file:
        assert file.read() == f"{first.hex()}\n"
    with open(f"{world.path}/HEAD") as file:
        assert file.read() == "ref: refs/heads/a\n"
    assert world.locks() == []
