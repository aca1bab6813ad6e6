"""Histories of paths out of what a server's helper wrote down, with git's own answer beside it."""

import os
import random
import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest

from govc.graph.path_changes import LIMITS, find_changes
from govc.graph.path_file import PathColumns, iter_encoded, parse_paths
from govc.library import path_index
from govc.odb.cache import BaseCache
from govc.protocol.oid import SHA1
from govc.repo import path_files
from govc.repo.introducing import IntroduceTask, fill_introductions
from govc.repo.introductions import Introductions
from govc.repo.repository import Repository, Surroundings
from tests.graph.builder import RepositoryBuilder
from tests.graph.oracle import GitOracle
from tests.kernels.both import needs_compiled
from tests.library.histories import hexes, on_disk, opened, random_history
from tests.library.test_reading import CLOCKS, ORDERS, PATHS

pytestmark = needs_compiled  # else no index is made


@pytest.fixture(autouse=True)
def short_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the file made for a few commits."""
    monkeypatch.setattr(path_files, "COMMITS_MIN", 1)
    monkeypatch.setattr(path_files, "LAG_MIN", 0)


def fill(folder: Path) -> int:
    """Do what a helper does; return how many commits' paths it found."""
    around = Surroundings(environ={}, base_cache=BaseCache(), object_bytes_max=1 << 30)
    report = fill_introductions(IntroduceTask.of(Repository(str(folder), around).snapshot()))
    assert not report.skipped
    return report.commits_with_paths


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "govc" / "introductions").glob("*.paths"))


