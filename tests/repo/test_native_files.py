"""What our maintenance leaves for plain git: git verifies it, and writes the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import govc.odb.midx as midx
import govc.repo.bitmap_writing as bitmap_writing
import govc.repo.native_files as native_files
from govc.errors import Corrupt
from govc.odb.cache import BaseCache
from govc.odb.midx import MultiPackIndex, read_multi_pack_index
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1, SHA256
from govc.repo.maintenance import maintain_path
from govc.repo.repository import Repository, Surroundings

ENVIRON = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}


def git(path: Path, *arguments: str, check: bool = True) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{role}_{part}": "x@y" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *arguments], cwd=path, env=env, capture_output=True, check=check, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packs, one of them with objects that another has too; no .rev, no graph."""
    folder = tmp_path_factory.mktemp("native")
    work = folder / "work"
    git(folder, "init", "-q", f"--object-format={request.param}", str(work))
    git(work, "config", "gc.auto", "0")
    git(work, "config", "pack.writeReverseIndex", "false")
    # Each at least twice as large as the one before, so that none of them is merged.
    for count in (3, 15, 45):
        for n in range(count):
            (work / f"f{n % 9}").write_text(f"{count} {n}")
            git(work, "add", ".")
            git(work, "commit", "-q", "-m", f"{count} {n}")
        git(work, "repack", "-q", "-d" if count < 45 else "-a")
    git(work, "config", "core.bare", "true")
    git(work, "config", "--unset", "pack.writeReverseIndex")
    return work / ".git"


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A copy of the template."""
    bare = tmp_path / "bare.git"
    shutil.copytree(template, bare)
    # Of two copies of an object git takes the one in the younger pack, and between packs of one second the one that
    # the folder happens to list first: which nobody can repeat.
    for number, pack in enumerate(sorted((bare / "objects/pack").glob("*.pack"))):
        os.utime(pack, (1_700_000_000 + number,) * 2)
    return bare


def algo_of(path: Path):
    return SHA256 if git(path, "rev-parse", "--show-object-format") == "sha256" else SHA1


@pytest.mark.rows("FS-13", "FS-19", "FS-24", "CF-54", "CF-55", "CF-68", "CF-73", "RP-88")
@pytest.mark.parametrize("bitmaps", ["true", "false"])
def test_git_verifies_what_maintenance_writes(repository: Path, bitmaps: str) -> None:
    git(repository, "config", "repack.writeBitmaps", bitmaps)
    largest = max(
        (repository / "objects/pack").glob("*.pack"), key=lambda path: path.with_suffix(".idx").stat().st_size
    )
    report = maintain_path(str(repository), ENVIRON)
    assert report.commits_graphed == int(git(repository, "rev-list", "--count", "--all"))
    assert report.packs_indexed == len(list((repository / "objects/pack").glob("*.pack"))) > 1
    assert report.reverse_indexes == report.packs_indexed
    git(repository, "commit-graph", "verify")
    git(repository, "multi-pack-index", "verify")
    git(repository, "fsck", "--full", "--strict")
    for name in ("commit-graph", "multi-pack-index"):
        (path,) = (repository / "objects").rglob(name)
        ours = path.read_bytes()
        path.unlink()
        options = ["--reachable"] if name == "commit-graph" else []
        if name == "multi-pack-index" and bitmaps == "true":
            options = ["--bitmap", f"--preferred-pack={largest.name}"]
        git(repository, name, "write", *options)
        assert path.read_bytes() == ours
    for rev in (repository / "objects/pack").glob("*.rev"):
        ours = rev.read_bytes()
        rev.unlink()
        git(repository, "index-pack", "--rev-index", str(rev.with_suffix(".pack")))
        assert rev.read_bytes() == ours
    # What is there already is left alone.
    again = maintain_path(str(repository), ENVIRON)
    assert (again.commits_graphed, again.packs_indexed, again.reverse_indexes) == (0, 0, 0)
    assert again.commits_bitmapped == 0


@pytest.mark.parametrize("bitmaps", ["true", "false"])
def test_git_that_repacks_beside_it_ends_no_maintenance(
    repository: Path, bitmaps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "config", "repack.writeBitmaps", bitmaps)
    listed = midx.list_objects

    def repack_first(packs, *preferred):
        git(repository, "repack", "-adq")
        return listed(packs, *preferred)

    for module in (native_files, bitmap_writing):
        monkeypatch.setattr(module, "list_objects", repack_first)
    assert maintain_path(str(repository), ENVIRON).packs_indexed == 0
    assert len(list((repository / "objects/pack").glob("*.pack"))) == 1
    assert not (repository / "objects/pack/multi-pack-index").exists()
    git(repository, "fsck", "--full", "--strict")


@pytest.mark.rows("FS-26", "CF-54", "CF-55", "CF-68")
def test_settings_and_other_parents_forbid(repository: Path) -> None:
    for key in ("core.multiPackIndex", "pack.writeReverseIndex", "gc.writeCommitGraph"):
        git(repository, "config", key, "false")
    report = maintain_path(str(repository), ENVIRON)
    assert (report.commits_graphed, report.packs_indexed, report.reverse_indexes) == (0, 0, 0)
    git(repository, "config", "gc.writeCommitGraph", "true")
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info/grafts").write_text(git(repository, "rev-parse", "HEAD") + "\n")
    assert maintain_path(str(repository), ENVIRON).commits_graphed == 0
    (repository / "info/grafts").unlink()
    git(repository, "replace", "--graft", "HEAD")
    assert maintain_path(str(repository), ENVIRON).commits_graphed == 0


@pytest.mark.rows("FS-26", "FS-24", "CF-54")
@pytest.mark.parametrize("kind", ["shallow", "grafts", "replace", "core.commitGraph"])
def test_a_commit_graph_is_read_only_where_parents_are_what_commits_say(repository: Path, kind: str) -> None:
    git(repository, "commit-graph", "write", "--reachable")
    around = Surroundings(environ=ENVIRON, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    opened = Repository(str(repository), around)
    assert len(opened.snapshot().commits.graphs) == 1
    cut = git(repository, "rev-parse", "HEAD~3")
    if kind == "replace":
        git(repository, "replace", "--graft", cut)
    elif kind == "core.commitGraph":
        git(repository, "config", kind, "false")
    else:
        place = repository / ("shallow" if kind == "shallow" else "info/grafts")
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{cut}\n")
    assert opened.snapshot().commits.graphs == ()


@pytest.mark.rows("FS-66")
def test_a_foreign_lock_is_left_alone(repository: Path) -> None:
    for name in ("objects/info/commit-graph.lock", "objects/pack/multi-pack-index.lock"):
        (repository / name).write_text("mine")
    report = maintain_path(str(repository), ENVIRON)
    assert (report.commits_graphed, report.packs_indexed) == (0, 0)
    assert (repository / "objects/info/commit-graph.lock").read_text() == "mine"


def test_a_missing_commit_stops_the_graph_only(repository: Path) -> None:
    store = ObjectStore.open(str(repository / "objects"), algo_of(repository))
    assert store.packs
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "unpack-objects", "-q", check=False)
    lost = git(repository, "commit-tree", "-m", "x", f"{head}^{{tree}}", "-p", head)
    child = git(repository, "commit-tree", "-m", "y", f"{head}^{{tree}}", "-p", lost)
    git(repository, "update-ref", "refs/heads/broken", child)
    (repository / "objects" / lost[:2] / lost[2:]).unlink()
    report = maintain_path(str(repository), ENVIRON)
    assert report.commits_graphed == 0
    assert report.packs_indexed > 1


@pytest.mark.rows("FS-25")
def test_a_chain_of_git_gives_way(repository: Path) -> None:
    git(repository, "commit-graph", "write", "--reachable", "--split")
    git(repository, "update-ref", "refs/heads/other", "HEAD~1")
    head = git(repository, "rev-parse", "HEAD")
    for n in range(8):
        head = git(repository, "commit-tree", "-m", str(n), f"{head}^{{tree}}", "-p", head)
    git(repository, "update-ref", "refs/heads/other", head)
    assert maintain_path(str(repository), ENVIRON).commits_graphed > 8
    assert list((repository / "objects/info").rglob("graph-*.graph")) == []
    git(repository, "commit-graph", "verify")


@pytest.mark.rows("FS-19")
def test_every_object_is_where_the_index_says(repository: Path) -> None:
    git(repository, "multi-pack-index", "write")
    algo = algo_of(repository)
    index = read_multi_pack_index(str(repository / "objects"), algo)
    assert index is not None and index.is_whole()
    store = ObjectStore.open(str(repository / "objects"), algo)
    by_name = {os.path.basename(pack.path).removesuffix(".pack") + ".idx": pack for pack in store.packs}
    assert set(index.packs) == set(by_name)
    for pack in store.packs:
        for oid in pack.index.iter_oids():
            place = index.find(oid)
            assert place is not None
            other = by_name[place.pack]
            assert other.index.offset_at(other.index.find(oid)) == place.offset
    assert index.find(bytes(algo.oid_size)) is None


@given(st.data())
def test_property_arbitrary_damage_of_an_index_is_corrupt_or_nothing(sample_index: bytes, data) -> None:
    damaged = bytearray(sample_index)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        index = MultiPackIndex(bytes(damaged), SHA1)
        for byte in range(0, 256, 16):
            index.find(bytes([byte]) * 20)
    except Corrupt:
        return


@pytest.fixture(scope="module")
def sample_index(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("index")
    git(path, "init", "-q", ".")
    for n in range(2):
        (path / "f").write_text(str(n))
        git(path, "add", ".")
        git(path, "commit", "-q", "-m", str(n))
        git(path, "repack", "-q", "-d")
    git(path, "multi-pack-index", "write")
    return (path / ".git/objects/pack/multi-pack-index").read_bytes()
