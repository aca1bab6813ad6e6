"""Forward deltas in any direction, over packs with deltas of their own: what is sent is whole, and never a circle.

Git's index-pack is the oracle, at a client that has more than the server knows of: where a base that is sent is named,
not pointed at, it would refuse the pack.
"""

import random
import subprocess
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.kernels.chains import Chains
from govc.kernels.packread import PackReader
from govc.objects.types import REF_DELTA
from govc.odb.forward import Entry, ForwardDeltas, iter_encoded, parse_forward
from govc.odb.store import ObjectStore
from govc.pack.copying import CopiedPack
from govc.pack.delta import make_delta
from govc.pack.entry import parse_entry_header
from govc.protocol.oid import HashAlgorithm
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store, write_packs
from tests.kernels.both import needs_compiled
from tests.kernels.test_packcopy import bytes_of, columns_of, native_peer, reader_of, unpack

pytestmark = needs_compiled

SIZE = 24
DEPTH_MAX = 50


def build(folder: Path, rng: random.Random, packs: int) -> tuple[RepositoryBuilder, ObjectStore]:
    """A store of some large blobs; some lie in two packs, with other deltas."""
    repo = RepositoryBuilder()
    common = rng.randbytes(400)
    for n in range(SIZE):
        repo.blob(common + rng.randbytes(40) + b"%d" % n)
    return repo, packed_store(repo, folder, packs=packs, seed=rng.randrange(1 << 30))


def random_entries(repo: RepositoryBuilder, rng: random.Random) -> list[Entry]:
    """Deltas from anything to anything, up to three for an object; an empty one now and then."""
    entries = []
    for target, _kind, content in repo.objects:
        for base, _kind, base_content in rng.sample(repo.objects, rng.randrange(4)):
            if base != target:
                delta = make_delta(base_content, content)
                stream = zlib.compress(delta, rng.choice([1, 9])) if rng.random() < 0.9 else b""
                entries.append(Entry(target, base, len(delta), stream))
    return entries


def iter_bases(pack: bytes, algo: HashAlgorithm) -> Iterator[bytes]:
    """The names in ref-deltas."""
    at = 12
    for _ in range(int.from_bytes(pack[8:12], "big")):
        header = parse_entry_header(pack, at, algo)
        if header.type_number == REF_DELTA:
            yield header.base_oid
        inflater = zlib.decompressobj()
        inflater.decompress(pack[header.data_offset :])
        at = len(pack) - len(inflater.unused_data)
    assert at == len(pack) - algo.oid_size


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 3))
def test_what_is_sent_is_whole(tmp_path_factory: pytest.TempPathFactory, seed: int, packs: int) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("chains")
    repo, store = build(folder / "store", rng, packs)
    chosen = {oid for oid, _kind, _data in repo.objects if rng.random() < 0.7}
    at_peer = {oid for oid, _kind, _data in repo.objects if rng.random() < 0.5} - chosen
    numbers = array("q", sorted(map(store.find, chosen)))

    def asked(number: int) -> bool:
        return store.oid_of(number) in at_peer

    pack = bytes_of(
        CopiedPack(
            store,
            reader_of(store),
            numbers,
            array("q"),
            at_peer=rng.choice([asked, native_peer(store, at_peer)]),
            forward=columns_of(random_entries(repo, rng)),
            chunk_bytes=rng.choice([1, 500, 1 << 16]),
        )
    )
    assert chosen == unpack(pack, repo, folder, "sent", at_peer)
    assert set(iter_bases(pack, repo.algo)) <= at_peer
    if chosen:
        # The client has everything, though we know of a part only.
        client = folder / "client.git"
        subprocess.run(["git", "init", "-q", "--bare", client], check=True)
        (client / "objects/info/alternates").write_text(f"{folder / 'store'}\n")
        subprocess.run(
            ["git", "-C", client, "index-pack", "--stdin", "--fix-thin"], input=pack, check=True, capture_output=True
        )


