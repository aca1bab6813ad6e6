"""What is found out about the lines of a fetch request while they are read."""

from pathlib import Path

import pytest

from govc.odb.store import ObjectStore
from govc.repo.snapshot import Snapshot
from govc.service.policy import UploadPolicy
from govc.service.request_lines import RequestLines
from govc.service.shown import ShownRefs
from tests.service.test_growing import World


def lines_of(snapshot: Snapshot) -> RequestLines:
    policy = snapshot.config.remembered(UploadPolicy.from_config)
    return RequestLines(ShownRefs(snapshot, "uploadpack", b""), policy, lambda: None)


def test_a_shallow_commit_that_was_packed_meanwhile_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    tree = world.git("hash-object", "-t", "tree", "-w", "--stdin", cwd=world.path, input=b"").stdout.strip()
    oid = world.git("commit-tree", "-m", "m", tree, cwd=world.path).stdout.strip()
    world.git("update-ref", "refs/heads/main", oid, cwd=world.path)
    snapshot = world.backend.open("/a.git", context=world.context).snapshot
    world.git("repack", "-adq", cwd=world.path)
    world.git("prune-packed", cwd=world.path)
    assert lines_of(snapshot).shallow(bytes.fromhex(oid))


def test_for_commits_that_were_never_here_folders_are_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    snapshot = world.backend.open("/a.git", context=world.context).snapshot
    looks = 0
    refresh = ObjectStore.refresh

    def count(store: ObjectStore) -> bool:
        nonlocal looks
        looks += 1
        return refresh(store)

    monkeypatch.setattr(ObjectStore, "refresh", count)
    lines = lines_of(snapshot)
    assert not any(lines.shallow(bytes([number]) * 20) for number in range(1, 50))
    assert looks == 1
