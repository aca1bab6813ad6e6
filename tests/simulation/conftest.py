"""Where simulated disks lie."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from govc.wal import boot


@pytest.fixture(autouse=True)
def own_machine() -> Iterator[None]:
    """Scenes restart the machine they are on; afterwards it is the one that it was."""
    path = boot._PATH
    yield
    boot._PATH = path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of small repositories are written."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="govc-crash-", dir=shm))
    yield folder
    gc.unfreeze()
    gc.collect()
    shutil.rmtree(folder)
