"""The lines of the table in docs/architecture.md ("A snapshot") that are about reftables, as in test_watching.py.

The stack is changed by another process of ours, by dulwich, by a git that knows the format where there is one, and by
hand.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dulwich.repo import Repo as DulwichRepo

from govc.protocol.oid import SHA1
from govc.refs.backend import LogUpdates, Reflogging, ReftableBackend, WriteOptions
from govc.refs.plan import ANY, RefUpdate
from govc.repo.creation import create_repository
from govc.repo.snapshot import Snapshot
from tests.repo.test_watching import WORLDS
from tests.repo.watch_lines import Steps, head, ref, refs, tips, value
from tests.repo.worlds import Site, World, put, repository, swap

Line = Callable[[Site], Steps]
Look = Callable[[Snapshot], Any]


def make_stack(site: Site, name: str = "t.git") -> Path:
    """A reftable repository with the objects of r.git and main at `first`."""
    path = site.folder / name
    create_repository(str(path), SHA1, export=True, allow_push=True, ref_storage="reftable")
    shutil.rmtree(path / "objects")
    shutil.copytree(site.repo / "objects", path / "objects")
    change(path, (b"refs/heads/main", site.first))
    return path


def backend(path: Path) -> ReftableBackend:
    return ReftableBackend(str(path), str(path), SHA1)


def change(path: Path, *values: tuple[bytes, bytes]) -> None:
    """Set refs as another process would: it keeps nothing between two calls."""
    reflogging = Reflogging(committer=b"C <c@example.com>", message=b"x", updates=LogUpdates.NONE)
    with backend(path).begin(WriteOptions(fsync=False), reflogging, None) as transaction:
        for name, oid in values:
            transaction.add(RefUpdate(name, ANY, oid))
        assert transaction.prepare() == {} == transaction.commit()


def by_another_process(site: Site) -> Steps:
    path = make_stack(site)
    yield refs, {"refs/heads/main": site.first}
    change(path, (b"refs/heads/main", site.second))
    yield refs, {"refs/heads/main": site.second}
    change(path, (b"refs/heads/main", site.first))
    yield refs, {"refs/heads/main": site.first}
    change(path, (b"refs/heads/main", SHA1.zero), (b"refs/tags/t", site.tag))
    yield refs, {"refs/tags/t": site.tag}
    backend(path).pack(lambda oid: None, WriteOptions(fsync=False))
    yield refs, {"refs/tags/t": site.tag}
    backend(path).set_symref(b"HEAD", b"refs/heads/side", WriteOptions(fsync=False))
    yield head, b"refs/heads/side"


def by_dulwich(site: Site) -> Steps:
    path = make_stack(site)
    yield refs, {"refs/heads/main": site.first}
    DulwichRepo(str(path)).refs[b"refs/heads/dul"] = site.second.hex().encode()
    yield refs, {"refs/heads/main": site.first, "refs/heads/dul": site.second}
    DulwichRepo(str(path)).refs[b"refs/tags/dul"] = site.tag.hex().encode()
    yield ref("refs/tags/dul"), site.tag


def by_hand(site: Site) -> Steps:
    path = make_stack(site)
    tables_list = path / "reftable/tables.list"
    old = tables_list.read_text()
    change(path, (b"refs/heads/main", site.second))
    new = tables_list.read_text()
    yield ref("refs/heads/main"), site.second
    put(tables_list, old)
    yield ref("refs/heads/main"), site.first
    swap(tables_list, new)
    yield ref("refs/heads/main"), site.second
    tables_list.unlink()
    yield refs, {}
    put(tables_list, old)
    yield ref("refs/heads/main"), site.first
    put(path / "HEAD", "ref: refs/heads/other\n")
    yield head, b"refs/heads/main"  # the file is only there for old programs


def by_replacing_tables_of_one_size(site: Site) -> Steps:
    """Two lists of the same length, written within one tick: only the inode and the settling tell them apart."""
    path = make_stack(site)
    tables_list = path / "reftable/tables.list"
    change(path, (b"refs/heads/main", site.second))
    names = tables_list.read_text().split()
    twin = names[-1][:-12] + "00000000.ref"
    change(path, (b"refs/heads/main", site.first))
    os.rename(path / "reftable" / tables_list.read_text().split()[-1], path / "reftable" / twin)
    first = "\n".join([*names[:-1], names[-1]]) + "\n"
    second = "\n".join([*names[:-1], twin]) + "\n"
    assert len(first) == len(second)
    put(tables_list, first)
    yield ref("refs/heads/main"), site.second
    put(tables_list, second)
    yield ref("refs/heads/main"), site.first
    put(tables_list, first)
    yield ref("refs/heads/main"), site.second


def by_another_storage(site: Site) -> Steps:
    """What `git refs migrate` comes to: the same folder, other files, another configuration."""
    path = make_stack(site)
    config = (path / "config").read_text()
    yield ref("refs/heads/main"), site.first
    (path / "refs/heads").unlink()
    put(path / "refs/heads/main", f"{site.second.hex()}\n")
    put(path / "HEAD", "ref: refs/heads/main\n")
    swap(path / "config", config.replace("refstorage = reftable", "refstorage = files"))
    yield ref("refs/heads/main"), site.second
    swap(path / "config", config)
    yield ref("refs/heads/main"), site.first


def by_an_alternate(site: Site) -> Steps:
    make_stack(site)
    other = make_stack(site, "alternate.git")
    put(site.folder / "t.git/objects/info/alternates", "../../alternate.git/objects\n")
    yield tips, {site.first}
    change(other, (b"refs/heads/main", site.second))
    yield tips, {site.second}


def by_onbranch(site: Site) -> Steps:
    path = make_stack(site)
    put(path / "more", "[probe]\n\tvalue = on side\n")
    with open(path / "config", "a") as file:
        file.write('[includeIf "onbranch:side"]\n\tpath = more\n')
    yield value, None
    backend(path).set_symref(b"HEAD", b"refs/heads/side", WriteOptions(fsync=False))
    yield value, "on side"
    backend(path).set_symref(b"HEAD", b"refs/heads/main", WriteOptions(fsync=False))
    yield value, None


def by_new_git(site: Site) -> Steps:
    path = make_stack(site)
    git = os.environ.get("GOVC_TEST_GIT", "git")

    def run(*arguments: str) -> None:
        done = subprocess.run([git, "-C", str(path), *arguments], capture_output=True, env=site.environ, check=False)
        if b"refstorage" in done.stderr:
            pytest.skip("this git is older than 2.45 and knows no reftables (GOVC_TEST_GIT may name a newer one)")
        assert done.returncode == 0, done.stderr

    run("update-ref", "refs/heads/git", site.second.hex())
    yield ref("refs/heads/git"), site.second
    run("update-ref", "-d", "refs/heads/git")
    yield refs, {"refs/heads/main": site.first}
    run("symbolic-ref", "HEAD", "refs/heads/git")
    yield head, b"refs/heads/git"
    run("pack-refs", "--all")
    yield refs, {"refs/heads/main": site.first}


LINES: dict[str, Line] = {
    "tables.list, by another process": by_another_process,
    "tables.list, by dulwich": by_dulwich,
    "tables.list, by git": by_new_git,
    "tables.list, by hand": by_hand,
    "tables.list, of the same size": by_replacing_tables_of_one_size,
    "another storage": by_another_storage,
    "tables.list of an alternate": by_an_alternate,
    "includeIf onbranch": by_onbranch,
}


@pytest.fixture
def steps_of(site: Site) -> Callable[[str], Iterator[tuple[Look, Any]]]:
    return lambda name: LINES[name](site)


@pytest.mark.parametrize("world_name", WORLDS)
@pytest.mark.parametrize("name", LINES)
def test_the_next_snapshot_sees(
    name: str, world_name: str, site: Site, steps_of: Callable[[str], Iterator[tuple[Look, Any]]]
) -> None:
    grain_ns, has_time, with_inodes = WORLDS[world_name]
    world = World(site.folder, grain_ns, with_inodes=with_inodes)
    watched = None
    for number, (look, expected) in enumerate(steps_of(name)):
        watched = watched or repository(site.folder / "t.git", site.environ, world)
        assert expected == look(watched.snapshot()), f"step {number}"
        if has_time:
            world.advance()
            snapshot = watched.snapshot()
            assert expected == look(snapshot), f"step {number}, later"
            assert snapshot is watched.snapshot()
