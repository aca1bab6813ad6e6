"""Bitmaps that git wrote: each set is what git itself lists, and answers made from them are those of the walk."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from govc.graph.bitmap_closure import find_by_bitmaps
from govc.graph.closure import Closure, ClosureRequest, find_closure
from govc.graph.commits import CommitTable, History
from govc.graph.filter import ALL, NO_BLOBS
from govc.odb.cache import BaseCache
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1, SHA256
from govc.repo import bitmaps as bitmaps_module
from govc.repo import packing
from govc.repo.bitmaps import open_bitmaps
from govc.repo.helper import Progress
from govc.repo.pack_plan import PackPlan
from govc.repo.packing import StoreHandle, pack_job
from govc.repo.repository import Repository, Surroundings
from govc.repo.snapshot import Snapshot

CHORES = {
    "a pack": ["repack", "-adbq"],
    "a lookup table": ["-c", "pack.writeBitmapLookupTable=true", "repack", "-adbq"],
    "no name hashes": ["-c", "pack.writeBitmapHashCache=false", "repack", "-adbq"],
    "a multi-pack-index": ["repack", "-dq", "--write-midx", "--write-bitmap-index"],
}


def git(path: Path, *arguments: str, stdin: str | None = None) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *arguments], cwd=path, env=env, input=stdin, capture_output=True, check=True, text=True
    ).stdout.strip()


def history_script(seed: int, first: int, count: int) -> str:
    """Commits with merges, in folders, for fast-import; times go up."""
    chance = random.Random(seed)
    out = []
    for number in range(first, first + count):
        branch = chance.choice(("main", "main", "side"))
        out.append(f"commit refs/heads/{branch}\ncommitter C <c@d> {1_600_000_000 + number} +0000\ndata 2\nc\n")
        if number == first and first:
            out.append(f"from refs/heads/{branch}^0\n")
        if branch == "main" and number > first + 10 and chance.random() < 0.2:
            out.append("merge refs/heads/side\n")
        for _ in range(3):
            path = f"d{chance.randrange(5)}/e{chance.randrange(5)}/f{chance.randrange(9)}"
            text = f"{number} {chance.random()}"
            out.append(f"M 644 inline {path}\ndata {len(text)}\n{text}\n")
        out.append("\n")
    return "".join(out)


KINDS = [*((chore, "sha1") for chore in CHORES), ("a multi-pack-index", "sha256")]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 commits under bitmaps, an annotated tag among them; some commits more that no bitmap knows."""
    chore, object_format = request.param
    path = tmp_path_factory.mktemp("bitmaps") / "r.git"
    path.mkdir()
    git(path, "init", "-q", "--bare", "-b", "main", f"--object-format={object_format}")
    git(path, "fast-import", "--quiet", stdin=history_script(1, 0, 250))
    git(path, "-c", "user.name=A", "-c", "user.email=a@b", "tag", "-a", "-m", "v", "v1", "main~20")
    blob = git(path, "hash-object", "-w", "--stdin", stdin="a public key")
    git(path, "-c", "user.name=A", "-c", "user.email=a@b", "tag", "-a", "-m", "a blob's", "key", blob)
    if chore == "a multi-pack-index":
        git(path, "repack", "-adq")
    script = history_script(2, 250, 150)
    for branch in ("main", "side"):
        script = script.replace(f"commit refs/heads/{branch}\n", f"commit refs/heads/{branch}\n", 1)
    git(path, "fast-import", "--quiet", "--force", stdin=continued(script))
    git(path, *CHORES[chore])
    git(path, "fast-import", "--quiet", stdin=continued(history_script(3, 400, 30)))
    return path


def continued(script: str) -> str:
    """The script, each branch's first commit on top of what is there."""
    out, seen = [], set()
    for block in script.split("\ncommit "):
        head, _, rest = block.removeprefix("commit ").partition("\n")
        if head not in seen and "\nfrom " not in block:
            lines = rest.split("\n")
            lines.insert(3, f"from {head}^0")
            rest = "\n".join(lines)
        seen.add(head)
        out.append(f"commit {head}\n{rest}")
    return "\n".join(out)


def opened(path: Path) -> tuple[ObjectStore, History, Any]:
    algo = SHA256 if git(path, "rev-parse", "--show-object-format") == "sha256" else SHA1
    store = ObjectStore.open(str(path / "objects"), algo)
    found = open_bitmaps(store, [bytes.fromhex(git(path, "rev-parse", "main"))])
    assert found is not None
    return store, History(CommitTable(store)), found


