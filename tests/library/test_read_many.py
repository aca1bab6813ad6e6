"""Many objects in one call: what git says of each, in the order asked, wherever they lie; errors and memory."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from govc.errors import Corrupt, ObjectMissing
from govc.library.errors import RepositoryClosed
from govc.library.values import RawObject
from tests.graph.builder import RepositoryBuilder
from tests.graph.oracle import GitOracle
from tests.library.histories import on_disk, opened, random_history

Asked = tuple[GitOracle, dict[bytes, tuple[str, bytes]], Path]


def contents_by_git(git: GitOracle) -> dict[bytes, tuple[str, bytes]]:
    """Every object, as `git cat-file --batch` writes it."""
    out = git.run("cat-file", "--batch-all-objects", "--batch").stdout
    found, at = {}, 0
    while at < len(out):
        line = out[at : out.index(b"\n", at)]
        oid, kind, size = line.split()
        at += len(line) + 1
        found[bytes.fromhex(oid.decode())] = kind.decode(), out[at : at + int(size)]
        at += int(size) + 1
    return found


def outcome(read: Callable[[bytes], RawObject], oid: bytes) -> object:
    try:
        return read(oid)
    except Corrupt as error:
        return type(error), str(error)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("many") / "r.git"
    repo, commits = random_history(11, size=60)
    git = on_disk(repo, folder, commits[-3:], seed=11)
    git.run("hash-object", "-w", "--stdin", stdin=b"loose\n")
    yield git, contents_by_git(git), folder


@pytest.mark.parametrize("cache_bytes", [1 << 20, 64 << 20])
def test_many_are_what_git_says_in_the_order_asked(asked: Asked, cache_bytes: int) -> None:
    _, expected, folder = asked
    rng = random.Random(3)
    with opened(folder, cache_bytes=cache_bytes) as repository:
        objects = repository.objects
        assert {tuple(raw) for raw in objects.read_many(expected)} == set(expected.values())
        for count in (0, 1, 2, 5, 3000):
            names = rng.choices(sorted(expected), k=count)
            for source in (names, tuple(names), iter(names)):
                assert [tuple(raw) for raw in objects.read_many(source)] == [expected[name] for name in names]
        again = list(objects.read_many(sorted(expected)[:5]))
        assert again == [objects[name] for name in sorted(expected)[:5]]


def test_what_is_nowhere_is_said_when_its_turn_comes(asked: Asked) -> None:
    _, expected, folder = asked
    names = sorted(expected)
    with opened(folder) as repository:
        for wrong, error in ((bytes(20), ObjectMissing), (b"x" * 19, ObjectMissing), ("0" * 40, TypeError)):
            found = repository.objects.read_many([names[0], names[1], wrong, names[2]])  # type: ignore[list-item]
            assert [next(found).data, next(found).data] == [expected[name][1] for name in names[:2]]
            with pytest.raises(error):
                next(found)
        left = repository.objects.read_many(iter(names))
        assert next(left).data == expected[names[0]][1]
    with pytest.raises(RepositoryClosed):
        list(left)


def test_an_object_that_came_since_is_found(asked: Asked) -> None:
    git, expected, folder = asked
    names = sorted(expected)
    with opened(folder) as repository:
        assert len(list(repository.objects.read_many(names))) == len(names)
        came = bytes.fromhex(git.run("hash-object", "-w", "--stdin", stdin=b"came since\n").stdout.decode())
        assert [raw.data for raw in repository.objects.read_many([names[0], came])] == [
            expected[names[0]][1],
            b"came since\n",
        ]


def test_more_than_may_be_in_hand_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    """Of a budget of 1 MiB a quarter may be read ahead: forty blobs of 100 kB are more."""
    rng = random.Random(8)
    repo = RepositoryBuilder()
    blobs = [rng.randbytes(100_000) for _ in range(40)]
    commit = repo.commit({b"%02d" % number: blob for number, blob in enumerate(blobs)})
    git = on_disk(repo, tmp_path / "r.git", [commit])
    git.run("repack", "-adq")
    expected = contents_by_git(git)
    names = sorted(expected) * 2
    rng.shuffle(names)
    with opened(tmp_path / "r.git", cache_bytes=1 << 20) as repository:
        assert [tuple(raw) for raw in repository.objects.read_many(names)] == [expected[name] for name in names]
        assert repository.statistics().objects.used_bytes <= 1 << 20


def test_a_damaged_object_is_refused_as_it_is_alone(tmp_path: Path) -> None:
    repo, commits = random_history(4, size=20)
    git = on_disk(repo, tmp_path / "r.git", commits[-1:], seed=4)
    git.run("repack", "-adq")
    expected = contents_by_git(git)
    (pack,) = (tmp_path / "r.git/objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    place = len(data) // 2
    data[place : place + 8] = bytes(byte ^ 0xFF for byte in data[place : place + 8])
    pack.chmod(0o644)
    pack.write_bytes(data)
    refused = 0
    with opened(tmp_path / "r.git") as repository, opened(tmp_path / "r.git") as other:
        for name in sorted(expected):
            alone = outcome(repository.objects.__getitem__, name)
            together = outcome(lambda oid: next(other.objects.read_many([oid, oid])), name)
            assert alone == together
            refused += not hasattr(alone, "data")
        assert 0 < refused < len(expected)
