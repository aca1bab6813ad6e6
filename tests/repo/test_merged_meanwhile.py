"""An index of introductions whose files another process merges just while they are read."""

import os
from pathlib import Path

import pytest

from govc.protocol.oid import SHA1
from govc.repo import introductions
from govc.repo.introducing import IntroduceTask, fill_introductions, merge_small
from govc.repo.introductions import Introductions
from tests.repo.test_introductions import fast_import, files, git, oid, open_repository


def test_who_meets_a_merge_between_listing_and_reading_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all of it falls within one tick of the clock, the folder's stamp stays what it was before."""
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(path))
    fast_import(path, 3, seed=1)
    repository = open_repository(path)
    fill_introductions(IntroduceTask.of(repository.snapshot()))
    fast_import(path, 3, seed=2, start="refs/heads/main^0")
    snapshot = repository.snapshot()
    writer = snapshot.introductions
    assert writer is not None
    assert writer.extend(snapshot.store, [oid(path, "main")])
    assert len(files(path)) == 2

    reader = Introductions(str(path), SHA1)
    monkeypatch.setattr(introductions, "_stamp_of", lambda _path: introductions._Stamp(1, 2, 3))
    listdir = os.listdir

    def list_then_merge(folder: str) -> list[str]:
        names = listdir(folder)
        monkeypatch.setattr(os, "listdir", listdir)
        merge_small(writer)
        return names

    monkeypatch.setattr(os, "listdir", list_then_merge)
    reader.refresh()
    assert len(files(path)) == 1
    assert not reader.is_current()
    reader.refresh()
    assert reader.is_current()
    assert reader.view.knows(oid(path, "main"))
    assert not reader.bad_names
