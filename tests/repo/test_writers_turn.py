"""Who changes a stack of reftables queues for its one lock; who changes loose refs doesn't, for each has its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from govc.odb.cache import BaseCache
from govc.protocol.oid import SHA1
from govc.repo import repository as repository_room
from govc.repo.creation import create_repository
from govc.repo.repository import Repository, Surroundings
from tests.waiting import SECONDS


def opened(tmp_path: Path, ref_storage: str) -> Repository:
    path = tmp_path / "r.git"
    create_repository(str(path), SHA1, export=True, allow_push=True, ref_storage=ref_storage)
    around = Surroundings(environ={"HOME": str(tmp_path)}, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 20)
    repository = Repository(str(path), around)
    repository.snapshot()
    return repository


def test_one_at_a_time(tmp_path: Path) -> None:
    repository = opened(tmp_path, "reftable")
    inside = []

    def write(number: int) -> int:
        with repository.writers_turn():
            inside.append(number)
            threading.Event().wait(0.002)
            seen = len(inside)
            inside.remove(number)
        return seen

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(24))) == {1}


def test_loose_refs_are_changed_side_by_side(tmp_path: Path) -> None:
    repository = opened(tmp_path, "files")
    both = threading.Barrier(2)

    def write(_number: int) -> None:
        with repository.writers_turn():
            both.wait(SECONDS)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, range(2))) == [None, None]


def test_who_has_waited_long_goes_on_and_leaves_the_other_his_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_room, "TURN_SECONDS", 0.05)
    repository = opened(tmp_path, "reftable")

    def write() -> bool:
        with repository.writers_turn():
            return True

    with repository.writers_turn():
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(write).result(SECONDS)
        assert repository._turn.locked()
    assert not repository._turn.locked()
