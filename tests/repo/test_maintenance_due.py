"""When a push starts maintenance: the settings that git would ask before `gc --auto`."""

import os

import pytest

from govc.odb.cache import BaseCache
from govc.repo.maintenance import is_due
from govc.repo.repository import Repository, Surroundings
from tests.repo.worlds import Site


@pytest.mark.rows("CF-28", "CF-71", "RP-88")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"gc.autoPackLimit": "1"}, True),
        ({"gc.autoPackLimit": "2"}, False),
        ({"gc.autoPackLimit": "0"}, False),
        ({"gc.autoPackLimit": "1", "gc.auto": "0"}, False),
        ({"gc.autoPackLimit": "1", "receive.autogc": "false"}, False),
        ({"gc.autoPackLimit": "1", "maintenance.auto": "false"}, False),
        ({"gc.autoPackLimit": "1", "gc.auto": "100", "receive.autogc": "true"}, True),
    ],
)
def test_two_packs_are_many_or_few_as_the_settings_say(site: Site, settings: dict[str, str], expected: bool) -> None:
    for name in "refs/heads/main", "refs/tags/second":
        site.git("pack-objects", "-q", "objects/pack/pack", stdin=site.git("rev-parse", name).encode() + b"\n")
    for key, value in settings.items():
        site.git("config", key, value)
    around = Surroundings(environ=site.environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 20)
    repository = Repository(str(site.repo), around)
    snapshot = repository.snapshot()
    assert 2 == len(snapshot.store.packs)
    assert expected == is_due(snapshot, repository.ref_database)


def test_leftovers_are_not_looked_for_after_each_push(site: Site) -> None:
    around = Surroundings(environ=site.environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 20)
    repository = Repository(str(site.repo), around)
    leftover = site.repo / "objects" / "pack" / "tmp_pack_1"
    leftover.parent.mkdir(exist_ok=True)
    assert not is_due(repository.snapshot(), repository.ref_database)
    leftover.touch()
    os.utime(leftover, (1, 1))
    assert not is_due(repository.snapshot(), repository.ref_database)
    assert is_due(Repository(str(site.repo), around).snapshot(), repository.ref_database)