def run(work: Any) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def names(store: ObjectStore, numbers: Iterable[int]) -> list[str]:
    return sorted(store.oid_of(number).hex() for number in numbers)


def listed(path: Path, *revisions: str) -> list[str]:
    """What git lists, without any bitmap."""
    return sorted(git(path, "rev-list", "--objects", "--no-object-names", *revisions).split())


@pytest.mark.rows("FS-22", "FS-23", "CF-70", "FS-54")
def test_each_set_is_what_the_commit_reaches(repository: Path) -> None:
    store, _, bitmaps = opened(repository)
    checked = 0
    for line in git(repository, "rev-list", "--all").split():
        found = bitmaps.reachable(bytes.fromhex(line))
        if found is not None:
            checked += 1
            if checked % 7 == 1:
                digits = bin(found)[:1:-1]
                numbers = [bitmaps.order[bit] for bit, digit in enumerate(digits) if digit == "1"]
                assert names(store, numbers) == listed(repository, line)
    assert checked > 20
    types = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
    for type_number, bits in bitmaps.types.items():
        for bit in range(0, len(bitmaps.order), 29):
            is_one = store.type_of(bitmaps.order[bit]) == type_number
            assert is_one == bool(bits >> bit & 1), types[type_number]


REQUESTS = [
    (("main", "side"), ()),
    (("main", "side", "v1"), ()),
    (("main~40",), ()),
    (("main",), ("side",)),
    (("main",), ("main~35",)),
    (("main", "side"), ("main~200", "side~10")),
    (("main~60",), ("main~61",)),
    (("main~25",), ("main",)),
    (("v1",), ("main~30",)),
    (("main", "key", "main:d1/e1/f1"), ()),
    (("main~3", "main:d1/e1/f1", "key"), ("main~40", "key")),
]


@pytest.mark.rows("FS-22", "FS-23")
@pytest.mark.parametrize("repository", [KINDS[0], KINDS[-1]], indirect=True, ids=str)
@pytest.mark.parametrize("selection", [ALL, NO_BLOBS], ids=["all", "blob:none"])
@pytest.mark.parametrize(("wants", "haves"), REQUESTS, ids=str)
def test_answers_are_exact(repository: Path, wants: tuple[str, ...], haves: tuple[str, ...], selection: Any) -> None:
    store, history, bitmaps = opened(repository)
    oids = [tuple(bytes.fromhex(git(repository, "rev-parse", name)) for name in side) for side in (wants, haves)]
    request = ClosureRequest(wants=oids[0], haves=oids[1], selection=selection)
    found: Closure = run(find_by_bitmaps(history, request, bitmaps))
    walked: Closure = run(find_closure(history, request))
    ours, theirs = names(store, found.numbers), names(store, walked.numbers)
    assert len(ours) == len(set(ours))
    assert set(ours) <= set(theirs)
    options = [] if selection == ALL else ["--filter=blob:none"]
    exact = set(listed(repository, *wants, *options))
    assert set(ours) == exact - set(listed(repository, *haves) if haves else ())
    assert (found.commit_count, found.tag_count) == (walked.commit_count, walked.tag_count)
    if haves and selection == ALL:
        had = listed(repository, *haves)
        known = [oid for oid in had if store.find(bytes.fromhex(oid)) in found.client_has]
        assert known == had


@pytest.mark.parametrize("repository", [KINDS[0]], indirect=True, ids=str)
def test_a_have_whose_history_was_pruned_is_the_walks(repository: Path) -> None:
    """git, too, passes over what is missing on the side that it doesn't send."""
    tree = git(repository, "rev-parse", "main~5^{tree}")
    text = f"tree {tree}\nparent {'1' * 40}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    have = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
    store, history, bitmaps = opened(repository)
    main = git(repository, "rev-parse", "main")
    request = ClosureRequest(wants=(bytes.fromhex(main),), haves=(bytes.fromhex(have),))
    assert run(find_by_bitmaps(history, request, bitmaps)) is None
    walked: Closure = run(find_closure(history, request))
    assert set(listed(repository, main)) - set(listed(repository, tree)) == set(names(store, walked.numbers))


