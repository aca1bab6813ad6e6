import os
import stat
import time
from pathlib import Path

import pytest

import govc.odb.files as files
import govc.odb.quarantine as quarantine_module
from govc.objects.types import BLOB, hash_object
from govc.odb.leftovers import remove_leftovers
from govc.odb.modes import FileModes
from govc.odb.quarantine import (
    KEEP_PREFIX,
    PREFIX,
    STALE_SECONDS,
    MigrationFailed,
    Quarantine,
    remove_stale_quarantines,
    stale_quarantines,
)
from govc.odb.store import ObjectStore
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1


def receive(quarantine: Quarantine, data: bytes) -> str:
    fd, path = quarantine.create_pack_file()
    with open(fd, "r+b") as file:
        file.write(data)
        file.flush()
        indexed = index_pack(fd, SHA1)
    return quarantine.add_pack(path, indexed)


def tree(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names}


@pytest.mark.rows("RP-29", "RP-33", "SEC-36")
def test_nothing_is_visible_until_migrated_and_then_all_is(target, pack_bytes, git):
    before = tree(target)
    store = ObjectStore.open(str(target), SHA1)
    with Quarantine(str(target)) as quarantine:
        assert 0o700 == stat.S_IMODE(os.stat(quarantine.path).st_mode)
        assert os.path.basename(quarantine.path).startswith(PREFIX)
        receive(quarantine, pack_bytes)
        top = store.overlaid(quarantine.path)
        oid = next(top.iter_oids())
        assert not store.contains(oid)
        assert top.is_overlaid(top.find(oid))
        migration = quarantine.migrate("govc receive-pack 7", fsync=True)
        assert not os.path.exists(quarantine.path)
    [path] = migration.pack_paths
    stem = path.removesuffix(".pack")
    assert {".idx", ".keep", ".pack", ".rev"} == {os.path.splitext(name)[1] for name in tree(target) - before}
    assert "govc receive-pack 7\n" == Path(f"{stem}.keep").read_text()
    assert store.contains(oid)
    assert {0o444} == {stat.S_IMODE(os.stat(stem + suffix).st_mode) for suffix in (".pack", ".rev", ".idx")}
    migration.release_keep()
    migration.release_keep()
    assert not os.path.exists(f"{stem}.keep")
    git(target.parent, "verify-pack", f"{stem}.idx")
    git(target.parent, "fsck", "--full", "--strict")


@pytest.mark.rows("RP-33", "RP-100")
def test_leaving_the_block_in_any_way_removes_everything(target, pack_bytes):
    before = tree(target)
    with Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
    assert before == tree(target)
    with pytest.raises(KeyboardInterrupt), Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
        raise KeyboardInterrupt
    quarantine.discard()
    assert before == tree(target)
    assert [] == [name for name in os.listdir(target) if name.startswith(PREFIX)]


def names_of_placed(monkeypatch, target: Path) -> list[str]:
    """Record the names that appear in the repository, in their order."""
    seen: list[str] = []
    true_link, true_open = os.link, os.open

    def link(source, to, **options):
        true_link(source, to, **options)
        seen.append(os.path.relpath(to, target))

    def open_(path, flags, *mode, **options):
        fd = true_open(path, flags, *mode, **options)
        if flags & os.O_CREAT and str(path).endswith(".keep"):
            seen.append(os.path.relpath(path, target))
        return fd

    monkeypatch.setattr(files.os, "link", link)
    monkeypatch.setattr(quarantine_module.os, "open", open_)
    return seen


@pytest.mark.rows("RP-36", "RP-37")
def test_keep_comes_first_then_loose_objects_then_the_pack_and_its_index_last(target, pack_bytes, git, monkeypatch):
    with Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
        hook_env = quarantine.environment()
        git(target.parent, "hash-object", "-w", "--stdin", stdin=b"by a hook\n", env=hook_env)
        assert b"commit" == git(target.parent, "cat-file", "-t", first_commit(quarantine), env=hook_env).strip()
        seen = names_of_placed(monkeypatch, target)
        quarantine.migrate()
    assert [".keep", "", ".pack", ".rev", ".idx"] == [os.path.splitext(name)[1] for name in seen]
    assert hash_object(SHA1, BLOB, b"by a hook\n").hex() == seen[1].replace("/", "")


