"""When a push starts maintenance: what git would start with `gc --auto`, under git's settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from govc.odb.cache import BaseCache
from govc.repo.maintenance import PACKS_MAX, is_due
from govc.repo.repository import Repository, Surroundings


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one pack more than are left alone."""
    path = tmp_path_factory.mktemp("due") / "r.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    for number in range(PACKS_MAX + 1):
        text = f"commit refs/heads/b{number}\ncommitter C <c@d> {number} +0000\ndata 1\nx\n"
        command = ["git", "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"]
        subprocess.run(command, input=text.encode(), cwd=path, check=True)
    return path


def due(path: Path, **settings: str) -> bool:
    pairs = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        pairs |= {f"GIT_CONFIG_KEY_{number}": key.replace("__", "."), f"GIT_CONFIG_VALUE_{number}": value}
    environ = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent", **pairs}
    around = Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    repository = Repository(str(path), around)
    return is_due(repository.snapshot(), repository.ref_database)


@pytest.mark.rows("CF-28", "CF-71", "RP-88")
def test_settings_switch_it_off(crowded: Path) -> None:
    assert due(crowded)
    assert due(crowded, receive__autogc="true", maintenance__auto="true", gc__auto="1")
    assert not due(crowded, receive__autogc="false")
    assert not due(crowded, maintenance__auto="false")
    assert not due(crowded, gc__auto="0")
