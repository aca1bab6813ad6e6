"""What becomes of the objects of a received pack that the repository has already, while plain git prunes beside us."""

import os

import pytest

from govc.odb.explode import explode_pack
from govc.odb.loose import has_loose_object
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1


def explode(store: ObjectStore, received, quarantine) -> set[bytes]:
    """Return the objects that were written."""
    (quarantine / "pack").mkdir(parents=True)
    [pack] = received.glob("objects/pack/*.pack")
    stem = f"{quarantine}/pack/{pack.stem}"
    for suffix in (".pack", ".idx"):
        with open(stem + suffix, "wb") as file:
            file.write(pack.with_suffix(suffix).read_bytes())
    top = store.overlaid(str(quarantine))
    oids = set(ObjectStore.open(str(received / "objects"), SHA1).iter_oids())
    explode_pack(stem, str(quarantine), top, store, level=1)
    return {oid for oid in oids if has_loose_object(str(quarantine), oid)}


@pytest.mark.parametrize("kind", ["loose", "packed"])
def test_what_git_has_pruned_since_it_was_found_is_written(kind, make_repository, git, tmp_path, monkeypatch):
    received = make_repository("received.git", commits=3)
    path = make_repository(commits=1, file="g")
    reachable = {oid.hex() for oid in ObjectStore.open(str(path / "objects"), SHA1).iter_oids()}
    [pack] = received.glob("objects/pack/*.pack")
    git(path, *(["unpack-objects", "-q"] if kind == "loose" else ["index-pack", "--stdin"]), stdin=pack.read_bytes())
    store = ObjectStore.open(str(path / "objects"), SHA1)
    utime = os.utime

    def prune_first(file):
        if "".join(file.split("/")[-2:]) not in reachable:
            git(path, "repack", "-adq")  # no ref reaches what was received
            git(path, "prune", "--expire=now")
        utime(file)

    monkeypatch.setattr(os, "utime", prune_first)
    written = explode(store, received, tmp_path / "quarantine")
    monkeypatch.undo()
    now = ObjectStore.open(str(path / "objects"), SHA1)
    assert all(
        oid in written or now.contains(oid) for oid in ObjectStore.open(str(received / "objects"), SHA1).iter_oids()
    )


def test_what_is_there_is_not_written_again(make_repository, tmp_path):
    path = make_repository(commits=3)
    assert not explode(ObjectStore.open(str(path / "objects"), SHA1), path, tmp_path / "quarantine")