def first_commit(quarantine: Quarantine) -> str:
    store = ObjectStore.open(quarantine.path, SHA1)
    return next(oid.hex() for oid in store.iter_oids() if store.type_of(store.find(oid)) == 1)


@pytest.mark.rows("RP-36")
def test_a_folder_that_git_prunes_before_the_first_object_is_in_it_is_made_again(target, git, monkeypatch):
    mkdir, pruned = os.mkdir, []

    def make_then_prune(path, mode=0o777):
        mkdir(path, mode)
        if not pruned:
            pruned.append(path)
            git(target.parent, "prune-packed", "-q")
            assert not os.path.exists(path)

    with Quarantine(str(target)) as quarantine:
        git(target.parent, "hash-object", "-w", "--stdin", stdin=b"by a hook\n", env=quarantine.environment())
        monkeypatch.setattr(os, "mkdir", make_then_prune)
        [path] = quarantine.migrate(fsync=True).loose_paths
    assert os.path.dirname(path) in pruned
    assert b"by a hook\n" == git(target.parent, "cat-file", "blob", hash_object(SHA1, BLOB, b"by a hook\n").hex())


class Listed(list):
    """What os.scandir returns, once it has been read to its end."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def test_a_file_that_a_hook_s_child_renames_while_objects_are_counted_has_no_size(target, monkeypatch):
    with Quarantine(str(target)) as quarantine:
        os.mkdir(f"{quarantine.path}/ab")
        for name in ("a" * 38, "tmp_obj_1"):
            Path(f"{quarantine.path}/ab/{name}").write_bytes(bytes(7))
        scandir = os.scandir

        def list_then_rename(path):
            with scandir(path) as entries:
                listed = Listed(entries)
            os.unlink(f"{path}/tmp_obj_1")
            return listed

        monkeypatch.setattr(os, "scandir", list_then_rename)
        assert quarantine.loose_bytes() == 7
        monkeypatch.undo()


@pytest.mark.rows("RP-37")
def test_pack_made_by_a_hook_migrates_too(target, pack_bytes, make_repository, git):
    other = make_repository("other.git", commits=3, file="g")
    [other_pack] = (other / "objects/pack").glob("*.pack")
    with Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
        git(target.parent, "index-pack", "--stdin", stdin=other_pack.read_bytes(), env=quarantine.environment())
        migration = quarantine.migrate()
    assert 2 == len(migration.pack_paths) == len(migration.keep_paths)
    store = ObjectStore.open(str(target), SHA1)
    assert all(store.contains(oid) for oid in ObjectStore.open(str(other / "objects"), SHA1).iter_oids())


@pytest.mark.rows("RP-99")
def test_pack_that_is_there_already_stays_and_so_does_its_keep(target, pack_bytes):
    with Quarantine(str(target)) as first, Quarantine(str(target)) as second:
        receive(first, pack_bytes)
        receive(second, pack_bytes)
        migration = first.migrate("first")
        [path] = migration.pack_paths
        inode = os.stat(path).st_ino
        os.utime(path, (1, 1))
        again = second.migrate("second")
    assert ((path,), ()) == (again.pack_paths, again.keep_paths)
    assert inode == os.stat(path).st_ino
    assert os.stat(path).st_mtime > 1
    again.release_keep()
    assert "first\n" == Path(path.removesuffix(".pack") + ".keep").read_text()


@pytest.mark.rows("RP-99")
def test_other_pack_of_the_same_name_fails_and_nothing_is_kept(target, pack_bytes):
    with Quarantine(str(target)) as quarantine:
        path = receive(quarantine, pack_bytes)
        (target / "pack").mkdir(exist_ok=True)
        there = target / "pack" / os.path.basename(path)
        there.write_bytes(b"another")
        with pytest.raises(MigrationFailed) as caught:
            quarantine.migrate()
    assert "unable to migrate objects to permanent storage" == caught.value.public_text
    assert b"another" == there.read_bytes()
    assert [there.name] == os.listdir(target / "pack")


@pytest.mark.rows("RP-36")
def test_failure_at_any_step_leaves_no_index_without_its_pack_and_no_keep(target, pack_bytes, monkeypatch):
    true_place = files.place_file
    for failing in range(3):
        calls = 0

        def place(source, to, failing=failing):
            nonlocal calls
            calls += 1
            if calls > failing:
                raise OSError(28, "No space left on device")
            return true_place(source, to)

        monkeypatch.setattr(quarantine_module, "place_file", place)
        with pytest.raises(MigrationFailed), Quarantine(str(target)) as quarantine:
            receive(quarantine, pack_bytes)
            quarantine.migrate()
        suffixes = {os.path.splitext(name)[1] for name in tree(target / "pack")}
        assert suffixes <= {".pack", ".rev"}
        assert [] == [name for name in os.listdir(target) if name.startswith(PREFIX)]


def test_files_are_synced_before_they_are_placed_and_folders_after(target, pack_bytes, monkeypatch):
    events = []
    true_sync, true_place = files.sync_path, files.place_file
    monkeypatch.setattr(quarantine_module, "sync_path", lambda path: (events.append(("sync", path)), true_sync(path)))
    monkeypatch.setattr(
        quarantine_module,
        "place_file",
        lambda source, to: (events.append(("place", source)), true_place(source, to))[1],
    )
    with Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
        quarantine.migrate(fsync=True)
    placed = [path for what, path in events if what == "place"]
    assert 3 == len(placed)
    for path in placed:
        assert events.index(("sync", path)) < events.index(("place", path))
    assert [("sync", str(target / "pack")), ("sync", str(target))] == events[-2:]


def test_rename_does_where_hard_links_do_not_work(target, pack_bytes, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    for _ in range(2):
        with Quarantine(str(target)) as quarantine:
            receive(quarantine, pack_bytes)
            quarantine.migrate().release_keep()
    assert 3 == len(tree(target / "pack"))


def test_shared_repository_gets_shared_modes(target, pack_bytes, git):
    with Quarantine(str(target), FileModes(0o660)) as quarantine:
        receive(quarantine, pack_bytes)
        git(target.parent, "hash-object", "-w", "--stdin", stdin=b"x", env=quarantine.environment())
        [path] = quarantine.migrate().pack_paths
    assert 0o440 == stat.S_IMODE(os.stat(path).st_mode) & 0o440
    shard = target / hash_object(SHA1, BLOB, b"x").hex()[:2]
    assert 0o2770 == stat.S_IMODE(shard.stat().st_mode) & 0o2770


@pytest.mark.parametrize("name", ["plain.git", "with:colon.git", '"quoted".git', "#hash.git"])
def test_git_finds_the_repository_s_objects_through_the_environment_of_hooks(name, tmp_path, git):
    git(tmp_path, "init", "-q", "--bare", name)
    objects = tmp_path / name / "objects"
    oid = git(tmp_path / name, "hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    with Quarantine(str(objects)) as quarantine:
        for alternates in ("", str(tmp_path)):
            env = quarantine.environment(alternates)
            assert quarantine.path == env["GIT_QUARANTINE_PATH"] == env["GIT_OBJECT_DIRECTORY"]
            assert b"x" == git(tmp_path / name, "cat-file", "blob", oid, env=env)


def test_only_folders_that_are_old_and_unlocked_are_stale(target):
    (target / "pack").mkdir(exist_ok=True)
    dead = target / f"{PREFIX}abcdef"
    (dead / "pack").mkdir(parents=True)
    later = time.time() + STALE_SECONDS + 60
    with Quarantine(str(target)):
        assert [] == stale_quarantines(str(target))
        assert [str(dead)] == stale_quarantines(str(target), now_seconds=later)
        assert [str(dead)] == remove_stale_quarantines(str(target), now_seconds=later)
    assert not dead.exists()


def test_a_keep_is_young_from_the_moment_that_it_is_there(target, pack_bytes, monkeypatch):
    """Maintenance may look just then, and its other names are as old as the process."""
    known_as = target.parent / "token.0"
    known_as.write_text(f"{KEEP_PREFIX}token\n")
    os.utime(known_as, (1, 1))
    true_link, removed = os.link, []

    def link_then_look(source, to, **options):
        true_link(source, to, **options)
        removed.extend(remove_leftovers(str(target)))

    monkeypatch.setattr(os, "link", link_then_look)
    with Quarantine(str(target)) as quarantine:
        receive(quarantine, pack_bytes)
        migration = quarantine.migrate(f"{KEEP_PREFIX}token", known_as=str(known_as))
    assert removed == []
    [keep] = migration.keep_paths
    assert os.path.samefile(keep, known_as)
