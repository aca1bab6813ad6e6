"""What a `RepositoryBuilder` holds, written to disk as packs: whole entries and deltas, in one pack or several."""

import os
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

from govc.objects.types import OFS_DELTA, REF_DELTA
from govc.odb.store import ObjectStore
from govc.pack.delta import make_delta
from govc.pack.entry import encode_entry_header, encode_ofs
from govc.pack.format import encode_pack_header
from govc.pack.indexer import index_pack

from .builder import RepositoryBuilder


def write_packs(repo: RepositoryBuilder, folder: Path, shares: Sequence[Sequence[int]], *, seed: int = 0) -> None:
    """Write objects, by the builder's numbers, into a pack per share below `folder`/pack."""
    rng = random.Random(seed)
    (folder / "pack").mkdir(parents=True, exist_ok=True)
    for share in shares:
        body = bytearray(encode_pack_header(len(share)))
        placed: list[tuple[int, int]] = []
        for number in share:
            oid, kind, data = repo.objects[number]
            bases = [(n, at) for n, at in placed if repo.objects[n][1] == kind]
            start = len(body)
            if bases and rng.random() < 0.6:
                base, at = rng.choice(bases)
                delta = make_delta(repo.objects[base][2], data)
                if rng.random() < 0.5:
                    body += encode_entry_header(OFS_DELTA, len(delta)) + encode_ofs(start - at)
                else:
                    body += encode_entry_header(REF_DELTA, len(delta)) + repo.objects[base][0]
                body += zlib.compress(delta)
            else:
                body += encode_entry_header(kind, len(data)) + zlib.compress(data)
            placed.append((number, start))
            assert oid
        checksum = repo.algo.new(bytes(body)).digest()
        path = folder / "pack" / f"pack-{checksum.hex()}"
        path.with_suffix(".pack").write_bytes(bytes(body) + checksum)
        descriptor = os.open(path.with_suffix(".pack"), os.O_RDWR)
        try:
            indexed = index_pack(descriptor, repo.algo)
            indexed.write_index(str(path.with_suffix(".idx")))
            if rng.random() < 0.5:
                indexed.write_reverse_index(str(path.with_suffix(".rev")))
        finally:
            os.close(descriptor)


def packed_store(repo: RepositoryBuilder, folder: Path, *, packs: int = 1, seed: int = 0) -> ObjectStore:
    """Return a store of everything in the builder, dealt out to some packs; a few objects lie in two."""
    rng = random.Random(seed)
    shares: list[list[int]] = [[] for _ in range(packs)]
    for number in range(len(repo.objects)):
        shares[rng.randrange(packs)].append(number)
        if packs > 1 and rng.random() < 0.1:
            other = shares[rng.randrange(packs)]
            if number not in other:
                other.append(number)
    write_packs(repo, folder, [share for share in shares if share], seed=seed)
    return ObjectStore.open(str(folder), repo.algo)
