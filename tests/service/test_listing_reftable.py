"""Listings whose many refs are in a large reftable: what later tables hide or delete is not in the kept lines."""

import zlib
from pathlib import Path

from govc.protocol.oid import SHA1
from govc.refs.backend import LogUpdates, Reflogging, ReftableBackend, WriteOptions
from govc.refs.plan import ANY, RefUpdate
from govc.repo.creation import create_repository
from govc.service.advertise import advertise
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.ls_refs import ls_refs
from tests.repo.worlds import repository

ENVIRON = {"GIT_CONFIG_NOSYSTEM": "1"}


def change(path: Path, values: dict[bytes, bytes]) -> None:
    reflogging = Reflogging(committer=b"C <c@example.com>", message=b"x", updates=LogUpdates.NONE)
    backend = ReftableBackend(str(path), str(path), SHA1)
    with backend.begin(WriteOptions(fsync=False), reflogging, None) as transaction:
        for name, oid in values.items():
            transaction.add(RefUpdate(name, ANY, oid))
        assert transaction.prepare() == {} == transaction.commit()


def test_a_large_table_with_changes_on_top(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    create_repository(str(path), SHA1, export=True, allow_push=True, ref_storage="reftable")
    for text in b"one", b"two", b"three":
        data = b"blob %d\0%b" % (len(text), text)
        name = SHA1.new(data).digest().hex()
        (path / "objects" / name[:2]).mkdir(exist_ok=True)
        (path / "objects" / name[:2] / name[2:]).write_bytes(zlib.compress(data))
    one, two, three = (SHA1.new(b"blob %d\0%b" % (len(text), text)).digest() for text in (b"one", b"two", b"three"))
    expected = {b"refs/tags/n%05d" % number: one for number in range(6000)}
    change(path, expected)
    watched = repository(path, ENVIRON)
    context = RequestContext(service=UPLOAD_PACK)
    changes = (
        {},
        {b"refs/tags/n00000": SHA1.zero, b"refs/tags/n03000": SHA1.zero, b"refs/tags/n05999": SHA1.zero},
        {b"refs/tags/n00001": two, b"refs/tags/a": three, b"refs/tags/zz": two},
        {b"refs/tags/n03000": three},
    )
    for wanted in changes:
        if wanted:
            change(path, wanted)
        expected.update(wanted)
        expected = {name: oid for name, oid in expected.items() if oid != SHA1.zero}
        lines = {name: oid.hex().encode() for name, oid in expected.items()}
        snapshot = watched.snapshot()
        assert snapshot.table.packed.count == 6000
        listed, _ = ls_refs(snapshot, b"", [b"peel", b"symrefs"])
        v2 = [line[4:].split(b" ")[:2] for line in listed.split(b"\n") if b" refs/" in line]
        assert [[oid, name] for name, oid in sorted(lines.items())] == v2
        v0 = advertise(snapshot, context, ENVIRON)
        found = [line for line in v0.replace(b"\0", b"\n").split(b"\n") if b" refs/tags/" in line]
        assert sorted(lines) == [line[line.index(b" ") + 1 :] for line in found]
