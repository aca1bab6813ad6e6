"""What a checkpoint looks at: what may have changed, and that is all that did."""

import os
import random
import time
from dataclasses import replace

import pytest

from govc.protocol.oid import SHA1
from govc.refs.database import RefDatabase
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.repo.ref_values import LoggedRefs
from govc.wal.checkpoint import decode_checkpoint, read_checkpoint

from .logged import ZERO, Logged, git

MAIN = b"refs/heads/main"
REFS = 2000


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


def settle(world):
    """Until packed-refs is older than the clock's grain: only then can it be known again."""
    path = f"{world.path}/packed-refs"
    while os.path.exists(path) and time.time_ns() - os.stat(path).st_ctime_ns < 50_000_000:
        time.sleep(0.01)


def refs_of(world):
    lines = git(world.path, "for-each-ref", "--format=%(objectname) %(refname)").decode().splitlines()
    return {name.encode(): bytes.fromhex(oid) for oid, name in (line.split(" ") for line in lines)}


def known_to_log(world):
    last = read_checkpoint(f"{world.path}/govc/checkpoint")
    return {
        name: oid for name, oid in LoggedRefs(f"{world.path}/govc", last, world.repository.layout.algo).iter_present()
    }


@pytest.fixture
def full_looks(monkeypatch):
    """How often all refs were read."""
    seen = []
    load = RefDatabase.load

    def counted(self, previous=None):
        seen.append(self.packed_path)
        return load(self, previous)

    monkeypatch.setattr(RefDatabase, "load", counted)
    read = RefDatabase.read_packed
    monkeypatch.setattr(RefDatabase, "read_packed", lambda self: seen.append("packed-refs") or read(self))
    return seen


def checkpoint(world, full_looks):
    full_looks.clear()
    report = checkpoint_path(world.path)
    return report, len(full_looks)


def pack_many(world, oid):
    lines = "".join(f"create refs/tags/{n} {oid.hex()}\n" for n in range(REFS))
    git(world.path, "update-ref", "--stdin", input=lines.encode())
    git(world.path, "pack-refs", "--all")
    settle(world)


def test_among_many_packed_refs_only_loose_ones_are_looked_at(world, full_looks):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    pack_many(world, first)
    assert (REFS, True) == ((found := checkpoint(world, full_looks))[0].observed, found[1] > 0)
    world.push((MAIN, first, second), (b"refs/heads/b", ZERO, first))
    assert (0, 0) == ((found := checkpoint(world, full_looks))[0].observed, found[1])
    git(world.path, "update-ref", "refs/heads/b", second.hex())
    git(world.path, "update-ref", "refs/heads/git", first.hex())
    world.push((b"refs/heads/c", ZERO, second))
    assert (2, 0) == ((found := checkpoint(world, full_looks))[0].observed, found[1])
    assert refs_of(world) == known_to_log(world)


def test_when_packed_refs_was_rewritten_everything_is_compared_once(world, full_looks):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    pack_many(world, first)
    checkpoint(world, full_looks)
    git(world.path, "update-ref", "-d", "refs/tags/7")
    git(world.path, "update-ref", "refs/tags/8", first.hex())
    git(world.path, "pack-refs", "--all")
    settle(world)
    world.push((MAIN, first, second))
    assert (1, True) == ((found := checkpoint(world, full_looks))[0].observed, found[1] > 0)
    world.push((b"refs/heads/b", ZERO, second))
    assert (0, 0) == ((found := checkpoint(world, full_looks))[0].observed, found[1])
    assert refs_of(world) == known_to_log(world)


def test_packed_refs_that_changed_just_now_is_not_known_again(world):
    world.push((MAIN, ZERO, world.commit()))
    git(world.path, "pack-refs", "--all")
    stamp = os.stat(f"{world.path}/packed-refs").st_ctime_ns
    for age_ns, is_known in ((1_000_000, False), (10_000_000_000, True)):
        database = RefDatabase(world.path, world.path, SHA1, clock_ns=lambda: stamp + age_ns)  # noqa: B023
        mark = database.mark_of(database.load())
        assert is_known == (mark is not None)
        assert mark is None or ({}, mark) == database.changed_since(mark)


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_full_look_finds(world, full_looks, seed):
    """Pushes and plain git in any order, with checkpoints between: the log knows every ref afterwards."""
    chance = random.Random(seed)
    oids = [world.commit() for _ in range(4)]
    world.push(*((b"refs/heads/seed%d" % n, ZERO, oid) for n, oid in enumerate(oids)))
    names = [b"refs/heads/%s" % name for name in (b"a", b"b", b"c/d", b"e")]
    quick = 0
    for _ in range(14):
        for _ in range(chance.randint(1, 3)):
            name, oid = chance.choice(names), chance.choice(oids)
            now = refs_of(world).get(name, ZERO)
            action = chance.choice(("push", "push", "git", "delete", "git delete", "pack", "symref"))
            if action == "push" and oid != now:
                world.push((name, now, oid))
            elif action == "git":
                git(world.path, "update-ref", name.decode(), oid.hex())
            elif action == "delete" and now != ZERO:
                world.push((name, now, ZERO))
            elif action == "git delete" and now != ZERO:
                git(world.path, "update-ref", "-d", name.decode())
            elif action == "pack" and chance.random() < 0.4:
                git(world.path, "pack-refs", "--all")
            elif action == "symref":
                git(world.path, "symbolic-ref", "refs/heads/link", name.decode())
        world.push((MAIN, refs_of(world).get(MAIN, ZERO), world.commit()))
        settle(world)
        _, looks = checkpoint(world, full_looks)
        quick += not looks
        expected = refs_of(world)
        expected.pop(b"refs/heads/link", None)
        assert expected == known_to_log(world)
    assert quick


def test_the_mark_is_kept_and_a_checkpoint_without_one_is_read_too(world):
    world.push((MAIN, ZERO, world.commit()))
    checkpoint_path(world.path)
    path = f"{world.path}/govc/checkpoint"
    found = read_checkpoint(path)
    assert (b"absent", (MAIN,)) == (found.packed_mark, found.loose)
    bare = replace(found, packed_mark=b"", loose=())
    assert bare == decode_checkpoint(bare.encode(), path)
