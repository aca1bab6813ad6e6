"""A received pack that has no folder to itself."""

import os
import stat
from pathlib import Path

import pytest

from govc.odb import packs
from govc.odb.leftovers import find_leftovers
from govc.odb.lone_pack import LonePack, open_lone_pack, temporary_names
from govc.odb.packs import PackFile
from govc.odb.quarantine import STALE_SECONDS, MigrationFailed
from govc.odb.store import ObjectStore
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1

MESSAGE = "govc receive-pack 7"


@pytest.fixture
def own_path(tmp_path):
    """Another name for a .keep, as the log gives it."""
    return lambda: str(tmp_path / "target.git" / "own.1")


def receive(lone: LonePack, data: bytes) -> str:
    """Receive and index, as `repo.receiving` does; the path of the pack."""
    fd, path = lone.create_pack_file()
    with open(fd, "r+b") as file:
        file.write(data)
        file.flush()
        indexed = index_pack(fd, SHA1)
    names = temporary_names(path)
    indexed.write_reverse_index(names[".rev"])
    indexed.write_index(names[".idx"])
    lone.checksum = indexed.pack_checksum
    return path


def tree(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names}


@pytest.mark.rows("RP-29", "RP-33")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_nothing_is_to_be_found_until_migrated_and_then_all_is(umask, target, pack_bytes, git, own_path):
    before, folders = tree(target), sorted(os.listdir(target))
    store = ObjectStore.open(str(target), SHA1)
    old = os.umask(umask)
    try:
        with LonePack(str(target)) as lone:
            path = receive(lone, pack_bytes)
            assert 0o600 == stat.S_IMODE(os.stat(path).st_mode)
            assert folders == sorted(os.listdir(target))
            top = store.overlaid_by(open_lone_pack(path, lone.checksum, SHA1))
            oid = next(top.iter_oids())
            assert top.is_overlaid(top.find(oid))
            assert not store.contains(oid)
            assert 0 == len(ObjectStore.open(str(target), SHA1).packs)
            assert b"count: 0\n" in git(target.parent, "count-objects", "-v")
            migration = lone.migrate(MESSAGE, next_own_path=own_path)
    finally:
        os.umask(old)
    stem = f"{target}/pack/pack-{lone.checksum.hex()}"
    assert (f"{stem}.pack",) == migration.pack_paths
    assert {".idx", ".keep", ".pack", ".rev"} == {os.path.splitext(name)[1] for name in tree(target) - before}
    assert {0o444 & ~umask} == {stat.S_IMODE(os.stat(stem + suffix).st_mode) for suffix in (".pack", ".rev", ".idx")}
    assert f"{MESSAGE}\n" == Path(f"{stem}.keep").read_text()
    assert store.contains(oid)
    migration.release_keep()
    assert not os.path.exists(f"{stem}.keep")
    git(target.parent, "verify-pack", f"{stem}.idx")
    git(target.parent, "fsck", "--full", "--strict")


@pytest.mark.rows("RP-33")
def test_leaving_the_block_in_any_way_removes_everything(target, pack_bytes):
    before = tree(target)
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
    with pytest.raises(KeyboardInterrupt), LonePack(str(target)) as lone:
        lone.create_pack_file()
        raise KeyboardInterrupt
    lone.discard()
    assert before == tree(target)


def test_the_keep_is_a_further_name_of_a_file_that_stays(target, pack_bytes, own_path):
    known = target.parent / "owner"
    known.write_text(f"{MESSAGE}\n")
    os.utime(known, (1, 1))
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        migration = lone.migrate(MESSAGE, next_own_path=own_path, known_as=str(known))
    keep = f"{target}/pack/pack-{lone.checksum.hex()}.keep"
    assert os.path.samefile(known, keep)
    assert not os.path.exists(own_path())
    assert [] == find_leftovers(str(target))  # however old the file is, this is a young name of it
    migration.release_keep()
    assert not os.path.exists(keep)
    assert f"{MESSAGE}\n" == known.read_text()


