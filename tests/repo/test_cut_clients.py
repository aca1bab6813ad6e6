"""Clients whose history is cut, or who lack what a filter leaves out: what they are sent is all that they lack, and
stands on nothing that they lack.

Random histories, clients made by plain git, and its index-pack and fsck over exactly what a client has then. Each
question is asked where the index is filled (kernels, thin entries and forward deltas, which stand on the version
before: often below where the client's history ends), where it isn't (the walk in pure Python), and in a helper beside
plain git's bitmaps, which know nothing of such clients.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from govc.graph.filter import ALL, NO_BLOBS, ObjectSelection
from govc.graph.interface import drain
from govc.graph.shallow import INFINITE_DEPTH, ShallowUpdate, deepen, deepen_by_range, deepen_relative
from govc.repo.introductions import Introductions
from govc.repo.pack_plan import PackPlan
from govc.repo.repository import Repository
from tests.kernels.both import needs_compiled
from tests.repo.test_bitmaps import made_in_a_helper
from tests.repo.test_introductions import fill, git, open_repository, pack_of
from tests.repo.test_thinning import make_history

COMMITS = 60
NOTHING = ShallowUpdate([], [], [], [])
ways = pytest.mark.parametrize("way", [pytest.param("swept", marks=needs_compiled), "walked", "helper"])


@pytest.fixture(autouse=True)
def small_packs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govc.repo.introducing.LARGE_PACK_OBJECTS", 10)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects each pack took from the file of thin entries."""
    from govc.pack import copying

    found: list[int] = []
    choose = copying.ThinChoice

    def count(*arguments: object) -> object:
        choice = choose(*arguments)  # type: ignore[arg-type]
        found.append(choice.taken)
        return choice

    monkeypatch.setattr(copying, "ThinChoice", count)
    return found


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects each pack had that was made from the index."""
    from govc.repo import swept_packing

    found: list[int] = []
    make = swept_packing.CopiedPack

    def count(store: object, reader: object, packed: list[int], *rest: object, **options: object) -> object:
        found.append(len(packed))
        return make(store, reader, packed, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(swept_packing, "CopiedPack", count)
    return found


class World:
    """A repository that is served, and the clients of it."""

    def __init__(self, folder: Path, seed: int, way: str, object_format: str = "sha1") -> None:
        self.folder = folder
        self.path = folder / "r.git"
        self.commits = make_history(self.path, seed, COMMITS, object_format)
        self.format = object_format
        self.way = way
        git(self.path, "config", "uploadpack.allowFilter", "true")
        git(self.path, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.repository: Repository = open_repository(self.path)
        self.index: Introductions | None = fill(self.repository) if way == "swept" else None
        self.count = 0

    def bare(self) -> Path:
        self.count += 1
        target = self.folder / f"c{self.count}.git"
        git(self.folder, "init", "-q", "--bare", f"--object-format={self.format}", str(target))
        return target

    def client(self, tips: list[str], depth: int, spec: str = "") -> Path:
        """Who fetched some branches from plain git, and can't ask it for anything afterwards."""
        target = self.bare()
        git(target, "remote", "add", "origin", f"file://{self.path}")
        names = [f"refs/heads/b{self.commits.index(tip) + 1}" for tip in tips]
        options = [f"--depth={depth}"] if depth else []
        options += [f"--filter={spec}"] if spec else []
        git(target, "fetch", "-q", "--no-tags", *options, "origin", *(f"{name}:{name}" for name in names))
        git(target, "remote", "set-url", "origin", f"file://{self.folder}/gone.git")
        return target

    def ask(
        self,
        client: Path,
        wants: list[str],
        haves: list[str],
        update: ShallowUpdate = NOTHING,
        selection: ObjectSelection = ALL,
    ) -> bytes:
        """The pack that a fetch brings, as `service.fetch` asks for it."""
        plan = PackPlan(
            wants=(*map(bytes.fromhex, wants), *update.more_wants),
            haves=(*map(bytes.fromhex, haves), *update.more_haves),
            client_shallow=frozenset(shallow_of(client)),
            boundary=frozenset(update.shallow),
            selection=selection,
            thin=True,
            ofs_delta=True,
            progress=False,
        )
        if self.way == "helper":
            assert list(self.path.glob("objects/pack/*.bitmap"))
            return made_in_a_helper(self.repository.snapshot(), plan)[1]
        return pack_of(self.repository, plan)

    def boundary(self, how: str, rng: random.Random, client: Path, wants: list[str]) -> ShallowUpdate:
        """Where the client's history is to end, as `service.fetch` finds it."""
        history = self.repository.snapshot().history()
        wanted, shallow = list(map(bytes.fromhex, wants)), shallow_of(client)
        if how == "deepen":
            return drain(deepen(history, wanted, rng.randint(1, 9), shallow))
        if how == "relative":
            tips = map(bytes.fromhex, self.commits)
            return drain(deepen_relative(history, tips, rng.randint(1, 5), shallow))
        if how == "since":
            return drain(deepen_by_range(history, wanted, shallow, since=1_600_000_000 + rng.randint(1, 20)))
        if how == "unshallow":
            return drain(deepen(history, wanted, INFINITE_DEPTH, shallow))
        return NOTHING


