"""Packs by the kernels: reading stored ones, copying entries, beside the twins in Python."""

import random
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from govc.errors import CorruptPack
from govc.kernels.chains import ForwardColumns
from govc.kernels.packread import PackReader, PackTable
from govc.kernels.packrows import sort_numbers
from govc.kernels.sweep import Sweep
from govc.objects.types import BLOB
from govc.odb.forward import Entry, ForwardDeltas, iter_encoded, parse_forward
from govc.odb.store import ObjectStore
from govc.pack.copying import CopiedPack
from govc.pack.delta import make_delta
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store, write_packs
from tests.graph.test_closure import random_repository
from tests.kernels.both import needs_compiled

pytestmark = needs_compiled


def table_of(store: ObjectStore) -> PackTable:
    table = store.pack_table()
    assert table is not None
    return table


def reader_of(store: ObjectStore) -> PackReader:
    reader = store.pack_reader()
    assert reader is not None
    return reader


def bytes_of(pack: CopiedPack) -> bytes:
    pieces = []
    while chunk := pack.next_chunk():
        pieces.append(chunk)
    return b"".join(pieces)


def columns_of(entries: list[Entry]) -> tuple[ForwardColumns, ...]:
    return ForwardDeltas([parse_forward(b"".join(iter_encoded(entries, [], SHA1)), SHA1)]).columns


def native_peer(store: ObjectStore, oids: Iterable[bytes]) -> Callable[[int], bool]:
    """What knows that the peer has these, and is asked without the GIL."""
    nothing = array("I")
    painting = Sweep(store.algo.oid_size).paint(nothing, nothing, nothing)
    return painting.peer_of(table_of(store), map(store.find, oids))


def unpack(pack: bytes, repo: RepositoryBuilder, tmp_path: Path, name: str, at_peer: Any = ()) -> set[bytes]:
    """The names of a pack's objects, each of which is read and compared; a thin one's bases come from the peer."""
    folder = tmp_path / name
    (folder / "pack").mkdir(parents=True)
    path = folder / "pack" / "pack-x.pack"
    path.write_bytes(pack)
    from govc.pack.indexer import index_pack

    def read_base(oid: bytes) -> tuple[int, bytes] | None:
        return repo.objects[repo.find(oid)][1:] if oid in at_peer else None

    with path.open("r+b") as file:
        indexed = index_pack(file.fileno(), repo.algo, base_reader=read_base)
        indexed.write_index(str(path.with_suffix(".idx")))
    store = ObjectStore.open(str(folder), repo.algo)
    found = list(store.packs[0].index.iter_oids())
    assert len(found) == len(set(found))
    for oid in found:
        assert repo.objects[repo.numbers[oid]][1:] == store.read_oid(oid)
    count = int.from_bytes(pack[8:12], "big")
    bases = set(found) if len(found) == count else {oid for oid in found if oid in at_peer}
    return set(found) - (bases if len(found) != count else set())