def test_a_keep_is_a_file_by_itself_where_the_known_one_is_gone(target, pack_bytes, own_path):
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        migration = lone.migrate(MESSAGE, next_own_path=own_path, known_as=str(target / "gone"))
    keep = f"{target}/pack/pack-{lone.checksum.hex()}.keep"
    assert os.path.samefile(own_path(), keep)
    migration.release_keep()
    assert not os.path.exists(own_path())


def test_a_keep_of_somebody_else_stays(target, pack_bytes, own_path):
    known = target.parent / "owner"
    known.write_text(f"{MESSAGE}\n")
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        keep = target / "pack" / f"pack-{lone.checksum.hex()}.keep"
        keep.write_text("mine\n")
        lone.migrate(MESSAGE, next_own_path=own_path, known_as=str(known)).release_keep()
    assert "mine\n" == keep.read_text()


def test_pack_that_is_there_already_stays_and_another_of_that_name_is_refused(target, pack_bytes, own_path):
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        [path] = lone.migrate(MESSAGE, next_own_path=own_path).pack_paths
    inode = os.stat(path).st_ino
    os.unlink(path.replace(".pack", ".keep"))
    os.unlink(own_path())
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        assert (path,) == lone.migrate(MESSAGE, next_own_path=own_path).pack_paths
    assert inode == os.stat(path).st_ino
    os.unlink(path.replace(".pack", ".keep"))
    os.unlink(own_path())
    os.unlink(path)
    Path(path).write_bytes(b"another")
    before = tree(target)
    with LonePack(str(target)) as lone, pytest.raises(MigrationFailed):
        receive(lone, pack_bytes)
        lone.migrate(MESSAGE, next_own_path=own_path)
    assert before == tree(target)


def test_what_a_kill_leaves_goes_after_a_day_and_by_git_prune(target, pack_bytes, git):
    lone = LonePack(str(target))
    path = receive(lone, pack_bytes)
    later = os.stat(path).st_mtime + STALE_SECONDS + 60
    assert [] == find_leftovers(str(target))
    assert sorted(temporary_names(path).values()) == find_leftovers(str(target), now_seconds=later)
    git(target.parent, "prune", "--expire=now")
    assert set() == tree(target)


def test_nothing_on_top_is_nothing(target, pack_bytes, own_path):
    with LonePack(str(target)) as lone:
        receive(lone, pack_bytes)
        lone.migrate(MESSAGE, next_own_path=own_path)
    store = ObjectStore.open(str(target), SHA1)
    top = store.overlaid_by(None)
    assert sorted(store.iter_oids()) == sorted(top.iter_oids())
    assert not any(top.is_overlaid(top.find(oid)) for oid in store.iter_oids())


def test_open_pack_is_taken_over_when_it_is_found(target, pack_bytes, own_path, monkeypatch):
    store = ObjectStore.open(str(target), SHA1)
    with LonePack(str(target)) as lone:
        path = receive(lone, pack_bytes)
        pack = open_lone_pack(path, lone.checksum, SHA1)
        lone.migrate(MESSAGE, next_own_path=own_path)
    store.expect(pack)
    opened = []
    true_open = PackFile.open
    monkeypatch.setattr(packs.PackFile, "open", lambda *args, **more: opened.append(args) or true_open(*args, **more))
    assert store.refresh()
    assert [] == opened
    [found] = store.packs
    assert pack.serial == found.serial
    assert pack_bytes == found.read_at(0, found.size)


def test_open_pack_is_not_taken_over_when_another_file_lies_there(target, pack_bytes, own_path):
    store = ObjectStore.open(str(target), SHA1)
    with LonePack(str(target)) as lone:
        path = receive(lone, pack_bytes)
        pack = open_lone_pack(path, lone.checksum, SHA1)
        [path] = lone.migrate(MESSAGE, next_own_path=own_path).pack_paths
    data = Path(path).read_bytes()
    os.rename(path, f"{path}.old")
    Path(path).write_bytes(data)
    store.expect(pack)
    assert store.refresh()
    [found] = store.packs
    assert pack.serial != found.serial
