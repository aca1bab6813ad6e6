"""Repositories with extensions.refStorage=reftable, made and served by govc, with stock git as the client.

The client needs to know nothing of reftables, and Debian's doesn't: what the server's repository holds is seen through
the protocol, and by dulwich, which reads the format by itself.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dulwich.repo import Repo as DulwichRepo

from compat.conftest import Server
from compat.gitclient import Git
from compat.rawhttp import request
from govc.protocol.oid import SHA1
from govc.refs.reftable.merged import merge_logs
from govc.refs.reftable.stack import Stack


class Reftable:
    """A reftable repository in the served folder."""

    def __init__(self, server: Server, name: str, *, object_format: str = "sha1", config: str = "") -> None:
        self.path = server.root / name
        self.url = f"{server.url}/{name}"
        self.git = server.git
        run = [sys.executable, "-m", "govc", "init", str(self.path), "--ref-format=reftable", "--export"]
        subprocess.run([*run, "--allow-push", f"--object-format={object_format}"], check=True, capture_output=True)
        with open(self.path / "config", "a") as file:
            file.write(config)

    def refs(self) -> dict[str, str]:
        """What the server says, without peeled lines and HEAD."""
        lines = self.git("ls-remote", self.url).stdout.splitlines()
        refs = dict(reversed(line.split("\t")) for line in lines)
        return {name: oid for name, oid in refs.items() if name != "HEAD" and not name.endswith("^{}")}

    def tables(self) -> list[str]:
        return (self.path / "reftable/tables.list").read_text().split()


def seed(server: Server, git: Git, repo: Reftable, template: str = "merges", object_format: str = "sha1") -> None:
    source = server.create_repo(template, object_format=object_format)
    git("clone", "-q", "--mirror", source.url, "seed")
    git("push", "-q", "--mirror", repo.url, cwd="seed")
    assert source.refs() == repo.refs()


@pytest.mark.every_frontend
@pytest.mark.rows("FS-46", "FS-58")
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_clone_fetch_and_push(server: Server, git: Git, object_format: str) -> None:
    repo = Reftable(server, f"rt-{object_format}-{server.name}.git", object_format=object_format)
    seed(server, git, repo, object_format=object_format)
    git("clone", "-q", repo.url, "clone")
    git.fsck("clone")
    tip = git.commit_file("clone", "new.txt", "new")
    git("tag", "-a", "-m", "t", "annotated", cwd="clone")
    git("push", "-q", "origin", "HEAD:refs/heads/main", "HEAD:refs/heads/round/trip", "annotated", cwd="clone")
    refs = repo.refs()
    assert tip == refs["refs/heads/main"] == refs["refs/heads/round/trip"]
    peeled = git("ls-remote", repo.url, "refs/tags/annotated^{}").stdout.split()[0]
    assert tip == peeled
    git("push", "-q", "origin", ":refs/heads/round/trip", cwd="clone")
    git("clone", "-q", "--mirror", repo.url, "again")
    assert repo.refs() == git.refs("again")
    assert "refs/heads/round/trip" not in repo.refs()
    assert request(repo.url, "GET", "/HEAD").body == b"ref: refs/heads/main\n"


@pytest.mark.rows("FS-46")
def test_dulwich_reads_what_a_push_left(server: Server, git: Git) -> None:
    repo = Reftable(server, "rt-dulwich.git")
    seed(server, git, repo)
    seen = DulwichRepo(str(repo.path)).refs
    for name, oid in repo.refs().items():
        assert seen[name.encode()] == oid.encode()
    assert seen.get_symrefs()[b"HEAD"] == b"refs/heads/main"


@pytest.mark.rows("RP-56", "RP-57", "RP-60", "FS-48")
def test_refusals_and_atomic_pushes(server: Server, git: Git) -> None:
    repo = Reftable(server, "rt-refusals.git")
    seed(server, git, repo)
    git("clone", "-q", repo.url, "clone")
    before = repo.refs()
    git("branch", "side", cwd="clone")
    failed = git("push", "origin", "side:refs/heads/main/below", "side:refs/heads/fine", cwd="clone", check=False)
    assert failed.code != 0
    assert "main/below (refname conflict)" in failed.stderr
    assert set(before) | {"refs/heads/fine"} == set(repo.refs())
    failed = git("push", "--atomic", "origin", "side:refs/heads/x", "side:refs/heads/main/b", cwd="clone", check=False)
    assert failed.code != 0
    assert "refs/heads/x" not in repo.refs()
    git("push", "-q", "origin", ":refs/heads/fine", "side:refs/heads/fine/now", cwd="clone")
    assert "refs/heads/fine/now" in repo.refs()


@pytest.mark.rows("RP-92", "FS-47")
@pytest.mark.parametrize("has_hook", [False, True])
def test_parallel_pushes_all_succeed_and_leave_few_tables(server: Server, git: Git, has_hook: bool) -> None:
    """With a hook that is asked under the lock, and more pushes at once than a worker has threads for files.

    Whoever holds the lock may stand still for longer than the second after which it is given up, in a hook, in a sync
    or on a busy machine: another test has that.
    """
    repo = Reftable(server, f"rt-parallel-{has_hook}.git", config="[reftable]\n\tlockTimeout = 60000\n")
    seed(server, git, repo)
    git("clone", "-q", repo.url, "clone")
    if has_hook:
        (repo.path / "hooks").mkdir(exist_ok=True)
        hook = repo.path / "hooks/reference-transaction"
        hook.write_text("#!/bin/sh\nexec cat > /dev/null\n")
        hook.chmod(0o755)

    def push(number: int) -> str:
        return git("push", "-q", "origin", f"HEAD:refs/heads/p{number}", cwd="clone", check=False).stderr

    with ThreadPoolExecutor(24 if has_hook else 8) as pool:
        assert set(pool.map(push, range(24))) == {""}
    assert {f"refs/heads/p{number}" for number in range(24)} <= set(repo.refs())
    assert len(repo.tables()) <= 8
    left = [path.name for path in Path(repo.path / "reftable").iterdir() if path.name not in repo.tables()]
    assert left == ["tables.list"]


@pytest.mark.rows("FS-44", "RP-90", "RP-91", "RP-66")
def test_reflogs(server: Server, git: Git) -> None:
    repo = Reftable(server, "rt-reflogs.git", config="[core]\n\tlogAllRefUpdates = true\n")
    seed(server, git, repo, "small")
    git("clone", "-q", repo.url, "clone")
    old = repo.refs()["refs/heads/main"]
    tip = git.commit_file("clone", "new.txt", "new")
    git("push", "-q", "origin", "HEAD:main", cwd="clone")
    tables = Stack(str(repo.path / "reftable"), SHA1).open_tables()
    for name in b"refs/heads/main", b"HEAD":
        newest = next(merge_logs(tables, name, drop_tombstones=True)).entry
        assert newest is not None
        assert (old, tip, b"push\n") == (newest.old.hex(), newest.new.hex(), newest.message)
