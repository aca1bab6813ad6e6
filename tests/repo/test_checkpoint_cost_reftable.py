"""What a checkpoint of a reftable repository looks at: the tables that are new, and that is all that changed."""

import random
from pathlib import Path

import pytest

from govc.protocol.oid import SHA1
from govc.refs.backend import ReftableBackend, WriteOptions
from govc.refs.plan import RefUpdate
from govc.repo.checkpoint_schedule import checkpoint_path
from govc.repo.ref_values import LoggedRefs
from govc.wal.checkpoint import read_checkpoint
from tests.repo.test_reftable_recovery import push, refs_of
from tests.repo.test_watching_reftable import change, make_stack
from tests.repo.worlds import Site, repository

MAIN = b"refs/heads/main"
NAMES = tuple(b"refs/heads/%b" % name for name in (b"a", b"b", b"c/d", b"e", b"f"))


@pytest.fixture
def full_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often all refs were read."""
    seen: list[str] = []
    load = ReftableBackend.load

    def counted(self: ReftableBackend, previous: object = None) -> object:
        seen.append(self.gitdir)
        return load(self, previous)  # type: ignore[arg-type]

    monkeypatch.setattr(ReftableBackend, "load", counted)
    return seen


def known_to_log(path: Path) -> dict[bytes, bytes]:
    last = read_checkpoint(f"{path}/govc/checkpoint")
    return dict(LoggedRefs(f"{path}/govc", last, SHA1).iter_present())


def pack(path: Path) -> None:
    """Merge tables, as `git pack-refs --auto` does."""
    ReftableBackend(str(path), str(path), SHA1).pack(lambda oid: None, WriteOptions(fsync=False))


def test_only_new_tables_are_looked_at(site: Site, full_looks: list[str]) -> None:
    path = make_stack(site)
    change(path, *((b"refs/tags/%d" % number, site.first) for number in range(500)))
    opened = repository(path, site.environ)
    assert not push(opened, RefUpdate(MAIN, site.first, site.second))
    checkpoint_path(str(path))
    change(path, (b"refs/tags/7", site.second), (b"refs/tags/8", SHA1.zero))
    assert not push(opened, RefUpdate(b"refs/heads/b", SHA1.zero, site.second))
    full_looks.clear()
    assert checkpoint_path(str(path)).observed == 2
    assert full_looks == []
    assert refs_of(path) == known_to_log(path)
    oldest = ReftableBackend(str(path), str(path), SHA1).stacks[0].read_names()[0]
    change(path, *((b"refs/notes/%d" % number, site.first) for number in range(500)))
    pack(path)
    assert oldest not in ReftableBackend(str(path), str(path), SHA1).stacks[0].read_names()
    full_looks.clear()
    assert checkpoint_path(str(path)).observed == 500
    assert full_looks
    assert refs_of(path) == known_to_log(path)
    opened.close()


@pytest.mark.parametrize("seed", range(8))
def test_they_say_what_a_full_look_says(site: Site, full_looks: list[str], seed: int) -> None:
    """Pushes and others in any order, tables merged and not, with checkpoints between: the log knows every ref."""
    chance = random.Random(seed)
    path = make_stack(site)
    change(path, *((b"refs/tags/%d" % number, site.first) for number in range(chance.choice((0, 40)))))
    opened = repository(path, site.environ)
    quick = 0
    for _ in range(20):
        for _ in range(chance.randint(1, 4)):
            name, oid = chance.choice(NAMES), chance.choice((site.first, site.second, SHA1.zero))
            now = refs_of(path).get(name, SHA1.zero)
            action = chance.choice(("push", "push", "other", "other", "pack", "symref"))
            if action == "push" and oid != now:
                assert not push(opened, RefUpdate(name, now, oid))
            elif action == "other" and oid != now:
                change(path, (name, oid))
            elif action == "pack" and chance.random() < 0.2:
                pack(path)
            elif action == "symref":
                backend = ReftableBackend(str(path), str(path), SHA1)
                backend.set_symref(b"refs/heads/link", name, WriteOptions(fsync=False))
        now = refs_of(path)[MAIN]
        assert not push(opened, RefUpdate(MAIN, now, site.second if now == site.first else site.first))
        full_looks.clear()
        checkpoint_path(str(path))
        quick += not full_looks
        expected = refs_of(path)
        expected.pop(b"refs/heads/link", None)
        assert expected == known_to_log(path)
    assert quick
    opened.close()
