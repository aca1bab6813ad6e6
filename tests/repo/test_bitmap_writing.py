"""The bitmaps that our maintenance writes: git believes them, uses them, and lists what it lists without."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dulwich.bitmap import read_bitmap

from govc import disk
from govc.repo.maintenance import MaintenanceReport, maintain_path
from tests.repo.stepping import SteppingDisk

ENVIRON = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
FORMATS = ["sha1", "sha256"]
COMMITS = 400
FEW = "sha1, few commits"
"""For what is done again and again: with the twins it takes a second each time for all of them."""
KINDS = ["pack", "index"]


def git(path: Path, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{role}_{part}": "x@y" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=path, env=env, input=stdin, capture_output=True, check=check, text=True
    )
    return done.stdout.strip()


def commits_script(seed: int, first: int, count: int, *, goes_on: bool = False) -> str:
    """Commits on three branches with merges, octopuses among them, and reverts, for fast-import."""
    chance = random.Random(seed)
    out = []
    seen: set[str] = set()
    for number in range(first, first + count):
        branch = chance.choice(("main", "main", "side", "topic"))
        time = 1_600_000_000 + number - chance.choice((0, 0, 0, 50))
        out.append(f"commit refs/heads/{branch}\ncommitter C <c@d> {time} +0000\ndata 2\nc\n")
        if goes_on and branch not in seen:
            out.append(f"from refs/heads/{branch}^0\n")
        seen.add(branch)
        if branch == "main" and len(seen) == 3 and chance.random() < 0.3:
            out.append("merge refs/heads/side\n")
            out.append("merge refs/heads/topic\n" if chance.random() < 0.3 else "")
        for _ in range(2):
            path = f"d{chance.randrange(3)}/e{chance.randrange(3)}/f{chance.randrange(5)}"
            text = f"{chance.randrange(40)}" if chance.random() < 0.5 else f"{number} {chance.random()}"
            out.append(f"M 644 inline {path}\ndata {len(text)}\n{text}\n")
        out.append("\n")
    return "".join(out)


@pytest.fixture(scope="module", params=FORMATS)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pack of many commits and all kinds of tags."""
    name, _comma, few = request.param.partition(", ")
    path = tmp_path_factory.mktemp("bitmaps") / "r.git"
    path.mkdir()
    git(path, "init", "-q", "--bare", "-b", "main", f"--object-format={name}")
    git(path, "config", "gc.auto", "0")
    git(path, "fast-import", "--quiet", stdin=commits_script(1, 0, COMMITS // 4 if few else COMMITS))
    git(path, "tag", "-a", "-m", "v", "v1", "main~20")
    git(path, "tag", "-a", "-m", "of a tag", "v1-again", "v1")
    git(path, "tag", "-a", "-m", "of a tree", "tree", "main~5^{tree}")
    git(path, "tag", "light", "main~30:d1")
    blob = git(path, "hash-object", "-w", "--stdin", stdin="a public key")
    git(path, "tag", "-a", "-m", "of a blob", "key", blob)
    git(path, "-c", "repack.writeBitmaps=false", "repack", "-adq")
    return path


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    path = tmp_path / "r.git"
    shutil.copytree(template, path)
    return path


def grow(path: Path, count: int, *, seed: int = 2) -> None:
    """Another pack, with commits on top."""
    git(path, "fast-import", "--quiet", stdin=commits_script(seed, 1000 * seed, count, goes_on=True))
    git(path, "repack", "-dq")


def maintain(path: Path) -> MaintenanceReport:
    return maintain_path(str(path), ENVIRON)


def bitmaps_of(path: Path) -> list[str]:
    return sorted(file.name for file in (path / "objects/pack").glob("*.bitmap"))


def tips(path: Path) -> list[str]:
    return git(path, "for-each-ref", "--format=%(objectname)").split()


def git_agrees(path: Path) -> None:
    """Listing by bitmaps finds the same objects, for everything and for a range."""
    for revisions in (["--all"], ["main", "side", "^topic~5"], ["main", "^main~9"]):
        by_bitmaps, plain = (
            sorted(line.split()[0] for line in git(path, "rev-list", "--objects", *way, *revisions).splitlines())
            for way in (["--use-bitmap-index"], [])
        )
        # For a range bitmaps know better what the other side has.
        assert by_bitmaps == plain if revisions == ["--all"] else set(by_bitmaps) <= set(plain)
        assert git(path, "rev-list", "--use-bitmap-index", "--count", *revisions) == git(
            path, "rev-list", "--count", *revisions
        )
    git(path, "fsck", "--full", "--strict")


def pack_reused(path: Path) -> int:
    """How many objects git copies out of the pack as they lie: none unless it uses bitmaps."""
    command = ["git", "pack-objects", "--all", "--stdout", "--delta-base-offset", "--progress"]
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(path)}
    done = subprocess.run(command, cwd=path, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    found = re.search(rb"pack-reused (\d+)", done.stderr)
    assert found is not None
    return int(found[1])


@pytest.mark.rows("CF-70", "CF-73", "FS-54")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookup_table", ["true", "false"])
def test_git_believes_and_uses_them(repository: Path, kind: str, lookup_table: str) -> None:
    git(repository, "config", "pack.writeBitmapLookupTable", lookup_table)
    if kind == "index":
        grow(repository, 120)
    assert pack_reused(repository) == 0
    report = maintain(repository)
    assert report.commits_bitmapped > 100
    (name,) = bitmaps_of(repository)
    assert name.startswith("multi-pack-index-") == (kind == "index")
    git_agrees(repository)
    assert pack_reused(repository) > 1000
    for branch in ("main", "main~3", "side", "topic"):
        git(repository, "rev-list", "--test-bitmap", branch)
    if kind == "index":
        git(repository, "multi-pack-index", "verify")
    assert maintain(repository).commits_bitmapped == 0


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "r.git"
    path.mkdir()
    git(path, "init", "-q", "--bare", "-b", "main", f"--object-format={FORMATS[seed % 2]}")
    git(path, "fast-import", "--quiet", stdin=commits_script(100 + seed, 0, 60))
    git(path, "repack", "-dq")
    if seed > 1:
        grow(path, 40, seed=200 + seed)
    assert maintain(path).commits_bitmapped > 50
    git_agrees(path)
    for line in git(path, "rev-list", "--all").split()[::9]:
        git(path, "rev-list", "--test-bitmap", line)


@pytest.mark.parametrize("template", ["sha1"], indirect=True)  # dulwich reads bitmaps of SHA-1 only
def test_dulwich_reads_the_same_sets(repository: Path) -> None:
    git(repository, "config", "pack.writeBitmapLookupTable", "true")
    maintain(repository)
    (path,) = (repository / "objects/pack").glob("*.bitmap")
    found: Any = read_bitmap(str(path), pack_checksum=path.with_suffix(".pack").read_bytes()[-20:])
    with path.with_suffix(".idx").open("rb") as index:
        command = subprocess.run(["git", "show-index"], stdin=index, capture_output=True, check=True, text=True)
    rows = [line.split()[:2] for line in command.stdout.splitlines()]
    by_place = sorted(oid for _, oid in rows)
    by_offset = [oid for _, oid in sorted(rows, key=lambda row: int(row[0]))]
    assert len(found.lookup_table) == len(found.entries_list) > 100
    sets: list[set[int]] = []
    for place, entry in found.entries_list:
        base = sets[len(sets) - entry.xor_offset] if entry.xor_offset else set()
        sets.append(entry.bitmap.bits ^ base)
        if len(sets) % 25 == 0:
            commit = by_place[int.from_bytes(place, "big")]
            expected = git(repository, "rev-list", "--objects", "--no-object-names", commit).split()
            assert sorted(by_offset[bit] for bit in sets[-1]) == sorted(expected)


@pytest.mark.rows("CF-70", "CF-73", "CF-55")
def test_settings(repository: Path) -> None:
    git(repository, "config", "repack.writeBitmaps", "false")
    assert maintain(repository).commits_bitmapped == 0
    assert bitmaps_of(repository) == []
    git(repository, "config", "--unset", "repack.writeBitmaps")
    git(repository, "config", "pack.writeBitmaps", "false")  # its old name
    assert maintain(repository).commits_bitmapped == 0
    git(repository, "config", "--unset", "pack.writeBitmaps")
    git(repository, "config", "core.bare", "false")
    assert maintain(repository).commits_bitmapped == 0
    git(repository, "config", "core.bare", "true")
    git(repository, "config", "core.multiPackIndex", "false")
    grow(repository, 120)
    assert maintain(repository).commits_bitmapped > 100
    (name,) = bitmaps_of(repository)
    assert name.startswith("pack-")
    git_agrees(repository)


def name_hashes(path: Path) -> dict[str, int]:
    """The name-hash cache beside the only pack, by oid; empty without one."""
    (file,) = (path / "objects/pack").glob("*.bitmap")
    with file.with_suffix(".idx").open("rb") as index:
        shown = subprocess.run(["git", "show-index"], stdin=index, cwd=path, capture_output=True, check=True, text=True)
    oids = sorted(line.split()[1] for line in shown.stdout.splitlines())
    data = file.read_bytes()
    if not data[7] & 4:
        return {}
    end = len(data) - len(oids[0]) // 2
    words = data[end - 4 * len(oids) : end]
    return {oid: int.from_bytes(words[4 * at : 4 * at + 4], "big") for at, oid in enumerate(oids)}


@pytest.mark.rows("CF-70")
def test_the_hashes_of_paths_are_gits(repository: Path) -> None:
    git(repository, "tag", "-d", "light", "tree")  # git takes paths below these for paths
    paths: dict[str, set[str]] = {}
    for line in git(repository, "log", "--all", "-m", "--raw", "--no-abbrev", "-r", "-t", "--format=").splitlines():
        for oid in line.split()[2:4]:
            paths.setdefault(oid, set()).add(line.split("\t")[1])
    maintain(repository)
    ours = name_hashes(repository)
    git(repository, "repack", "-adbfq")
    theirs = name_hashes(repository)
    same_path = [oid for oid, found in paths.items() if len(found) == 1 and oid in ours]
    assert len(same_path) > 500
    assert [ours[oid] for oid in same_path] == [theirs[oid] for oid in same_path]
    assert all(bool(ours[oid]) == bool(theirs[oid]) for oid in paths if oid in ours)
    for bitmap in (repository / "objects/pack").glob("*.bitmap"):
        bitmap.unlink()
    git(repository, "config", "pack.writeBitmapHashCache", "false")
    maintain(repository)
    assert name_hashes(repository) == {}
    git_agrees(repository)


@pytest.mark.rows("CF-70")
def test_tips_that_are_preferred_have_sets(repository: Path) -> None:
    lucky = git(repository, "rev-parse", "main~110")
    git(repository, "update-ref", "refs/lucky/one", lucky)
    git(repository, "config", "pack.preferBitmapTips", "refs/lucky/")
    maintain(repository)
    git(repository, "rev-list", "--test-bitmap", lucky)
    for file in (repository / "objects/pack").glob("*.bitmap"):
        file.unlink()
    git(repository, "config", "--unset", "pack.preferBitmapTips")
    git(repository, "update-ref", "-d", "refs/lucky/one")
    maintain(repository)
    assert "doesn't have an indexed bitmap" in failed(repository, "rev-list", "--test-bitmap", lucky)


def failed(path: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], cwd=path, env=env, capture_output=True, check=False, text=True)
    return done.stderr + done.stdout


@pytest.mark.parametrize("why", ["shallow", "grafts", "promisor", "alternates", "missing"])
def test_none_where_history_is_not_whole(repository: Path, tmp_path: Path, why: str) -> None:
    (pack,) = (repository / "objects/pack").glob("*.pack")
    head = git(repository, "rev-parse", "main~3")
    if why == "shallow":
        (repository / "shallow").write_text(f"{head}\n")
    elif why == "grafts":
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info/grafts").write_text(f"{head}\n")
    elif why == "promisor":
        pack.with_suffix(".promisor").touch()
    elif why == "alternates":
        other = tmp_path / "other.git"
        git(tmp_path, "clone", "-q", "--bare", "--shared", str(repository), str(other))
        git(other, "fast-import", "--quiet", stdin=commits_script(5, 9000, 30, goes_on=True))
        git(other, "repack", "-dlq")
        repository = other
    else:
        lost = "1" * len(head)
        tree = git(repository, "mktree", "--missing", stdin=f"100644 blob {lost}\tlost")
        git(repository, "update-ref", "refs/heads/broken", git(repository, "commit-tree", "-m", "x", tree))
        git(repository, "repack", "-dq", check=False)
    assert maintain(repository).commits_bitmapped == 0
    assert bitmaps_of(repository) == []


def test_what_is_not_in_packs_has_no_set(repository: Path) -> None:
    """Commits on top that are loose: git walks them, and what stands on them in a pack has no set either."""
    packed = git(repository, "rev-parse", "main")
    tree = git(repository, "rev-parse", "main^{tree}")
    loose = git(repository, "commit-tree", "-m", "loose", "-p", packed, tree)
    child = git(repository, "commit-tree", "-m", "packed", "-p", loose, tree)
    git(repository, "update-ref", "refs/heads/main", child)
    git(repository, "pack-objects", "-q", "objects/pack/pack", stdin=f"{child}\n")
    (repository / "objects" / child[:2] / child[2:]).unlink()
    git(repository, "config", "core.multiPackIndex", "true")
    assert maintain(repository).commits_bitmapped > 100
    git_agrees(repository)
    git(repository, "rev-list", "--test-bitmap", packed)
    assert "doesn't have an indexed bitmap" in failed(repository, "rev-list", "--test-bitmap", child)


def test_written_anew_when_a_sixteenth_is_new(repository: Path) -> None:
    maintain(repository)
    (first,) = bitmaps_of(repository)
    grow(repository, 10)
    assert maintain(repository).commits_bitmapped == 0
    assert bitmaps_of(repository) == [first]
    git_agrees(repository)
    grow(repository, 60, seed=3)
    assert maintain(repository).commits_bitmapped > 100
    (second,) = bitmaps_of(repository)
    assert second.startswith("multi-pack-index-")
    git_agrees(repository)
    # A small pack has come, too small to be merged: the index with the bitmaps stays, for it is still right.
    index = (repository / "objects/pack/multi-pack-index").read_bytes()
    grow(repository, 1, seed=4)
    report = maintain(repository)
    assert (report.packs_merged, report.packs_indexed, report.commits_bitmapped) == (0, 0, 0)
    assert (repository / "objects/pack/multi-pack-index").read_bytes() == index
    assert bitmaps_of(repository) == [second]
    git_agrees(repository)


def test_bitmaps_go_with_their_pack(repository: Path) -> None:
    maintain(repository)
    (first,) = bitmaps_of(repository)
    grow(repository, 300)  # so much that both are merged
    assert maintain(repository).packs_merged == 2
    (second,) = bitmaps_of(repository)
    assert second.startswith("pack-") and second != first
    git_agrees(repository)
    assert pack_reused(repository) > 1000
    git(repository, "-c", "repack.writeBitmaps=false", "repack", "-adq")
    assert bitmaps_of(repository) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_repository_shares_them(repository: Path, kind: str) -> None:
    git(repository, "config", "core.sharedRepository", "0660")
    if kind == "index":
        grow(repository, 120)
    before = os.umask(0o077)
    try:
        maintain(repository)
    finally:
        os.umask(before)
    (name,) = bitmaps_of(repository)
    assert (repository / "objects/pack" / name).stat().st_mode & 0o777 == 0o440


def test_a_foreign_lock_of_the_index(repository: Path) -> None:
    grow(repository, 120)
    lock = repository / "objects/pack/multi-pack-index.lock"
    lock.write_text("mine")
    assert maintain(repository).commits_bitmapped == 0
    assert bitmaps_of(repository) == []
    lock.unlink()
    assert maintain(repository).commits_bitmapped > 100


class Killed(BaseException):
    pass


class Dying(SteppingDisk):
    """A disk whose process is killed at a change; nothing that it does while it unwinds reaches the disk."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [FEW], indirect=True)
def test_a_kill_leaves_nothing_that_git_would_misread(repository: Path, tmp_path: Path, kind: str) -> None:
    maintain(repository)  # what is killed is the replacing of good bitmaps
    if kind == "index":
        grow(repository, 40)
    else:
        (name,) = bitmaps_of(repository)
        whole = tmp_path / "whole"
        git(tmp_path, "clone", "-q", "--bare", "--no-local", str(repository), str(whole))
        for file in (repository / "objects/pack").iterdir():
            file.unlink()
        for file in (whole / "objects/pack").glob("pack-*.[pi]*"):
            shutil.copy(file, repository / "objects/pack")
    expected = git(repository, "rev-list", "--objects", "--all", "--count")
    number = 0
    is_done = False
    while not is_done:
        path = tmp_path / f"n{number}.git"
        shutil.copytree(repository, path)
        try:
            with disk.use(Dying(number)):
                maintain(path)
            is_done = True
        except Killed:
            number += 1
        assert git(path, "rev-list", "--use-bitmap-index", "--objects", "--all", "--count") == expected
        for name in bitmaps_of(path):
            stem = name.removesuffix(".bitmap")
            assert name.startswith("multi-pack-index-") or (path / "objects/pack" / f"{stem}.pack").exists()
        (path / "objects/pack/multi-pack-index.lock").unlink(missing_ok=True)  # as after a kill of git
        maintain(path)
        # Killed between the new ones and the old ones' removal, both stay: git takes the index's.
        assert len(bitmaps_of(path)) in ((1, 2) if kind == "index" else (1,))
        assert git(path, "rev-list", "--use-bitmap-index", "--objects", "--all", "--count") == expected
        shutil.rmtree(path)
    assert number > 4
