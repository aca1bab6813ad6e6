"""When a push starts maintenance: the settings that git would ask before `gc --auto`."""

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
