"""Random histories on disk:

merges, criss-cross, octopus, empty commits, renames, folders that become files; and git beside them.
"""

import random
from pathlib import Path
from typing import Any

from govc import Repository
from govc.protocol.oid import SHA1, HashAlgorithm
from tests.graph.builder import RepositoryBuilder
from tests.graph.oracle import GitOracle
from tests.graph.packed import write_packs

NOBODY: dict[str, str] = {}
"""An environment without anybody's configuration."""


def random_history(
    seed: int, *, clock: str = "good", size: int = 25, algo: HashAlgorithm = SHA1
) -> tuple[RepositoryBuilder, list[bytes]]:
    """`clock`: "good", "ties" (many commits of one second), or "skewed" (any time)."""
    rng = random.Random(seed)
    repo = RepositoryBuilder(algo)
    commits: list[bytes] = []
    trees: list[dict[bytes, Any]] = []
    for number in range(size):
        if commits and rng.random() > 0.05:
            first = max(0, len(commits) - 1 - int(rng.expovariate(0.5)))
            parents = [first]
            for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
                other = rng.randrange(len(commits))
                if other not in parents:
                    parents.append(other)
            own = _merged(rng, [trees[p] for p in parents])
            own = own if rng.random() < 0.15 else _changed(rng, own)
        else:
            parents, own = [], _tree(rng, 2)
        time = {"good": None, "ties": repo.tick(rng.choice([0, 0, 1])), "skewed": rng.randint(1, 10**6)}[clock]
        commits.append(repo.commit(own, [commits[p] for p in parents], time=time, text=str(number)))
        trees.append(own)
    return repo, commits


def _tree(rng: random.Random, depth: int) -> dict[bytes, Any]:
    names = rng.sample([b"a", b"a.b", b"b", b"c", b"dir"], rng.randint(1, 4))
    return {
        name: _tree(rng, depth - 1) if depth and rng.random() < 0.5 else b"%d" % rng.randint(0, 3) for name in names
    }


def _changed(rng: random.Random, entries: dict[bytes, Any]) -> dict[bytes, Any]:
    entries = dict(entries)
    name = rng.choice(sorted(entries)) if entries else b"a"
    if isinstance(entries.get(name), dict) and rng.random() < 0.7:
        entries[name] = _changed(rng, entries[name])
    elif rng.random() < 0.3 and len(entries) > 1:
        moved = entries.pop(name)
        if rng.random() < 0.5:
            entries[rng.choice([b"a", b"b", b"e"])] = moved
    else:
        entries[name] = _tree(rng, 1) if rng.random() < 0.3 else b"%d" % rng.randint(0, 3)
    return {key: value for key, value in entries.items() if value != {}} or {b"last": b"1"}


def _merged(rng: random.Random, trees: list[dict[bytes, Any]]) -> dict[bytes, Any]:
    merged = dict(trees[0])
    for other in trees[1:]:
        for name, value in other.items():
            if rng.random() < 0.5:
                merged[name] = value
    return merged


def on_disk(
    repo: RepositoryBuilder, folder: Path, tips: list[bytes], *, seed: int = 0, packed: bool = True
) -> GitOracle:
    """Write a builder's objects as a bare repository, in packs with deltas or loose; `tips` are b0, b1 and so on."""
    if not packed:
        return GitOracle(repo, folder, tips)
    empty = RepositoryBuilder(repo.algo)
    oracle = GitOracle(empty, folder, tips)
    if repo.algo is not SHA1:
        text = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"
        (folder / "config").write_text(text)
    rng = random.Random(seed)
    numbers = list(range(len(repo.objects)))
    cut = rng.randint(1, len(numbers))
    write_packs(repo, folder / "objects", [share for share in (numbers[:cut], numbers[cut:]) if share], seed=seed)
    return oracle


def opened(folder: Path, **options: Any) -> Repository:
    return Repository(folder, environ=NOBODY, **options)


def hexes(text: bytes) -> list[str]:
    return text.decode().split()
