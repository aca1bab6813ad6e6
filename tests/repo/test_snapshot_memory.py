"""What a large repository costs a worker: 50,000 refs and 1,000,000 objects in less than 100 MB of private memory."""

import json
import random
import subprocess
import sys
import zlib
from array import array
from pathlib import Path

import pytest

from govc.objects.types import BLOB
from govc.pack.entry import encode_entry_header
from govc.pack.index_writer import encode_index_v2
from govc.protocol.oid import SHA1

OBJECT_COUNT = 1_000_000
REF_COUNT = 50_000
LOOKUP_COUNT = 1000
PRIVATE_BYTES_MAX = 100_000_000

MEASURE = """
import json, os, random, sys
import psutil
from govc.odb.cache import BaseCache
from govc.repo.repository import Repository, Surroundings
from govc.service.advertise import advertise
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.ls_refs import ls_refs

gitdir = sys.argv[1]
environ = {"GIT_CONFIG_NOSYSTEM": "1"}
around = Surroundings(environ=environ, base_cache=BaseCache(32 << 20), object_bytes_max=1 << 30)
before = psutil.Process().memory_full_info().uss
repository = Repository(gitdir, around)
snapshot = repository.snapshot()
v0 = advertise(snapshot, RequestContext(service=UPLOAD_PACK), environ)
v2, _ = ls_refs(snapshot, b"", [b"peel", b"symrefs"])
with open(gitdir + "/looked-up", "rb") as file:
    wanted = [file.read(20) for _ in range(int(sys.argv[2]))]
found = sum(snapshot.store.find(oid) >= 0 for oid in wanted)
missed = sum(snapshot.store.find(os.urandom(20)) < 0 for _ in wanted)
after = psutil.Process().memory_full_info().uss
refs = snapshot.table.packed.count
print(json.dumps({
    "private": after - before, "found": found, "missed": missed, "refs": refs,
    "v0": v0.count(b" refs/heads/"), "v2": v2.count(b" refs/heads/"), "objects": snapshot.store.packs[0].count,
}))
"""


def make_large_repository(path: Path) -> None:
    """Write a pack whose entries are all the same small blob, under a million made-up names."""
    rng = random.Random(1)
    names = rng.randbytes(OBJECT_COUNT * 20)
    oids = sorted({names[at : at + 20] for at in range(0, len(names), 20)})
    assert len(oids) == OBJECT_COUNT
    entry = encode_entry_header(BLOB, 8) + zlib.compress(b"a blob.\n")
    body = b"PACK" + (2).to_bytes(4, "big") + OBJECT_COUNT.to_bytes(4, "big") + entry * OBJECT_COUNT
    trailer = SHA1.new(body).digest()
    (path / "objects/pack").mkdir(parents=True)
    (path / "objects/pack/pack-x.pack").write_bytes(body + trailer)
    crcs = array("I", [zlib.crc32(entry)]) * OBJECT_COUNT
    offsets = array("Q", range(12, 12 + len(entry) * OBJECT_COUNT, len(entry)))
    with open(path / "objects/pack/pack-x.idx", "wb") as file:
        file.writelines(encode_index_v2(SHA1, b"".join(oids), crcs, offsets, trailer))
    (path / "refs").mkdir()
    (path / "HEAD").write_text("ref: refs/heads/topic/00000\n")
    with open(path / "packed-refs", "w") as packed:
        packed.write("# pack-refs with: peeled fully-peeled sorted \n")
        for number, oid in enumerate(rng.sample(oids, REF_COUNT)):
            packed.write(f"{oid.hex()} refs/heads/topic/{number:05}\n")
            if number % 2:
                packed.write(f"^{oids[number].hex()}\n")
    (path / "looked-up").write_bytes(b"".join(rng.sample(oids, LOOKUP_COUNT)))


@pytest.mark.slow
def test_a_million_objects_and_50000_refs_cost_less_than_100_mb(tmp_path: Path) -> None:
    make_large_repository(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(LOOKUP_COUNT)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    measured = json.loads(done.stdout)
    private = measured.pop("private")
    assert measured == {
        "found": LOOKUP_COUNT,
        "missed": LOOKUP_COUNT,
        "refs": REF_COUNT,
        "v0": REF_COUNT + REF_COUNT // 2,  # half of them with a line of what they peel to
        "v2": REF_COUNT,
        "objects": OBJECT_COUNT,
    }
    assert private < PRIVATE_BYTES_MAX, f"{private / 1e6:.1f} MB"
    print(f"{private / 1e6:.1f} MB of private memory")
