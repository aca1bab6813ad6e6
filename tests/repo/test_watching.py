"""The table in docs/architecture.md ("A snapshot"), line by line: whatever changes, the very next snapshot tells.

A line's test is a generator: between two `yield (look, expected)` it changes something on disk, by plain git or by
hand (overwritten in place with the same size where that can be, and replaced by a rename). Each runs in several worlds:
all changes within one tick of a clock of 4 ms, 1 s and 2 s; with time between them, so that every stamp has settled and
an unchanged repository gives the very same snapshot; and with file systems that give an inode's number away again.
"""

import pytest

from tests.repo import watched_config, watched_objects, watched_refs  # noqa: F401  they register their lines
from tests.repo.watch_lines import LINES
from tests.repo.worlds import SECOND_NS, Site, World, repository

WORLDS = {
    "one 4 ms tick": (4_000_000, False, True),
    "one 1 s tick": (SECOND_NS, False, True),
    "one 2 s tick": (2 * SECOND_NS, False, True),
    "settled": (4_000_000, True, True),
    "settled whole seconds": (2 * SECOND_NS, True, True),
    "settled with inodes reused": (4_000_000, True, False),
}
"""Grain, whether time goes by between changes, whether inodes tell files apart."""

WORLDS_FOR_GIT = ("one 4 ms tick", "one 2 s tick", "settled")
"""git takes its time; what it does is also done by hand."""


CASES = [(name, world) for name in LINES for world in WORLDS if world in WORLDS_FOR_GIT or not name.endswith("-git")]


@pytest.mark.parametrize(("name", "world_name"), CASES, ids=(f"{name}-{world}" for name, world in CASES))
def test_the_next_snapshot_sees(name: str, world_name: str, site: Site) -> None:
    spec = LINES[name]
    grain_ns, has_time, with_inodes = WORLDS[world_name]
    world = World(site.folder, grain_ns, with_inodes=with_inodes)
    watched = None
    for number, (look, expected) in enumerate(spec.run(site)):
        watched = watched or repository(site.folder / spec.gitdir, site.environ, world)
        assert expected == look(watched.snapshot()), f"step {number}"
        if has_time:
            world.advance()
            snapshot = watched.snapshot()
            assert expected == look(snapshot), f"step {number}, later"
            if spec.settles:
                assert snapshot is watched.snapshot()
