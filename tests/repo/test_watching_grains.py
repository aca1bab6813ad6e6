"""How a snapshot knows that it may be kept: settled stamps, stamps older than reading, nothing kept from a failure."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from govc.errors import BadConfig
from govc.repo.repository import Repository
from govc.repo.snapshot import Snapshot
from govc.watch import read_watched
from tests.repo.worlds import SECOND_NS, Site, World, put, repository, swap

GRAINS_NS = [4_000_000, SECOND_NS, 2 * SECOND_NS]


def main_of(snapshot: Snapshot) -> bytes | None:
    return snapshot.table.resolve(b"refs/heads/main")


def packed_of(snapshot: Snapshot) -> bytes | None:
    return snapshot.table.resolve(b"refs/heads/packed")


@pytest.mark.parametrize("grain_ns", GRAINS_NS)
def test_two_writes_of_one_size_within_a_tick_are_both_seen(grain_ns: int, site: Site) -> None:
    world = World(site.folder, grain_ns)
    loose, packed = site.repo / "refs/heads/main", site.repo / "packed-refs"
    text = packed.read_text()
    watched = repository(site.repo, site.environ, world)
    watched.snapshot()
    world.advance()
    before = os.stat(loose), os.stat(packed)
    for oid in (site.second, site.first, site.second):
        put(loose, f"{oid.hex()}\n")
        put(packed, text.replace(f"{site.first.hex()} refs/heads", f"{oid.hex()} refs/heads"))
        snapshot = watched.snapshot()
        assert (oid, oid) == (main_of(snapshot), packed_of(snapshot))
    after = os.stat(loose), os.stat(packed)
    assert [(old.st_ino, old.st_size) for old in before] == [(new.st_ino, new.st_size) for new in after]


@pytest.mark.parametrize("grain_ns", GRAINS_NS)
def test_unsettled_stamps_are_read_again_until_they_have_settled(
    grain_ns: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def recording(path: str, **arguments: Any) -> Any:
        read.append(os.path.basename(path))
        return read_watched(path, **arguments)

    monkeypatch.setattr("govc.refs.database.read_watched", recording)
    world = World(site.folder, grain_ns)
    watched = repository(site.repo, site.environ, world)
    snapshots = [watched.snapshot(), watched.snapshot()]
    assert read == ["HEAD", "packed-refs"] * 2
    world.advance()
    snapshots += [watched.snapshot(), watched.snapshot(), watched.snapshot()]
    assert read == ["HEAD", "packed-refs"] * 3
    assert snapshots[-1] is snapshots[-2]
    for snapshot in snapshots:
        assert snapshot.table is snapshots[0].table
        assert snapshot.store is snapshots[0].store
        assert snapshot.config is snapshots[0].config
        assert snapshot.derived is snapshots[0].derived


@pytest.fixture
def no_reading() -> Iterator[Callable[[], pytest.MonkeyPatch]]:
    with pytest.MonkeyPatch.context() as patch:

        def forbid() -> pytest.MonkeyPatch:
            def read(*arguments: Any, **options: Any) -> Any:
                raise AssertionError(f"read {arguments}")

            for name in ("builtins.open", "os.open", "os.scandir", "os.listdir"):
                patch.setattr(name, read)
            return patch

        yield forbid


def test_a_settled_repository_costs_stat_calls_only(site: Site, no_reading: Callable[[], pytest.MonkeyPatch]) -> None:
    site.git("config", "include.path", "absent")
    site.git("repack", "-adq")
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")
    world = World(site.folder, GRAINS_NS[0])
    watched = repository(site.repo, site.environ, world)
    world.advance()
    snapshot = watched.snapshot()
    patch = no_reading()
    assert snapshot is watched.snapshot()
    patch.undo()


def test_one_push_by_plain_git_costs_what_it_changed(site: Site) -> None:
    world = World(site.folder, GRAINS_NS[0])
    watched = repository(site.repo, site.environ, world)
    world.advance()
    before = watched.snapshot()
    site.git("update-ref", "refs/heads/main", site.second.hex())
    after = watched.snapshot()
    assert after.table is not before.table
    assert after.table.packed is before.table.packed
    assert (after.store, after.config) == (before.store, before.config)


def test_an_inode_whose_number_is_used_again_is_another_file(site: Site) -> None:
    world = World(site.folder, GRAINS_NS[0])
    path = site.repo / "refs/heads/main"
    watched = repository(site.repo, site.environ, world)
    world.advance()
    for oid in (site.second, site.first) * 3:
        watched.snapshot()
        path.unlink()  # many file systems give the number to the next file
        put(path, f"{oid.hex()}\n")
        assert oid == main_of(watched.snapshot())
        world.advance()


# A stamp is older than what it vouches for


def with_alternates(site: Site) -> None:
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")


RACES: dict[str, tuple[Callable[[Site], None], str, str, Callable[[Site, Snapshot], Any]]] = {
    "HEAD": (lambda site: None, "HEAD", "ref: refs/heads/side\n", lambda site, snapshot: snapshot.table.head),
    "loose ref": (
        lambda site: None,
        "refs/heads/main",
        "ref: refs/heads/packed\n",
        lambda site, snapshot: snapshot.table.raw(b"refs/heads/main"),
    ),
    "new loose ref": (
        lambda site: None,
        "refs/heads/new",
        "ref: refs/heads/packed\n",
        lambda site, snapshot: snapshot.table.raw(b"refs/heads/new"),
    ),
    "packed-refs": (lambda site: None, "packed-refs", "", lambda site, snapshot: packed_of(snapshot)),
    "config": (
        lambda site: None,
        "config",
        "[probe]\nvalue = 1\n",
        lambda site, snapshot: snapshot.config.get("probe.value"),
    ),
    "shallow": (lambda site: None, "shallow", f"{'1' * 40}\n", lambda site, snapshot: snapshot.shallow),
    "info/grafts": (lambda site: None, "info/grafts", f"{'1' * 40}\n", lambda site, snapshot: dict(snapshot.grafts)),
    "alternates": (
        lambda site: None,
        "objects/info/alternates",
        "../../other.git/objects\n",
        lambda site, snapshot: snapshot.store.find(site.foreign) >= 0,
    ),
    "alternates of alternates": (
        with_alternates,
        "../other.git/objects/info/alternates",
        "../../third.git/objects\n",
        lambda site, snapshot: len(snapshot.store.directories),
    ),
    "refs of an alternate": (
        with_alternates,
        "../other.git/refs/heads/new",
        f"{'1' * 40}\n",
        lambda site, snapshot: snapshot.alternate_tips,
    ),
}


@pytest.mark.parametrize("name", RACES)
def test_a_change_during_reading_is_in_the_next_snapshot(name: str, site: Site) -> None:
    """The change comes before the n-th stat of a first look, and that stat comes when the change looks old."""
    prepare, relative, content, look = RACES[name]
    (site.folder / "third.git/objects").mkdir(parents=True)
    prepare(site)
    path = Path(os.path.normpath(site.repo / relative))
    old = path.read_text() if path.exists() else None
    expected_before = look(site, repository(site.repo, site.environ).snapshot())
    number, stat_count = 0, 1
    while number < stat_count:
        world = World(site.folder, GRAINS_NS[0])
        world.advance()
        counts = [0]

        def stat(asked: str, *, at: int = number, world: World = world, counts: list[int] = counts) -> os.stat_result:
            if counts[0] == at:
                world.advance()
                put(path, content)
                world.advance()
            counts[0] += 1
            return world.stat(asked)

        watched = repository(site.repo, site.environ, world, stat=stat)
        watched.snapshot()
        stat_count = counts[0]
        assert expected_before != look(site, watched.snapshot()), f"change before stat {number} of {stat_count}"
        if old is None:
            path.unlink()
        else:
            put(path, old)
        number += 1
    assert stat_count > 10


# Nothing is kept from a failure


def failing(name: str, real: Callable[..., Any], number: int) -> Callable[..., Any]:
    def fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    return fail


REAL: dict[str, Callable[..., Any]] = {
    "builtins.open": open,
    "os.open": os.open,
    "os.scandir": os.scandir,
    "os.listdir": os.listdir,
}

SCARCE = {
    "folder of refs": ("os.scandir", "refs/heads"),
    "loose ref": ("os.open", "refs/heads/main"),
    "packed-refs": ("os.open", "packed-refs"),
    "HEAD": ("os.open", "/HEAD"),
    "folder of packs": ("os.scandir", "objects/pack"),
    "pack": ("os.open", ".pack"),
    "index": ("os.open", ".idx"),
    "alternates": ("builtins.open", "r.git/objects/info/alternates"),
    "config": ("os.open", "/config"),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("name", SCARCE)
def test_scarce_descriptors_fail_a_request_and_leave_no_trace(name: str, is_first: bool, site: Site) -> None:
    function, suffix = SCARCE[name]
    world = World(site.folder, GRAINS_NS[0])
    world.advance()
    watched = repository(site.repo, site.environ, world)
    if not is_first:
        watched.snapshot()
        world.advance()
    site.git("config", "includeIf.onbranch:main.path", "absent")
    site.git("repack", "-adq")
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")
    site.git("update-ref", "refs/heads/main", site.second.hex())
    site.git("pack-refs")
    site.git("symbolic-ref", "HEAD", "refs/heads/packed")
    world.advance()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, failing(suffix, REAL[function], errno.EMFILE))
        with pytest.raises((OSError, BadConfig)):
            watched.snapshot()
    snapshot = watched.snapshot()
    assert site.second == main_of(snapshot)
    assert snapshot.table.head.symref_target == b"refs/heads/packed"
    assert snapshot.store.find(site.foreign) >= 0
    assert len(snapshot.store.packs) == 2
    assert snapshot.table.broken == ()


def test_a_home_that_may_not_be_entered_is_no_configuration(site: Site) -> None:
    world = World(site.folder, GRAINS_NS[0])

    def stat(path: str) -> os.stat_result:
        if path.startswith(str(site.home)):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return world.stat(path)

    world.advance()
    watched = repository(site.repo, site.environ, world, stat=stat)
    snapshot = watched.snapshot()
    assert site.first == main_of(snapshot)
    assert snapshot is watched.snapshot()


def test_a_bad_configuration_is_an_error_until_it_is_mended(site: Site) -> None:
    world = World(site.folder, GRAINS_NS[0])
    watched: Repository = repository(site.repo, site.environ, world)
    config = (site.repo / "config").read_text()
    for is_good in (True, False, True, False):
        put(site.repo / "config", config + ("" if is_good else "[nonsense\n"))
        if is_good:
            assert site.first == main_of(watched.snapshot())
        else:
            with pytest.raises(BadConfig):
                watched.snapshot()
        world.advance()


def test_that_an_object_is_missing_is_not_remembered(site: Site) -> None:
    name = site.tag.hex()
    path = site.repo / "objects" / name[:2] / name[2:]
    data = path.read_bytes()
    path.unlink()
    swap(site.repo / "packed-refs", f"{name} refs/tags/tag\n")
    world = World(site.folder, GRAINS_NS[0])
    world.advance()
    watched = repository(site.repo, site.environ, world)
    snapshot = watched.snapshot()
    assert snapshot.table.peeled(site.tag, snapshot.peel) is None
    swap(path, data)
    snapshot = watched.snapshot()
    assert site.first == snapshot.table.peeled(site.tag, snapshot.peel)