@pytest.mark.parametrize("packs", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_objects_are_read_as_they_were_written(tmp_path: Path, seed: int, packs: int) -> None:
    repo, _commits = random_repository(seed, size=15)
    store = packed_store(repo, tmp_path, packs=packs, seed=seed)
    table, reader = table_of(store), reader_of(store)
    oids = sorted(oid for oid, _kind, _data in repo.objects)
    names = b"".join([bytes(20), *oids, b"\xff" * 20])
    expected = [store._packs.find(oid) for oid in (bytes(20), *oids, b"\xff" * 20)]
    for is_sorted in (False, True):
        assert expected == array("q", table.find_many(names, is_sorted)).tolist()
    for oid, kind, data in repo.objects:
        number = table.find(oid)
        assert oid == table.oid_of(number)
        assert (kind, data) == reader.read(number) == reader.read_small(number, 1 << 20)
        assert (kind, len(data)) == reader.type_and_size(number)
        assert reader.read_small(number, len(data) - 1) is None


def test_damage_is_an_error_and_nothing_worse(tmp_path: Path) -> None:
    repo, _commits = random_repository(3, size=15)
    packed_store(repo, tmp_path, seed=3)
    path = next((tmp_path / "pack").glob("*.pack"))
    good = path.read_bytes()
    rng = random.Random(3)
    faults = 0
    path.chmod(0o600)
    for _ in range(150):
        damaged = bytearray(good)
        at = rng.randrange(12, len(good) - 22)
        damaged[at : at + 2] = rng.randbytes(2)
        path.write_bytes(bytes(damaged))
        store = ObjectStore.open(str(tmp_path), repo.algo)
        reader = reader_of(store)
        numbers = array("q", range(len(repo.objects)))
        for number in numbers:
            try:
                reader.read(number)
            except CorruptPack:
                faults += 1
        try:
            bytes_of(CopiedPack(store, reader, numbers[::2], array("q")))
        except CorruptPack:
            faults += 1
    assert faults
    path.write_bytes(good)
    store = ObjectStore.open(str(tmp_path), repo.algo)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(CorruptPack, match="shorter"):
        bytes_of(CopiedPack(store, reader_of(store), array("q", range(len(repo.objects))), array("q")))


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 16])
@pytest.mark.parametrize("packs", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_a_copied_pack_holds_what_was_asked_for(tmp_path: Path, seed: int, packs: int, chunk_bytes: int) -> None:
    repo, _commits = random_repository(seed, size=15)
    store = packed_store(repo, tmp_path / "store", packs=packs, seed=seed)
    rng = random.Random(seed)
    for share in (0.2, 0.7, 1.0):
        chosen = {oid for oid, _kind, _data in repo.objects if rng.random() < share}
        numbers = array("q", sorted(map(store.find, chosen)))
        copied = CopiedPack(store, reader_of(store), numbers, array("q"), chunk_bytes=chunk_bytes)
        assert chosen == unpack(bytes_of(copied), repo, tmp_path, f"copied{share}")
        twin = b"".join(write_pack(store, array("Q", numbers), ofs_delta=True))
        assert chosen == unpack(twin, repo, tmp_path, f"twin{share}")


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_thin_pack_stands_on_what_the_peer_has(tmp_path: Path, seed: int, is_native: bool) -> None:
    repo, _commits = random_repository(seed, size=15)
    store = packed_store(repo, tmp_path / "store", packs=2, seed=seed)
    rng = random.Random(seed)
    chosen = {oid for oid, _kind, _data in repo.objects if rng.random() < 0.5}
    at_peer = {oid for oid, _kind, _data in repo.objects if rng.random() < 0.5} - chosen
    numbers = array("q", sorted(map(store.find, chosen)))
    peer = native_peer(store, at_peer) if is_native else lambda number: store.oid_of(number) in at_peer
    copied = CopiedPack(store, reader_of(store), numbers, array("q"), at_peer=peer)
    assert chosen == unpack(bytes_of(copied), repo, tmp_path, "thin", at_peer)


def test_a_forward_delta_stands_for_what_is_stored_whole(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    old, new = random.Random(1).randbytes(3000), random.Random(1).randbytes(3000) + b"and more"
    base, target = repo.blob(old), repo.blob(new)
    write_packs(repo, tmp_path / "store", [[1], [0]])
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    delta = make_delta(old, new)
    forward = columns_of([Entry(target, base, len(delta), zlib.compress(delta))])
    at_peer = {store.find(base)}.__contains__
    numbers = array("q", [store.find(target)])
    pack = bytes_of(CopiedPack(store, reader_of(store), numbers, array("q"), at_peer=at_peer, forward=forward))
    assert len(pack) < 150
    assert {target} == unpack(pack, repo, tmp_path, "forward", {base})


def test_one_whole_pack_is_sent_as_it_lies(tmp_path: Path) -> None:
    repo, _commits = random_repository(1, size=12)
    store = packed_store(repo, tmp_path)
    numbers = array("q", range(len(repo.objects)))
    copied = CopiedPack(store, reader_of(store), numbers, array("q"), whole_pack=store.pack_of(0), chunk_bytes=100)
    assert copied.is_verbatim
    assert next((tmp_path / "pack").glob("*.pack")).read_bytes() == bytes_of(copied)


def test_a_pack_is_not_sent_as_it_lies_when_something_is_missing_or_more(tmp_path: Path) -> None:
    repo, _commits = random_repository(1, size=12)
    store = packed_store(repo, tmp_path)
    count = len(repo.objects)
    whole = store.pack_of(0)
    for numbers in (
        array("q", range(1, count)),
        array("q", range(count - 1)),
        array("q", [*range(5), *range(6, count)]),
    ):
        copied = CopiedPack(store, reader_of(store), numbers, array("q"), whole_pack=whole)
        assert not copied.is_verbatim
        pack = bytes_of(copied)
        assert int.from_bytes(pack[8:12], "big") == len(numbers)


def test_a_large_entry_comes_in_pieces(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    large = random.Random(2).randbytes(3 << 20)
    repo.blob(b"small")
    repo.blob(large)
    repo.blob(b"another")
    write_packs(repo, tmp_path / "store", [[0, 1], [2]])
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    chosen = [store.find(oid) for oid in repo.numbers]
    copied = CopiedPack(store, reader_of(store), array("q", sorted(chosen)), array("q"), chunk_bytes=1 << 16)
    sizes = []
    pieces = []
    while chunk := copied.next_chunk():
        sizes.append(len(chunk))
        pieces.append(chunk)
    assert max(sizes) <= (1 << 20) + (1 << 17)
    assert set(repo.numbers) == unpack(b"".join(pieces), repo, tmp_path, "large")


def test_loose_objects_come_last(tmp_path: Path) -> None:
    repo, _commits = random_repository(2, size=8)
    store = packed_store(repo, tmp_path / "store")
    loose = repo.blob(b"loose")
    number = len(repo.objects) - 1

    class Source:
        algo = repo.algo

        def read(self, asked: int) -> tuple[int, bytes]:
            assert number == asked
            return BLOB, b"loose"

    numbers = array("q", range(number))
    pack = bytes_of(CopiedPack(Source(), reader_of(store), numbers, array("q", [number])))
    assert set(repo.numbers) == unpack(pack, repo, tmp_path, "loose")
    only = bytes_of(CopiedPack(Source(), reader_of(store), array("q"), array("q", [number])))
    assert {loose} == unpack(only, repo, tmp_path, "only")
    nothing = bytes_of(CopiedPack(Source(), reader_of(store), array("q"), array("q")))
    assert (32, 0) == (len(nothing), int.from_bytes(nothing[8:12], "big"))


def test_numbers_are_sorted_and_the_loose_ones_set_apart(tmp_path: Path) -> None:
    repo, _commits = random_repository(2, size=8)
    table = table_of(packed_store(repo, tmp_path))
    for numbers in ([5, 3, 3, 1 << 40, 5], [], [1 << 40], list(range(20)) * 2):
        packed, loose = sort_numbers(table, array("Q", numbers))
        assert sorted({n for n in numbers if n < 1 << 40}) == packed.tolist()
        assert sorted({n for n in numbers if n >= 1 << 40}) == loose.tolist()
