"""Packs that came since the kernels' table was made: found and read all the same, and soon in a table of their own."""

import pytest

from govc.kernels.packread import AVAILABLE
from govc.objects.types import BLOB, hash_object
from govc.odb.kernel_tables import PACKS_BEHIND_MAX
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="without compiled kernels there is no table")


def push(git, path, number: int) -> bytes:
    """Add a pack of one blob, and return its oid."""
    content = f"new {number}\n".encode()
    made = git(path, "hash-object", "-w", "--stdin", stdin=content).strip()
    git(path, "pack-objects", "-q", "objects/pack/pack", stdin=made + b"\n")
    git(path, "prune-packed", "-q")
    assert made == hash_object(SHA1, BLOB, content).hex().encode()
    return bytes.fromhex(made.decode())


def test_what_came_since_is_found_and_read(make_repository, git) -> None:
    path = make_repository(commits=20)
    store = ObjectStore.open(str(path / "objects"), SHA1)
    old = [(oid, store.read_oid(oid)) for oid in list(store.iter_oids())[:5]]
    tables = store._tables
    table, end = tables.recent(), tables.end
    assert table is not None
    for number in range(PACKS_BEHIND_MAX + 1):
        oid = push(git, path, number)
        assert store.refresh()
        assert (tables.recent() is table) is (number < PACKS_BEHIND_MAX)
        found = store.find(oid)
        assert found >= end
        assert (BLOB, f"new {number}\n".encode()) == store.read(found)
        assert (store.type_of(found), store.size_of(found)) == (BLOB, len(f"new {number}\n"))
        assert old == [(known, store.read_oid(known)) for known, _ in old]
        assert store.find(b"\1" * 20) < 0
    assert tables.end > end


def test_a_table_of_all_is_the_recent_one_at_once(make_repository, git) -> None:
    path = make_repository(commits=20)
    store = ObjectStore.open(str(path / "objects"), SHA1)
    store.read(0)
    before = store._tables.recent()
    oid = push(git, path, 0)
    assert store.refresh()
    whole = store.pack_table()
    assert whole is not before
    assert whole is store._tables.recent()
    assert (BLOB, b"new 0\n") == store.read_oid(oid)
    assert store.find(b"\1" * 20) < 0
