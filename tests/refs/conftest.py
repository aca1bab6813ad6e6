"""Repositories made by git, and transactions with a still clock."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from govc.protocol.oid import SHA1
from govc.refs.database import RefDatabase

ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


class Repo:
    """A bare repository of two commits, `first` and `second`, and a tag object of the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, env=ENV)
        tree = self.git("mktree", input=b"").strip()
        self.first = bytes.fromhex(self.git("commit-tree", tree, "-m", "1").strip())
        self.second = bytes.fromhex(self.git("commit-tree", tree, "-p", self.first.hex(), "-m", "2").strip())
        tag = b"object %b\ntype commit\ntag t\ntagger C <c@example.com> 1700000000 +0000\n\nt\n"
        self.tag = bytes.fromhex(self.git("mktag", input=tag % self.first.hex().encode()).strip())

    def git(self, *arguments: str, input: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], check=True, env=ENV, input=input, capture_output=True
        )
        return done.stdout.decode("utf-8", "surrogateescape")

    def refs(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)

    def database(self, **options: Callable[..., object]) -> RefDatabase:
        return RefDatabase(str(self.path), str(self.path), SHA1, **options)  # type: ignore[arg-type]

    def peel(self, oid: bytes) -> bytes | None:
        return self.first if oid == self.tag else None


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "r.git")