def test_small_steps_are_taken_and_begin_anew_after_fifty(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    rng = random.Random(3)
    texts = [rng.randbytes(3000)]
    for n in range(120):
        texts.append(texts[-1][: 20 * n] + rng.randbytes(20) + texts[-1][20 * n + 20 :])
    oids = [repo.blob(text) for text in texts]
    write_packs(repo, tmp_path / "store", [list(reversed(range(len(oids))))], seed=0)
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    entries = []
    for n in range(1, len(oids)):
        delta = make_delta(texts[n - 1], texts[n])
        entries.append(Entry(oids[n], oids[n - 1], len(delta), zlib.compress(delta)))
    numbers = array("q", sorted(map(store.find, oids[1:])))
    at_peer = {store.find(oids[0])}.__contains__
    pack = bytes_of(
        CopiedPack(store, reader_of(store), numbers, array("q"), at_peer=at_peer, forward=columns_of(entries))
    )
    assert set(oids[1:]) == unpack(pack, repo, tmp_path, "sent", {oids[0]})
    client = tmp_path / "client.git"
    subprocess.run(["git", "init", "-q", "--bare", client], check=True)
    subprocess.run(
        ["git", "-C", client, "hash-object", "-w", "--stdin"], input=texts[0], check=True, capture_output=True
    )
    done = subprocess.run(
        ["git", "-C", client, "index-pack", "--stdin", "--fix-thin"], input=pack, check=True, capture_output=True
    )
    packed = client / f"objects/pack/pack-{done.stdout.split()[-1].decode()}.pack"
    told = subprocess.run(["git", "verify-pack", "-v", packed], check=True, capture_output=True, text=True).stdout
    depths = [int(words[5]) for line in told.splitlines() if len(words := line.split()) == 7]
    assert len(depths) > 100
    assert DEPTH_MAX // 2 < max(depths) <= 2 * DEPTH_MAX


def test_a_peer_that_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    repo, store = build(tmp_path / "store", random.Random(5), 1)
    (target, _kind, content), (base, _other_kind, base_content) = repo.objects[:2]
    delta = make_delta(base_content, content)
    forward = columns_of([Entry(target, base, len(delta), b"short")])

    def at_peer(number: int) -> bool:
        raise IndexError(number)

    numbers = array("q", [store.find(target)])
    with pytest.raises(IndexError, match=str(store.find(base))):
        bytes_of(CopiedPack(store, reader_of(store), numbers, array("q"), at_peer=at_peer, forward=forward))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_damaged_delta_is_not_sent(tmp_path: Path, is_damaged: bool) -> None:
    repo = RepositoryBuilder()
    texts = [random.Random(1).randbytes(3000) + b"%d" % n for n in range(2)]
    base, target = map(repo.blob, texts)
    write_packs(repo, tmp_path / "store", [range(2)], seed=0)
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    delta = make_delta(*texts)
    data = bytearray(b"".join(iter_encoded([Entry(target, base, len(delta), zlib.compress(delta))], [], repo.algo)))
    data[-repo.algo.oid_size - 1] ^= is_damaged
    forward = ForwardDeltas([parse_forward(bytes(data), repo.algo)])
    assert bool(list(forward.entries())) != is_damaged
    pack = bytes_of(
        CopiedPack(
            store,
            reader_of(store),
            array("q", [store.find(target)]),
            array("q"),
            at_peer={store.find(base)}.__contains__,
            forward=forward.columns,
        )
    )
    assert (len(pack) > 3000) == is_damaged
    assert {target} == unpack(pack, repo, tmp_path, "sent", {base})


def test_columns_that_are_too_short_are_refused(tmp_path: Path) -> None:
    _repo, store = build(tmp_path / "store", random.Random(6), 1)
    table = store.pack_table()
    assert table is not None
    reader = PackReader(table, 1 << 20, 1 << 20)
    names = bytes(40)
    good = (names, names, array("I", [1, 1]), array("Q", [0, 1, 2]), b"ab", array("I", [0, 0]))
    Chains(reader, array("q", [0]), bool, [good])
    for at, bad in ((1, names[:39]), (2, array("I", [1])), (3, array("Q", [0, 1])), (4, b"a"), (5, array("I"))):
        with pytest.raises(ValueError, match="too short"):
            Chains(reader, array("q", [0]), bool, [(*good[:at], bad, *good[at + 1 :])])
