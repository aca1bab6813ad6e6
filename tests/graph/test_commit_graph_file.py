"""git's commit-graph: written as git writes it, read as git reads it, and believed only as far as it makes sense."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.errors import Corrupt
from govc.graph.commit_graph_file import CommitRow, encode_commit_graph, open_commit_graph
from govc.protocol.oid import SHA1


def git(path: Path, *arguments: str, input: bytes = b"") -> bytes:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{role}_{part}": "x@y" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return subprocess.run(["git", *arguments], cwd=path, env=env, input=input, capture_output=True, check=True).stdout


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines, merges, an octopus, and clocks that run backwards, in git's hands."""
    path = tmp_path_factory.mktemp("graph") / "r.git"
    git(path.parent, "init", "-q", "--bare", f"--object-format={request.param}", str(path))
    stream = []
    for n in range(60):
        when = 1_600_000_000 - 1000 * n if 20 < n < 30 else 1_600_000_000 + 60 * n
        stream.append(f"commit refs/heads/b{n % 4}\nmark :{n + 1}\ncommitter C <c@d> {when} +0100\ndata 1\nx\n")
        if n >= 4:
            stream.append(f"from :{n - 3}\n")
        if n % 7 == 0 and n > 8:
            stream.append(f"merge :{n - 1}\n")
        if n % 20 == 0 and n > 8:
            stream.append(f"merge :{n - 5}\nmerge :{n - 6}\n")
        stream.append(f"M 644 inline f{n % 5}\ndata 3\n{n:03}\n")
    git(path, "fast-import", "--quiet", input="".join(stream).encode())
    return path


def rows_of(path: Path) -> list[CommitRow]:
    out = git(path, "rev-list", "--all", "--format=%H %T %ct %P", "--no-commit-header").decode()
    rows = []
    for line in out.splitlines():
        oid, tree, time, *parents = line.split()
        rows.append(CommitRow(*map(bytes.fromhex, (oid, tree)), tuple(map(bytes.fromhex, parents)), int(time)))
    return rows


def algo_of(path: Path):
    from govc.protocol.oid import find_algorithm

    found = find_algorithm(git(path, "rev-parse", "--show-object-format").decode().strip())
    assert found is not None
    return found


@pytest.mark.rows("FS-24", "FS-54")
def test_what_we_write_is_what_git_writes(repository: Path) -> None:
    file = repository / "objects/info/commit-graph"
    git(repository, "commit-graph", "write", "--reachable")
    theirs = file.read_bytes()
    assert b"".join(encode_commit_graph(rows_of(repository), algo_of(repository))) == theirs
    file.unlink()


@pytest.mark.rows("FS-24", "FS-25")
@pytest.mark.parametrize("split", [False, True])
def test_what_git_writes_is_read(repository: Path, split: bool) -> None:
    tips = git(repository, "for-each-ref", "--format=%(objectname)").decode().split()
    if split:
        for count in (1, 2, 4):
            text = "\n".join(tips[:count]) + "\n"
            git(repository, "commit-graph", "write", "--stdin-commits", "--split=no-merge", input=text.encode())
    else:
        git(repository, "commit-graph", "write", "--reachable", "--changed-paths")
    graph = open_commit_graph(str(repository / "objects"), algo_of(repository))
    assert graph is not None
    rows = rows_of(repository)
    assert graph.is_split == split
    assert len(graph) == len(rows)
    for row in rows:
        found = graph.find(row.oid)
        assert found is not None
        assert (found.tree, found.parents, found.time) == (row.tree, row.parents, row.time)
        assert found.level > max((graph.find(parent).level for parent in row.parents), default=0)  # type: ignore[union-attr]
    assert graph.find(bytes(len(rows[0].oid))) is None
    for file in (repository / "objects/info").rglob("*graph*"):
        if file.is_file():
            file.unlink()


def test_none_is_none(tmp_path: Path) -> None:
    assert open_commit_graph(str(tmp_path), SHA1) is None


def sample() -> bytes:
    oids = [bytes([n]) * 20 for n in range(1, 9)]
    rows = [CommitRow(oid, oid[::-1], tuple(oids[:n][-5:]), 1000 + n) for n, oid in enumerate(oids)]
    return b"".join(encode_commit_graph(rows, SHA1))


@given(st.data())
def test_property_arbitrary_damage_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    """Whatever a file holds: it is left alone, or answers come, or Corrupt does. The checksum is made right."""
    whole = bytearray(sample()[:-20])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp() / "damaged"
    (folder / "info").mkdir(parents=True, exist_ok=True)
    (folder / "info/commit-graph").write_bytes(bytes(whole) + SHA1.new(bytes(whole)).digest())
    graph = open_commit_graph(str(folder), SHA1)
    for n in range(1, 9):
        try:
            found = graph.find(bytes([n]) * 20) if graph is not None else None
        except Corrupt:
            continue
        assert found is None or len(found.tree) == 20


def test_an_octopus_and_times_beyond_their_bits(tmp_path: Path) -> None:
    oids = [bytes([n]) * 20 for n in range(1, 7)]
    rows = [CommitRow(oid, oid, (), time) for oid, time in zip(oids, (0, 1 << 33, 5, 6, 7, 8), strict=True)][:5]
    rows.append(CommitRow(oids[5], oids[5], tuple(oids[:5]), 1))
    (tmp_path / "info").mkdir()
    (tmp_path / "info/commit-graph").write_bytes(b"".join(encode_commit_graph(rows, SHA1)))
    graph = open_commit_graph(str(tmp_path), SHA1)
    assert graph is not None
    assert graph.find(oids[5]) == (oids[5], tuple(oids[:5]), 1, 2)
    assert graph.find(oids[1]) == (oids[1], (), 1 << 33, 1)
