"""A push that is sent again after a kill: git's HTTP library does that by itself when a kept connection is cut."""

import os
from types import SimpleNamespace

import pytest

from govc.odb.quarantine import KEEP_PREFIX, Quarantine
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1
from govc.repo.recovery import finish_dead
from govc.service.pushed_objects import PushedObjects
from govc.wal.owner import Owner

from .logged import Logged, git


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    made.repository.snapshot()
    yield made
    made.repository.close()


def receive(world, pack):
    quarantine = Quarantine(f"{world.repository.gitdir}/objects")
    descriptor, path = quarantine.create_pack_file()
    os.write(descriptor, pack)
    quarantine.add_pack(path, index_pack(descriptor, SHA1))
    os.close(descriptor)
    return quarantine


def die_with_keep(world, pack):
    """A process publishes a pack under its `.keep`, and is killed before its refs have moved."""
    dead = Owner(f"{world.path}/govc/locks")
    message = f"{KEEP_PREFIX}{dead.token.hex()}"
    with receive(world, pack) as quarantine:
        known_as = dead.path_saying(f"{message}\n".encode())
        quarantine.migrate(message, next_own_path=dead.next_lock_path, known_as=known_as)
    os.close(dead._descriptor)


@pytest.mark.parametrize("may_link", [True, False])
def test_the_second_has_a_keep_of_its_own(world, monkeypatch, may_link):
    """That of the first goes when its death is noticed, which may be at any moment: its refs are locked, too."""
    journal, first = world.repository.journal(world.options), world.commit()
    pack = git(world.source, "pack-objects", "--revs", "--stdout", "-q", input=first.hex().encode())
    die_with_keep(world, pack)
    if not may_link:
        monkeypatch.setattr("govc.odb.quarantine._link_keep", lambda *_: None)
    with receive(world, pack) as quarantine:
        objects = PushedObjects(journal, quarantine, SimpleNamespace(object_count=3, is_unpacked=False))
        objects.move()
        finish_dead(journal, world.repository.site(world.options.sleep))
        git(world.path, "repack", "-adq")  # no ref names it yet
        git(world.path, "prune", "--expire=now")
        assert world.has(first)
        assert len(world.locks()) == 1
        objects.release()
    assert world.locks() == []
