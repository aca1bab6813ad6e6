"""A WSGI server with threads: several requests look at one repository at once, and others have it dropped."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from govc.errors import RepositoryNotFound
from govc.odb.cache import BaseCache
from govc.repo import index_keeper as keeper_room
from govc.repo import pool as pool_room
from govc.repo import repository as repository_room
from govc.repo.index_keeper import IndexKeeper
from govc.repo.pool import PoolLimits, RepositoryPool
from govc.repo.repository import Surroundings
from govc.repo.runtime import PLAIN
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings
from tests.beside import Beside
from tests.repo.worlds import Site, repository

SETTLED_SECONDS = 0.025


def pool_of(site: Site, count: int = 2, admit: Callable[[str], None] = lambda _gitdir: None) -> RepositoryPool:
    around = Surroundings(environ=site.environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    return RepositoryPool(around, PoolLimits(repositories_max=count), admit=admit)


def test_who_looks_while_another_opens_waits_for_all_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = repository(site.repo, site.environ)
    other = Beside(opened.snapshot)
    make = repository_room.CommitTable

    def make_slowly(*arguments: object) -> object:
        other.meet()  # the store is there by now
        return make(*arguments)

    monkeypatch.setattr(repository_room, "CommitTable", make_slowly)
    snapshot = opened.snapshot()
    assert other.result().table is snapshot.table
    assert other.result().commits is snapshot.commits


def test_a_snapshot_is_proved_by_no_later_look(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next request would be answered from it, and all that follow until something else changes."""
    settings = Settings(root=str(site.folder), export_all=True, helper_processes_max=0, cache_bytes_max=0)
    backend = Backend(settings, PLAIN, site.environ)
    trim = backend.pool.trim

    def trim_slowly(used: repository_room.Repository) -> None:
        site.git("update-ref", "refs/heads/new", "refs/tags/second")
        time.sleep(SETTLED_SECONDS)
        Beside(used.snapshot).meet()
        trim(used)

    time.sleep(SETTLED_SECONDS)
    context = RequestContext(service=UPLOAD_PACK, is_discovery=True)
    with monkeypatch.context() as patch:
        patch.setattr(backend.pool, "trim", trim_slowly)
        backend.open("/r.git", context=context)
    assert backend.open("/r.git", context=context).snapshot.table.resolve(b"refs/heads/new") == site.second


def test_a_look_that_failed_halfway_proves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = repository(site.repo, site.environ)
    time.sleep(SETTLED_SECONDS)
    snapshot = opened.snapshot()
    assert opened.watched(snapshot) is not None
    site.git("config", "core.abbrev", "9")
    monkeypatch.setattr(opened, "_validate_refs", lambda *_: (_ for _ in ()).throw(RepositoryNotFound("r", "gone")))
    with pytest.raises(RepositoryNotFound):
        opened.snapshot()
    assert opened.last_snapshot is snapshot
    assert opened.watched(snapshot) is None


def test_what_is_dropped_while_it_is_asked_for_is_opened_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(site, 1)
    gitdir = str(site.repo)
    first = pool.get(gitdir)
    look = pool_room.identity_of

    def look_slowly(path: str) -> tuple[int, int]:
        monkeypatch.setattr(pool_room, "identity_of", look)
        pool.trim(pool.get(str(site.other)))
        return look(path)

    monkeypatch.setattr(pool_room, "identity_of", look_slowly)
    again = pool.get(gitdir)
    assert again is not first
    assert again is pool.get(gitdir)


def test_two_that_open_a_repository_share_it(site: Site) -> None:
    asked = []

    def admit(gitdir: str) -> None:
        asked.append(gitdir)
        if len(asked) == 1:
            others.append(pool.get(gitdir))

    others: list[repository_room.Repository] = []
    pool = pool_of(site, admit=admit)
    assert [pool.get(str(site.repo))] == others
    assert pool.statistics().opened == 1


def test_the_pool_keeps_its_counts_while_all_drop_each_others(site: Site) -> None:
    paths = [str(site.repo), str(site.other)]
    for number in range(2):
        paths.append(f"{site.folder}/copy{number}.git")
        site.git("clone", "-q", "--mirror", str(site.repo), paths[-1])
    pool = pool_of(site)

    def ask(worker: int) -> None:
        for turn in range(100):
            used = pool.get(paths[(worker + turn) % len(paths)])
            used.snapshot()
            pool.note_use(used)
            pool.trim(used)

    in_many_threads(ask)
    pool.trim(pool.get(paths[0]))
    known = pool.statistics()
    assert known.repositories == 2 == known.opened - known.dropped
    assert known.descriptors <= sum(each.descriptor_count for each in pool.opened())


def test_commits_of_a_push_are_indexed_while_the_next_push_comes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = repository(site.repo, site.environ)
    keeper = IndexKeeper(PLAIN, None)
    waiting = keeper._pending[opened.gitdir] = {site.second}
    monkeypatch.setattr(keeper_room, "_peel", lambda _snapshot, oid: waiting.add(site.tag) or oid)
    keeper._extend(opened)
    assert opened.snapshot().introductions.view.knows(site.second)


def in_many_threads(function: Callable[[int], None], count: int = 8) -> None:
    """Call it in so many threads, which get in each other's way as often as can be; raise what one of them raised."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            for _ in pool.map(function, range(count)):
                pass
    finally:
        sys.setswitchinterval(interval)