class Site:
    """A history on disk of which the helper has met all but the last few commits."""

    def __init__(self, seed: int, clock: str, folder: Path, *, later: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.repo, self.commits = random_history(seed, clock=clock, size=40)
        known = self.commits[: len(self.commits) - later]
        self.git: GitOracle = on_disk(self.repo, folder, known, seed=seed, packed=seed % 3 > 0)

    def check(self, repository: Any, *, times: int = 3, some: int = 4) -> None:
        """Compare with git, for `some` of the paths in each order."""
        for order, words in ORDERS.items():
            for first_parent in (False, True):
                for path in self.random.sample(PATHS, some):
                    tips = self.random.sample(self.commits, self.random.randint(1, 2))
                    options = [*words, *(["--first-parent"] if first_parent else []), *(tip.hex() for tip in tips)]
                    asked = hexes(self.git.run("rev-list", *options, "--", path).stdout)
                    log = repository.log(*tips, order=order, first_parent=first_parent, paths=[path.encode()])
                    got = [commit.hex for commit in log]
                    if first_parent and order != "default":
                        got, asked = sorted(got), sorted(asked)  # see test_reading
                    assert got == asked, (order, first_parent, path)
                    limited = repository.log(
                        *tips, order=order, first_parent=first_parent, paths=[path.encode()], limit=times
                    )
                    assert limited.oids == log.oids[:times]
        tip = self.commits[-1]
        everything = hexes(self.git.run("rev-list", tip.hex(), "--", ".").stdout)
        assert [commit.hex for commit in repository.log(tip, paths=[b""])] == everything


def is_read_from_file(repository: Any) -> bool:
    """No folder was read for the answers so far."""
    histories = repository._paths
    return histories.index._is_good and not histories._folders and not histories._columns


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("seed", range(3))
def test_the_history_of_a_path_is_that_of_git(tmp_path: Path, seed: int, clock: str) -> None:
    site = Site(seed, clock, tmp_path / "r.git")
    assert fill(site.folder) == len(site.commits) and len(files_of(site.folder)) == 1
    with opened(site.folder) as repository:
        site.check(repository, some=len(PATHS))
        assert is_read_from_file(repository) and repository.statistics().path_bytes


@pytest.mark.parametrize("each", [1, 4, 9])
def test_large_commits_are_looked_into(tmp_path: Path, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_files, "find_changes", _limited(changes_each=each))
    site = Site(each, "ties", tmp_path / "r.git")
    fill(site.folder)
    with opened(site.folder) as repository:
        site.check(repository)
        assert is_read_from_file(repository) and len(repository._paths.index._large) > (2 if each < 9 else 0)
        monkeypatch.setattr(path_index, "LARGE_MAX", 0)
        with opened(site.folder) as other:
            site.check(other)
            assert other._paths._columns


def _limited(**limits: int) -> Any:
    """Comparing as the helper does, with other limits."""
    return lambda *words: find_changes(*words, LIMITS._replace(**limits))


def test_commits_that_came_later_are_compared_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(4, "good", tmp_path / "r.git", later=20)
    fill(site.folder)
    # The objects of all commits are there: they are met one after the other, as pushes bring them.
    with opened(site.folder) as repository:
        for tip in site.commits:
            asked = hexes(site.git.run("rev-list", tip.hex(), "--", "a").stdout)
            assert [commit.hex for commit in repository.log(tip, paths=[b"a"])] == asked
        assert is_read_from_file(repository) and 1 < len(repository._paths.index._parts) <= path_index.PARTS_MAX
        site.check(repository)
    monkeypatch.setattr(path_index, "ADDED_MAX", 3)
    with opened(site.folder) as repository:
        site.check(repository)
        assert not repository._paths.index._is_good  # the file lacks too much


def test_a_comparison_that_is_broken_off_leaves_nothing_half_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(4, "good", tmp_path / "r.git", later=20)
    fill(site.folder)

    def interrupted(*_words: Any) -> None:
        raise KeyboardInterrupt

    with opened(site.folder) as repository:
        assert repository.log(site.commits[20], paths=[b""]).oids and is_read_from_file(repository)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(path_index, "find_changes", interrupted)
            repository.log(*site.commits[:-1], paths=[b"a"])
        for tip in (site.commits[-2], site.commits[-1]):  # the first is known by now, the second isn't
            asked = hexes(site.git.run("rev-list", tip.hex(), "--", "a").stdout)
            assert [commit.hex for commit in repository.log(tip, paths=[b"a"])] == asked
        assert repository._paths.index._is_good
        site.check(repository)


def test_a_newer_file_takes_over(tmp_path: Path) -> None:
    site = Site(5, "ties", tmp_path / "r.git", later=15)
    met = fill(site.folder)
    (before,) = files_of(site.folder)
    with opened(site.folder) as repository:
        assert repository.log(site.commits[0], paths=[b"a"]).oids is not None
        held = repository._paths.index._parts[0][0]
        refs = "".join(f"create refs/heads/c{number} {oid.hex()}\n" for number, oid in enumerate(site.commits))
        site.git.run("update-ref", "--stdin", stdin=refs.encode())
        added = fill(site.folder)
        assert added and met + added == len(site.commits) and fill(site.folder) == 0
        (after,) = files_of(site.folder)
        assert after != before
        file = parse_paths(after.read_bytes(), SHA1)
        assert (
            bytes(file.commit_oids).startswith(bytes(held.commit_oids)) and len(file.commit_oids) // 20 == met + added
        )
        site.check(repository)
        assert is_read_from_file(repository) and repository._paths.index._parts[0][0] is not held
    with opened(site.folder) as repository:
        site.check(repository)


def test_a_file_that_is_no_good_is_passed_over_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(1, "good", tmp_path / "r.git")
    fill(site.folder)
    (path,) = files_of(site.folder)
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with opened(site.folder) as repository:
        site.check(repository)
        assert repository._paths._columns
    assert "checksum mismatch" in caplog.text
    path.write_bytes(b"GVPH\x02" + content[5:])
    index = Introductions(str(site.folder), SHA1)
    index.refresh()
    assert index.path_commits == 0 and path.name in index.bad_names and path_files.is_paths_due(index)
    assert fill(site.folder) == len(site.commits)
    with opened(site.folder) as repository:
        site.check(repository)
        assert is_read_from_file(repository)


def test_a_file_with_places_beyond_its_commits_is_given_up(tmp_path: Path) -> None:
    site = Site(2, "good", tmp_path / "r.git")
    fill(site.folder)
    (path,) = files_of(site.folder)
    file = parse_paths(path.read_bytes(), SHA1)
    columns = [bytes(view) for view in (file.commit_oids, file.large, file._name_starts, file._names)]
    wrong = bytes(range(1, 256)) * (len(file._places) * 4 // 255 + 1)
    lying = PathColumns(*columns, bytes(file._change_starts), wrong[: len(file._places) * 4], bytes(file._parents))
    path.chmod(0o600)
    path.write_bytes(b"".join(iter_encoded(lying, SHA1)))
    with opened(site.folder) as repository:
        site.check(repository)
        assert not repository._paths.index._is_good


def test_a_file_that_is_cut_under_its_map_is_given_up(tmp_path: Path) -> None:
    site = Site(2, "good", tmp_path / "r.git")
    fill(site.folder)
    (path,) = files_of(site.folder)
    content = path.read_bytes()
    # Large enough to be mapped: names that no path has stand before the others.
    file = parse_paths(content, SHA1)
    names = [b"!%07d" % number for number in range(40_000)] + [name for name, _p, _q in file.iter_known()]
    names.sort()
    starts, ends = array("I", [0]), array("I", [0])
    places, parents = array("I"), bytearray()
    for name in names:
        starts.append(starts[-1] + len(name))
        rank = file.find(name)
        if rank >= 0:
            at, same = file.changes(rank)
            places.extend(at)
            parents += same
        ends.append(len(places))
    made = PathColumns(
        bytes(file.commit_oids),
        b"",
        starts.tobytes(),
        b"".join(names),
        ends.tobytes(),
        places.tobytes(),
        bytes(parents),
    )
    path.chmod(0o600)
    path.write_bytes(b"".join(iter_encoded(made, SHA1)))
    with opened(site.folder) as repository:
        repository.log(site.commits[-1], paths=[b"a"])
        assert is_read_from_file(repository)
        os.truncate(path, 4096)
        site.check(repository)
        assert not repository._paths.index._is_good


def test_history_that_is_not_whole_is_read_from_trees(tmp_path: Path) -> None:
    site = Site(1, "good", tmp_path / "r.git")
    fill(site.folder)
    tip = site.commits[-1]
    (site.folder / "shallow").write_text(f"{tip.hex()}\n")
    with opened(site.folder) as repository:
        for path in PATHS:
            asked = hexes(site.git.run("rev-list", tip.hex(), "--", path).stdout)
            assert [commit.hex for commit in repository.log(tip, paths=[path.encode()])] == asked
        assert not repository._paths.index._is_good


def test_ranges_and_several_paths_are_read_from_trees(tmp_path: Path) -> None:
    site = Site(3, "good", tmp_path / "r.git")
    fill(site.folder)
    tip, bottom = site.commits[-1], site.commits[7]
    with opened(site.folder) as repository:
        assert repository.log(tip, paths=[b""]).oids and is_read_from_file(repository)
        asked = hexes(site.git.run("rev-list", tip.hex(), f"^{bottom.hex()}", "--", "a").stdout)
        assert [c.hex for c in repository.log(tip, exclude=[bottom], paths=[b"a"])] == asked
        asked = hexes(site.git.run("rev-list", tip.hex(), "--", "a", "dir").stdout)
        assert sorted(c.hex for c in repository.log(tip, paths=[b"a", b"dir"])) == sorted(asked)
        assert repository._paths._columns


def test_what_changes_too_much_or_is_damaged_gets_a_file_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(1, "good", tmp_path / "r.git")
    with monkeypatch.context() as patch:
        patch.setattr(path_files, "find_changes", _limited(changes=5))
        fill(site.folder)
        assert fill(site.folder) == 0  # not tried again
    monkeypatch.setattr(path_index, "LARGE_MAX", 10)
    with opened(site.folder) as repository:
        site.check(repository)
        assert repository._paths._columns
    shutil.rmtree(site.folder / "govc")
    fill(site.folder)
    with opened(site.folder) as repository:
        site.check(repository)
        assert is_read_from_file(repository)


def test_short_histories_get_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_files, "COMMITS_MIN", 500)
    site = Site(1, "good", tmp_path / "r.git")
    assert fill(site.folder) == 0 and not files_of(site.folder)


def test_renamed_folders_and_paths_that_come_back(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    folder = {b"x": b"1", b"y": {b"z": b"2"}}
    first = repo.commit({b"old": folder, b"f": b"1"})
    moved = repo.commit({b"new": folder, b"f": b"1"}, [first])
    side = repo.commit({b"old": {**folder, b"x": b"3"}, b"f": b"1"}, [first])
    gone = repo.commit({b"new": folder}, [moved])
    merged = repo.commit({b"new": {**folder, b"x": b"3"}}, [gone, side])
    back = repo.commit({b"new": {**folder, b"x": b"3"}, b"f": b"1", b"old": b"a file"}, [merged])
    as_folder = repo.commit({b"new": b"file now", b"f": {b"1": b"1"}, b"old": b"a file"}, [back])
    last = repo.commit({b"new": b"file now", b"old": folder}, [as_folder, first])
    commits = [first, moved, side, gone, merged, back, as_folder, last]
    git = on_disk(repo, tmp_path / "r.git", commits[-1:])
    assert fill(tmp_path / "r.git") == len(commits)
    with opened(tmp_path / "r.git") as repository:
        for tip in commits:
            for path in ("old", "old/x", "old/y", "old/y/z", "new", "new/x", "new/y/z", "f", "f/1"):
                asked = hexes(git.run("rev-list", tip.hex(), "--", path).stdout)
                assert [commit.hex for commit in repository.log(tip, paths=[path.encode()])] == asked, path
        assert is_read_from_file(repository)
