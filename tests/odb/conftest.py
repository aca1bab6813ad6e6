"""Repositories made by git, for the tests of this room."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., bytes]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Return a function that runs git in a folder, with nobody's configuration."""
    home = tmp_path / "home"
    home.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "C",
        "GIT_COMMITTER_EMAIL": "c@example.com",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    }

    def run(folder: Path | str, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        done = subprocess.run(
            ["git", *args],
            cwd=folder,
            input=stdin,
            capture_output=True,
            env=environ | (env or {}),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def history(commits: int, *, ref: str = "refs/heads/main", name: str = "f") -> bytes:
    """Return a fast-import stream: a growing file, a small one for each commit, and a tag at the end."""
    lines: list[bytes] = []
    out = []
    for i in range(commits):
        lines.insert(i // 2, b"line %d of %s, which is long enough to be worth a delta\n" % (i, name.encode()))
        big, small = b"".join(lines), b"small %d\n" % i
        out.append(
            b"commit %s\nmark :%d\ncommitter C <c@example.com> %d +0000\ndata 4\nc%03d\n"
            % (ref.encode(), i + 1, 1700000000 + i, i)
            + b"M 100644 inline dir/%s\ndata %d\n%s\n" % (name.encode(), len(big), big)
            + b"M 100644 inline dir/small%d\ndata %d\n%s\n" % (i % 7, len(small), small)
        )
    out.append(b"tag v-%s\nfrom :%d\ntagger C <c@example.com> 1700000000 +0000\ndata 2\nt\n" % (name.encode(), commits))
    return b"".join(out)


@pytest.fixture
def make_repository(tmp_path: Path, git: Git) -> Callable[..., Path]:
    """Return a function that makes a bare repository with a linear history, in one pack."""

    def make(name: str = "r.git", *, commits: int = 60, object_format: str = "sha1", file: str = "f") -> Path:
        path = tmp_path / name
        git(tmp_path, "init", "-q", "--bare", f"--object-format={object_format}", str(path))
        git(path, "config", "gc.auto", "0")
        git(path, "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", stdin=history(commits, name=file))
        return path

    return make


@pytest.fixture
def cat_all(git: Git) -> Callable[[Path], dict[bytes, tuple[bytes, bytes]]]:
    """Return a function that reads every object with git: oid -> (type name, content)."""

    def cat(path: Path) -> dict[bytes, tuple[bytes, bytes]]:
        data = git(path, "cat-file", "--batch", "--batch-all-objects")
        objects = {}
        pos = 0
        while pos < len(data):
            end = data.index(b"\n", pos)
            digits, kind, size = data[pos:end].split()
            objects[bytes.fromhex(digits.decode())] = (kind, data[end + 1 : end + 1 + int(size)])
            pos = end + 2 + int(size)
        return objects

    return cat


@pytest.fixture
def target(tmp_path: Path, git: Git) -> Path:
    """Return the folder of objects of a new repository."""
    git(tmp_path, "init", "-q", "--bare", "target.git")
    return tmp_path / "target.git/objects"


@pytest.fixture
def pack_bytes(make_repository: Callable[..., Path]) -> bytes:
    """Return the one pack of a repository of twenty commits."""
    path = make_repository("source.git", commits=20)
    [pack] = (path / "objects/pack").glob("*.pack")
    return pack.read_bytes()
