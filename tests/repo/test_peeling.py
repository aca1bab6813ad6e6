"""Peeling in a thread: right answers, and the snapshot's store is not touched."""

import pytest

from govc.errors import ObjectMissing
from govc.repo.peeling import ThreadPeeler
from tests.repo.worlds import Site, repository


def test_tags_peel_and_other_objects_do_not(site: Site) -> None:
    peel = ThreadPeeler(repository(site.repo, site.environ).snapshot())
    assert site.oid("refs/tags/tag^{}") == peel(site.oid("refs/tags/tag"))
    assert peel(site.oid("refs/heads/main")) is None


def test_an_absent_object_is_told(site: Site) -> None:
    peel = ThreadPeeler(repository(site.repo, site.environ).snapshot())
    with pytest.raises(ObjectMissing):
        peel(b"\x11" * 20)


def test_the_store_of_the_snapshot_gets_no_new_numbers(site: Site) -> None:
    snapshot = repository(site.repo, site.environ).snapshot()
    before = snapshot.store.statistics()
    assert ThreadPeeler(snapshot)(site.oid("refs/tags/tag")) is not None
    site.git("repack", "-adq")  # a pack that only the other store has seen
    assert ThreadPeeler(snapshot)(site.oid("refs/tags/tag")) is not None
    assert before == snapshot.store.statistics()