def shallow_of(client: Path) -> list[bytes]:
    file = client / "shallow"
    return list(map(bytes.fromhex, file.read_text().split())) if file.exists() else []


def objects_of(client: Path) -> set[str]:
    return set(git(client, "cat-file", "--batch-check=%(objectname)", "--batch-all-objects").decode().split())


def take(
    client: Path, wants: list[str], pack: bytes, update: ShallowUpdate = NOTHING, *, is_partial: bool = False
) -> None:
    """Give a pack to a client as `git fetch` does. Fails where git does."""
    shallow = set(shallow_of(client)).difference(update.unshallow).union(update.shallow)
    (client / "shallow").write_text("".join(sorted(f"{oid.hex()}\n" for oid in shallow)))
    if not shallow:
        (client / "shallow").unlink()
    git(client, "index-pack", "--stdin", "--fix-thin", "--promisor" if is_partial else "--strict", stdin=pack)
    for oid in wants:
        git(client, "update-ref", f"refs/heads/w{oid}", oid)
    git(client, "fsck", "--full", "--strict")
    git(client, "rev-list", "--objects", "--all", *(["--missing=allow-promisor"] if is_partial else []))


def rows_below(world: World, pack: set[str], had: set[str]) -> int:
    """How many objects of a pack have an entry made ahead on what neither the client nor the pack has."""
    assert world.index is not None
    pairs = [(target.hex(), row.base.hex()) for target, row in world.index.iter_thin_rows() if row.base is not None]
    return sum(target in pack and base not in pack and base not in had for target, base in pairs)


def every_history(tmp_path: Path, way: str) -> Iterator[World]:
    for seed, object_format in ((1, "sha1"), (2, "sha1"), (3, "sha256")):
        folder = tmp_path / str(seed)
        folder.mkdir()
        yield World(folder, seed, way, object_format)


@ways
@pytest.mark.parametrize("how", ["plain", "deepen", "relative", "since", "unshallow"])
def test_who_is_shallow_is_sent_all_that_is_missing_and_no_delta_on_what_is_cut_off(
    tmp_path: Path, taken: list[int], way: str, how: str
) -> None:
    below = 0
    for world in every_history(tmp_path, way):
        rng = random.Random(world.commits[0] + how)
        for _ in range(4):
            client = world.client(rng.sample(world.commits[15:50], rng.randint(1, 2)), rng.randint(1, 4))
            has = git(client, "rev-list", "--all").decode().split()
            before = objects_of(client)
            wants = rng.sample(world.commits[20:], rng.randint(1, 2))
            # What negotiation finds to be common: the tips, or only some of what is below, or nothing at all.
            haves = rng.sample(has, min(len(has), rng.randint(0, 3)))
            if how == "unshallow":
                wants += git(client, "for-each-ref", "--format=%(objectname)").decode().split()
            update = world.boundary(how, rng, client, wants)
            pack = world.ask(client, wants, haves, update)
            take(client, wants, pack, update)
            if world.index is not None:
                below += rows_below(world, objects_of(client) - before, before)
    if way == "swept":
        assert (sum(taken) > 100, below > 3) == (True, True)


FILTERS = {
    "blob:none": NO_BLOBS,
    "blob:limit=30": ObjectSelection(blob_limit=30),
    "tree:0": ObjectSelection(tree_depth=0),
    "tree:2": ObjectSelection(tree_depth=2),
}


def passing(world: World, commits: list[str], spec: str) -> set[str]:
    """What a client of some commits has to have, whoever else may be asked for the rest."""
    options = ["--objects", "--no-object-names", "--no-walk", f"--filter={spec}", "--stdin"]
    return set(git(world.path, "rev-list", *options, stdin="\n".join(commits).encode()).decode().split())


@ways
@pytest.mark.parametrize("how", ["plain", "deepen"])
@pytest.mark.parametrize("spec", FILTERS)
def test_who_filters_is_sent_all_that_passes_and_no_delta_on_what_he_may_lack(
    tmp_path: Path, copied: list[int], way: str, how: str, spec: str
) -> None:
    """Nothing is known of what such a client has of the commits that he names: a pack for him stands on itself."""
    world = World(tmp_path, 4, way)
    rng = random.Random(spec + how)
    selection = FILTERS[spec]
    for _ in range(4):
        client = world.client(rng.sample(world.commits[15:50], 2), rng.choice([0, 2, 3]), spec)
        has = git(client, "rev-list", "--all").decode().split()
        wants = rng.sample(world.commits[20:], 2)
        update = world.boundary(how, rng, client, wants)
        pack = world.ask(client, wants, rng.sample(has, min(len(has), 2)), update, selection)
        git(world.bare(), "index-pack", "--stdin", stdin=pack)
        take(client, wants, pack, update, is_partial=True)
        commits = git(client, "rev-list", "--all").decode().split()
        assert passing(world, commits, spec) <= objects_of(client)
    assert len(copied) == (4 if way == "swept" and not selection.depends_on_path else 0)
