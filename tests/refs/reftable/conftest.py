"""Stacks made by us, and a git that knows the format, where there is one (from 2.45 on; GOVC_TEST_GIT names it)."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from govc.protocol.oid import SHA1, HashAlgorithm
from govc.refs.backend import LogUpdates, Reflogging, ReftableBackend, WriteOptions
from govc.refs.plan import RefUpdate
from govc.refs.reftable.writer import ReftableOptions
from govc.repo.creation import create_repository
from tests.refs.conftest import ENV

ONE, TWO, THREE, TAG = (bytes((number,)) * 20 for number in (0x11, 0x22, 0x33, 0x44))
ZERO = SHA1.zero


def no_sleep(_seconds: float) -> None:
    return None


def peel(oid: bytes) -> bytes | None:
    return ONE if oid == TAG else None


class Store:
    """A reftable repository made by us, with no objects; each call of `backend` is like another process."""

    def __init__(self, path: Path, algo: HashAlgorithm = SHA1) -> None:
        self.path = path
        self.algo = algo
        self.options = WriteOptions(sleep=no_sleep, fsync=False)
        create_repository(str(path), algo, export=True, allow_push=True, ref_storage="reftable")
        self.shared = self.backend()

    def backend(self) -> ReftableBackend:
        return ReftableBackend(str(self.path), str(self.path), self.algo)

    def begin(self, *updates: Sequence[bytes | None], log: LogUpdates = LogUpdates.NONE, message: bytes = b"push"):
        reflogging = Reflogging(
            committer=b"C O <c@example.com>", message=message, clock=lambda: 1700000000, updates=log
        )
        transaction = self.shared.begin(self.options, reflogging, peel)
        for update in updates:
            transaction.add(RefUpdate(*update))
        return transaction

    def run(self, *updates: Sequence[bytes | None], log: LogUpdates = LogUpdates.NONE, message: bytes = b"push"):
        """Prepare and commit; return {name: (reason, detail)} of what was refused."""
        transaction = self.begin(*updates, log=log, message=message)
        refused = transaction.prepare()
        assert transaction.commit() == {}
        assert self.leftovers() == []
        return {name: (error.reason, error.detail) for name, error in refused.items()}

    def leftovers(self) -> list[str]:
        listed = {*self.names(), "tables.list"}
        return [name for name in os.listdir(self.path / "reftable") if name not in listed]

    def names(self) -> list[str]:
        return (self.path / "reftable/tables.list").read_text().split()

    def refs(self) -> dict[bytes, bytes]:
        return {ref.name: ref.oid for ref in self.backend().load().table.iter_refs()}

    def use(self, **options: object) -> None:
        self.options = WriteOptions(sleep=no_sleep, fsync=False, reftable=ReftableOptions(**options))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "r.git")


class NewGit:
    """A git that knows reftables."""

    def __init__(self, program: str) -> None:
        self.program = program
        folder = os.path.dirname(program)
        self.environ = {**ENV, **({"GIT_EXEC_PATH": folder} if folder else {})}

    def __call__(self, path: Path, *arguments: str, input: bytes | None = None) -> str:
        done = subprocess.run(
            [self.program, "-C", str(path), *arguments],
            env=self.environ,
            input=input,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture(scope="session")
def new_git(tmp_path_factory: pytest.TempPathFactory) -> NewGit:
    git = NewGit(os.environ.get("GOVC_TEST_GIT", "git"))
    path = tmp_path_factory.mktemp("probe")
    done = subprocess.run(
        [git.program, "init", "-q", "--bare", "--ref-format=reftable", str(path)],
        env=git.environ,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this git is older than 2.45 and knows no reftables (GOVC_TEST_GIT may name a newer one)")
    return git
