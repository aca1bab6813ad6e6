"""What is copied of a pack is compared with its index: any cut passes, any damaged byte is noticed, and nothing of it
goes out behind the entry that it is in.
"""

import os
import random
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.errors import CorruptPack
from govc.kernels.packcheck import PackCheck
from govc.odb.packs import PackFile
from govc.odb.store import ObjectStore
from govc.pack.copying import CopiedPack
from govc.pack.indexer import index_pack
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store, write_packs
from tests.graph.test_closure import random_repository
from tests.kernels.both import needs_compiled
from tests.kernels.test_packcopy import bytes_of, reader_of, table_of

LARGE = random.Random(2).randbytes(3 << 20)


def only_pack(folder: Path) -> Path:
    (path,) = (folder / "pack").glob("*.pack")
    path.chmod(0o600)
    return path


def flip(path: Path, at: int) -> None:
    """Damage one byte in place, as a disk does."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 0x40]), at)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectStore, bytes]:
    folder = tmp_path_factory.mktemp("small")
    repo, _commits = random_repository(3, size=15)
    return packed_store(repo, folder, seed=3), only_pack(folder).read_bytes()


@needs_compiled
@given(start=st.sampled_from([0, 12]), sizes=st.lists(st.integers(0, 400), max_size=60), cut=st.integers(0, 3))
def test_property_any_cut_of_a_good_pack_passes(
    small: tuple[ObjectStore, bytes], start: int, sizes: list[int], cut: int
) -> None:
    store, data = small
    check = PackCheck(table_of(store), 0)
    at = start
    for size in [*sizes, len(data)]:
        end = min(at + size, len(data))
        middle = (at + end) // 2 if cut else at
        check.look(at, [memoryview(data)[at:middle], data[middle:end]])
        at = end
    with pytest.raises(ValueError, match="order"):
        check.look(start + 1, [b"x"])
    with pytest.raises(CorruptPack, match="match its index"):
        check.look(len(data), [b"x"])


@needs_compiled
def test_every_damaged_byte_is_noticed(small: tuple[ObjectStore, bytes]) -> None:
    store, data = small
    table = table_of(store)
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with pytest.raises(CorruptPack, match="match its index"):
            PackCheck(table, 0).look(0, [damaged])


@needs_compiled
def test_a_number_of_no_pack_is_an_error(small: tuple[ObjectStore, bytes]) -> None:
    with pytest.raises(IndexError):
        PackCheck(table_of(small[0]), 1 << 40)


def as_it_lies(store: ObjectStore, numbers: "array[int]", chunk_bytes: int) -> bytes:
    whole = store.pack_of(numbers[0])
    made = CopiedPack(store, reader_of(store), numbers, array("q"), whole_pack=whole, chunk_bytes=chunk_bytes)
    assert made.is_verbatim
    return bytes_of(made)


def as_one_share(store: ObjectStore, numbers: "array[int]", chunk_bytes: int) -> bytes:
    return bytes_of(CopiedPack(store, reader_of(store), numbers, array("q"), chunk_bytes=chunk_bytes))


def one_by_one(store: ObjectStore, numbers: "array[int]", chunk_bytes: int) -> bytes:
    """All but the object that lies first, so that no pack goes out whole; it is what others may stand on."""
    rest = array("q", (number for number in numbers if store.entry(number).offset != 12))  # type: ignore[union-attr]
    peer = {*numbers}.__contains__
    return bytes_of(CopiedPack(store, reader_of(store), rest, array("q"), at_peer=peer, chunk_bytes=chunk_bytes))


def by_the_twin(store: ObjectStore, numbers: "array[int]", chunk_bytes: int) -> bytes:
    return b"".join(write_pack(store, array("Q", numbers), ofs_delta=True, chunk_bytes=chunk_bytes))


Copy = Callable[[ObjectStore, "array[int]", int], bytes]
COPIES = [
    *(pytest.param(copy, marks=needs_compiled) for copy in (as_it_lies, as_one_share, one_by_one)),
    by_the_twin,
]


@pytest.mark.parametrize("chunk_bytes", [100, 1 << 16])
@pytest.mark.parametrize("copy", COPIES)
def test_a_damaged_entry_is_no_part_of_a_pack(tmp_path: Path, copy: Copy, chunk_bytes: int) -> None:
    repo, _commits = random_repository(5, size=15)
    packed_store(repo, tmp_path, seed=5)
    path = only_pack(tmp_path)
    numbers = array("q", range(len(repo.objects)))
    store = ObjectStore.open(str(tmp_path), repo.algo)
    good = copy(store, numbers, chunk_bytes)
    first_end = store.packs[0].end_of(12)
    for at in range(first_end, path.stat().st_size - 20, 37):
        flip(path, at)
        with pytest.raises(CorruptPack):
            copy(ObjectStore.open(str(tmp_path), repo.algo), numbers, chunk_bytes)
        flip(path, at)
    assert copy(store, numbers, chunk_bytes) == good


@pytest.mark.parametrize("at", [100, 2_000_000, -30])
@pytest.mark.parametrize("copy", COPIES)
def test_a_large_entry_is_compared_when_it_ends(tmp_path: Path, copy: Copy, at: int) -> None:
    repo = RepositoryBuilder()
    repo.blob(b"small")
    repo.blob(LARGE)
    write_packs(repo, tmp_path, [[0, 1]])
    path = only_pack(tmp_path)
    flip(path, at % path.stat().st_size)
    store = ObjectStore.open(str(tmp_path), repo.algo)
    with pytest.raises(CorruptPack, match="index"):
        copy(store, array("q", range(2)), 1 << 16)


@pytest.mark.parametrize("copy", COPIES)
def test_an_index_whose_checksum_is_damaged_is_not_believed(tmp_path: Path, copy: Copy) -> None:
    repo, _commits = random_repository(5, size=15)
    packed_store(repo, tmp_path, seed=5)
    path = only_pack(tmp_path).with_suffix(".idx")
    path.chmod(0o600)
    last = PackFile.open(str(path.with_suffix(".pack")), SHA1).positions_by_offset()[-1]
    flip(path, 8 + 1024 + 20 * len(repo.objects) + 4 * last)
    with pytest.raises(CorruptPack, match="index"):
        copy(ObjectStore.open(str(tmp_path), repo.algo), array("q", range(len(repo.objects))), 1 << 16)


def test_an_index_of_version_1_has_nothing_to_compare_with(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    repo.blob(LARGE)
    write_packs(repo, tmp_path, [[0]])
    path = only_pack(tmp_path)
    with path.open("rb") as file:
        path.with_suffix(".idx").unlink()
        index_pack(file.fileno(), SHA1).write_index(str(path.with_suffix(".idx")), version=1)
    flip(path, 1000)
    store = ObjectStore.open(str(tmp_path), repo.algo)
    assert store.packs[0].index.crc_at(0) is None
    assert by_the_twin(store, array("q", [0]), 1 << 16)[:-20] == path.read_bytes()[:-20]