@pytest.mark.parametrize("repository", [KINDS[0]], indirect=True, ids=str)
@pytest.mark.parametrize("lacks", ["tree", "blob"])
def test_a_have_whose_own_objects_were_pruned_is_the_walks(repository: Path, lacks: str) -> None:
    blob = git(repository, "hash-object", "-w", "--stdin", stdin="nobody has it\n")
    inner = git(repository, "mktree", stdin=f"100644 blob {blob}\tf\n")
    tree = git(repository, "mktree", stdin=f"040000 tree {inner}\td\n")
    parent = git(repository, "rev-parse", "main~5")
    text = f"tree {tree}\nparent {parent}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    have = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
    pruned = tree if lacks == "tree" else inner
    folder = next(place for place in (repository / "objects", repository / ".git" / "objects") if place.is_dir())
    (folder / pruned[:2] / pruned[2:]).unlink()
    store, history, bitmaps = opened(repository)
    main = git(repository, "rev-parse", "main")
    request = ClosureRequest(wants=(bytes.fromhex(main),), haves=(bytes.fromhex(have),))
    assert run(find_by_bitmaps(history, request, bitmaps)) is None
    walked: Closure = run(find_closure(history, request))
    assert set(names(store, walked.numbers)) == set(listed(repository, main, "^main~5"))


def made_in_a_helper(snapshot: Snapshot, plan: PackPlan) -> tuple[int, bytes]:
    """What the job of a helper process makes: how many objects, and the pack."""
    handle = StoreHandle.of(snapshot)
    # The handle's descriptors belong to the helper from now on.
    copies = tuple(
        descriptor._replace(pack_fd=os.dup(descriptor.pack_fd), idx_fd=os.dup(descriptor.idx_fd))
        for descriptor in handle.descriptors
    )
    handle = StoreHandle(
        directories=handle.directories,
        algo_name=handle.algo_name,
        descriptors=copies,
        shallow=handle.shallow,
        grafts=handle.grafts,
        is_partial=handle.is_partial,
        uses_bitmaps=handle.uses_bitmaps,
    )
    sent: list[Any] = []
    count = pack_job((handle, plan), sent.append)
    return count, b"".join(item for item in sent if not isinstance(item, Progress))


@pytest.mark.rows("FS-22", "CF-65")
@pytest.mark.parametrize("value", ["true", "false"])
def test_a_helper_uses_them_unless_it_is_forbidden(
    repository: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "config", "pack.useBitmaps", value)
    around = Surroundings(environ={"GIT_CONFIG_NOSYSTEM": "1"}, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    snapshot = Repository(str(repository), around).snapshot()
    walked = []
    monkeypatch.setattr(
        packing, "find_closure", lambda history, request: walked.append(request) or find_closure(history, request)
    )
    main = bytes.fromhex(git(repository, "rev-parse", "main"))
    count, data = made_in_a_helper(snapshot, PackPlan(wants=(main,), ofs_delta=True, progress=False))
    assert count == len(listed(repository, "main"))
    assert bool(walked) == (value == "false")
    assert data[:4] == b"PACK" and int.from_bytes(data[8:12], "big") == count


@pytest.mark.rows("FS-22", "FS-23")
@pytest.mark.parametrize("where", [0, 5, 30, 200, -60, -1])
def test_damaged_ones_are_left_alone(repository: Path, where: int, caplog: pytest.LogCaptureFixture) -> None:
    (path,) = (repository / "objects/pack").glob("*.bitmap")
    whole = path.read_bytes()
    path.chmod(0o644)
    try:
        data = bytearray(whole)
        data[where] ^= 0x55
        path.write_bytes(data)
        algo = SHA256 if len(path.stem) > 60 else SHA1
        store = ObjectStore.open(str(repository / "objects"), algo)
        assert open_bitmaps(store, ()) is None
        assert "is not used" in caplog.text
    finally:
        path.write_bytes(whole)


def test_arbitrary_bytes_behind_a_good_checksum_are_corrupt_or_a_bitmap(repository: Path) -> None:
    (path,) = (repository / "objects/pack").glob("*.bitmap")
    whole = path.read_bytes()
    path.chmod(0o644)
    algo = SHA256 if git(repository, "rev-parse", "--show-object-format") == "sha256" else SHA1
    chance = random.Random(5)
    try:
        for _ in range(60):
            data = bytearray(whole[: -algo.oid_size])
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.2:
                del data[chance.randrange(len(data)) :]
            path.write_bytes(bytes(data) + algo.new(bytes(data)).digest())
            store = ObjectStore.open(str(repository / "objects"), algo)
            found = open_bitmaps(store, ())
            if found is not None:
                for line in git(repository, "rev-list", "--max-count=40", "main").split():
                    try:
                        found.reachable(bytes.fromhex(line))
                    except bitmaps_module.CorruptBitmap:
                        continue
    finally:
        path.write_bytes(whole)
