"""A recovery that is killed itself is done again by the next one, which meets its locks."""

import subprocess
import sys

import pytest

from tests.waiting import SECONDS

from .logged import ZERO, Logged, git, run_and_die
from .test_recovery import die

MAIN = b"refs/heads/main"

RECOVER = """
import os, sys
from govc import disk
from govc.repo.checkpoint_schedule import load_site
from govc.repo.journal import JournalOptions
from govc.repo.open_journal import open_journal

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
