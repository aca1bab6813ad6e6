import gc
import os
import shutil
import zlib
from array import array
from pathlib import Path

import pytest

import govc.odb.loose as loose_module
import govc.odb.pack_set as pack_set_module
import govc.odb.store as store_module
from govc.errors import Corrupt, CorruptPack, LimitExceeded, ObjectMissing
from govc.objects.types import BLOB, TYPE_NAMES, TYPE_NUMBERS, hash_object
from govc.odb.cache import BaseCache
from govc.odb.loose import loose_path, write_loose_object
from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.store import LOOSE_NUMBER_FIRST, ObjectStore
from govc.pack.index_writer import encode_index_v2
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from tests.descriptors import count_open

BLOB_OID = hash_object(SHA1, BLOB, b"a blob\n")


def open_store(path: Path, algo: HashAlgorithm = SHA1, **options) -> ObjectStore:
    return ObjectStore.open(str(path / "objects"), algo, **options)


def check_all(store: ObjectStore, expected: dict[bytes, tuple[bytes, bytes]]) -> None:
    """Every way of looking at every object agrees with git."""
    assert set(expected) == set(store.iter_oids())
    for oid, (kind, content) in expected.items():
        number = store.find(oid)
        assert oid == store.oid_of(number)
        assert TYPE_NUMBERS[kind] == store.type_of(number)
        assert len(content) == store.size_of(number)
        assert (TYPE_NUMBERS[kind], content) == store.read(number)
        assert content == b"".join(store.iter_content(number, 100))


@pytest.mark.parametrize(
    "repack",
    [
        [],
        ["repack", "-adfq", "--depth=250", "--window=50"],
        ["repack", "-adfq", "--depth=4095", "--window=400"],
        ["-c", "pack.indexVersion=1", "repack", "-adfq"],
        ["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq"],
        ["repack", "-adq", "--max-pack-size=1m"],
        ["-c", "pack.writeReverseIndex=true", "repack", "-adfq"],
        ["-c", "core.compression=0", "repack", "-adFq"],
    ],
    ids=lambda args: " ".join(args) or "fast-import",
)
@pytest.mark.rows("FS-05", "FS-06", "FS-07", "FS-08", "FS-11", "FS-12", "FS-13")
def test_every_object_of_a_pack_reads_as_git_reads_it(repack, make_repository, git, cat_all):
    path = make_repository(commits=150)
    if repack:
        git(path, *repack)
    check_all(open_store(path), cat_all(path))


@pytest.mark.parametrize("budget_bytes", [0, 20_000])
def test_a_small_cache_changes_nothing_but_time(budget_bytes, make_repository, git, cat_all):
    path = make_repository(commits=80)
    git(path, "repack", "-adfq", "--depth=4095", "--window=200")
    store = open_store(path, cache=BaseCache(budget_bytes))
    check_all(store, cat_all(path))
    assert store.statistics().cache.used_bytes <= budget_bytes


def test_sha256_repository_reads_as_git_reads_it(make_repository, git, cat_all):
    path = make_repository(object_format="sha256")
    check_all(open_store(path, SHA256), cat_all(path))


@pytest.mark.rows("FS-70", "FS-01", "FS-02")
def test_loose_only_repository_reads_as_git_reads_it(make_repository, git, cat_all):
    path = make_repository(commits=10)
    [pack] = (path / "objects/pack").glob("*.pack")
    data = pack.read_bytes()
    shutil.rmtree(path / "objects/pack")
    git(path, "-c", "core.looseCompression=9", "unpack-objects", "-q", stdin=data)
    shutil.rmtree(path / "objects/pack", ignore_errors=True)
    store = open_store(path)
    assert () == store.packs
    check_all(store, cat_all(path))
    assert store.find(next(store.iter_oids())) >= LOOSE_NUMBER_FIRST


def test_entries_lie_back_to_back_and_name_their_bases(make_repository, git):
    path = make_repository()
    git(path, "repack", "-adfq")
    store = open_store(path)
    [pack] = store.packs
    entries = sorted((store.entry(number) for number in range(pack.count)), key=lambda entry: entry.offset)
    assert 12 == entries[0].offset
    assert [entry.end for entry in entries] == [entry.offset for entry in entries[1:]] + [pack.size - 20]
    by_offset = {entry.offset: entry for entry in entries}
    deltas = [entry for entry in entries if entry.type_number == 6]
    assert deltas
    for entry in deltas:
        assert pack.index.offset_at(entry.base_number - pack.first_number) in by_offset
        assert entry.base_number == pack.position_of_offset(store.entry(entry.base_number).offset)
    assert all(entry.base_number == -1 for entry in entries if entry.type_number < 5)
    assert -1 == pack.position_of_offset(13)
    with pytest.raises(CorruptPack):
        pack.end_of(13)


@pytest.mark.rows("FS-17")
def test_missing_object_makes_the_folders_be_listed_again(make_repository, git):
    path = make_repository(commits=3)
    store = open_store(path)
    oid = bytes.fromhex(git(path, "hash-object", "-w", "--stdin", stdin=b"new\n").decode())
    assert store.find(oid) >= LOOSE_NUMBER_FIRST
    other = make_repository("other.git", commits=5, file="g")
    absent = next(o for o in open_store(other).iter_oids() if not store.contains(o))
    for name in os.listdir(other / "objects/pack"):
        shutil.copy(other / "objects/pack" / name, path / "objects/pack")
    assert -1 == store.find(absent, rescan=False)
    assert len(store.packs[0:1]) == 1
    assert store.find(absent) == store.packs[1].first_number + store.packs[1].index.find(absent)
    assert not store.vanished


def repack_at_the_first(monkeypatch, module, git, path) -> list[str]:
    """Have plain git put one new pack in the place of all others after they were listed, before one is opened."""
    open_, opened = PackFile.open, []

    class Repacking:
        @staticmethod
        def open(pack_path, algo):
            if not opened:
                git(path, "repack", "-adfq", "--depth=3")
            opened.append(pack_path)
            return open_(pack_path, algo)

    monkeypatch.setattr(module, "PackFile", Repacking)
    return opened


@pytest.mark.rows("FS-18")
def test_pack_gone_between_its_listing_and_its_opening_has_the_folder_listed_again(
    make_repository, git, cat_all, monkeypatch
):
    path = make_repository()
    expected = cat_all(path)
    opened = repack_at_the_first(monkeypatch, pack_set_module, git, path)
    store = open_store(path)
    assert 2 == len(opened) == len(set(opened))
    assert 1 == len(store.packs)
    assert not store.vanished
    assert set(expected) == set(store.iter_oids())


@pytest.mark.rows("FS-18")
def test_pack_gone_before_a_helper_opens_it_has_the_folder_listed_again(make_repository, git, monkeypatch):
    path = make_repository()
    helper = ObjectStore.from_descriptors([str(path / "objects")], SHA1, [])
    opened = repack_at_the_first(monkeypatch, store_module, git, path)
    assert helper.read_oid(bytes.fromhex(git(path, "rev-parse", "main").decode()))[0] in TYPE_NAMES
    assert 2 == len(opened) == len(set(opened))


@pytest.mark.rows("FS-18")
def test_pack_deleted_while_open_stays_readable_and_the_next_store_uses_the_new_one(make_repository, git, cat_all):
    path = make_repository()
    store = open_store(path)
    expected = cat_all(path)
    before = {oid: store.find(oid) for oid in expected}
    git(path, "repack", "-adfq", "--depth=3")
    assert store.refresh()
    assert store.vanished
    check = {oid: store.read(number)[1] for oid, number in before.items()}
    assert {oid: content for oid, (_, content) in expected.items()} == check
    assert before == {oid: store.find(oid) for oid in expected}
    fresh = ObjectStore.open(str(path / "objects"), SHA1, reuse=store)
    assert 1 == len(fresh.packs)
    assert not fresh.vanished
    check_all(fresh, expected)


def test_reused_packs_stay_open_and_the_rest_is_closed_with_its_last_user(make_repository, git):
    path = make_repository()
    store = open_store(path)
    fresh = ObjectStore.open(str(path / "objects"), SHA1, reuse=store)
    assert store.packs[0].descriptor() == fresh.packs[0].descriptor()
    assert count_open(path) > 0
    oid = next(store.iter_oids())
    del store
    gc.collect()
    assert fresh.read_oid(oid)[0] in TYPE_NAMES
    del fresh
    gc.collect()
    assert count_open(path) == 0


def test_object_packed_after_it_was_seen_loose_keeps_its_number(make_repository, git):
    path = make_repository(commits=2)
    oid = bytes.fromhex(git(path, "hash-object", "-w", "--stdin", stdin=b"a blob\n").decode())
    store = open_store(path)
    number = store.find(oid)
    git(path, "update-ref", "refs/tags/blob", oid.hex())
    git(path, "repack", "-adq")
    assert not os.path.exists(loose_path(str(path / "objects"), oid))
    assert (BLOB, b"a blob\n") == store.read(number)
    assert number == store.find(oid)
    assert (BLOB, 7) == (store.type_of(number), store.size_of(number))
    assert b"a blob\n" == b"".join(store.iter_content(number))
    assert store.superseded


def test_object_packed_between_a_look_at_it_and_its_reading_is_read_from_its_pack(make_repository, git, monkeypatch):
    path = make_repository(commits=2)
    oid = bytes.fromhex(git(path, "hash-object", "-w", "--stdin", stdin=b"a blob\n").decode())
    git(path, "update-ref", "refs/tags/blob", oid.hex())
    store = open_store(path)
    number = store.find(oid)
    inflate = loose_module.iter_loose_content

    def pack_first(*arguments):
        git(path, "repack", "-adq")
        return inflate(*arguments)

    monkeypatch.setattr(store_module, "iter_loose_content", pack_first)
    assert b"a blob\n" == b"".join(store.iter_content(number))
    assert not os.path.exists(loose_path(str(path / "objects"), oid))


def test_pruned_loose_object_is_not_found_any_more(make_repository, git):
    path = make_repository(commits=2)
    git(path, "hash-object", "-w", "--stdin", stdin=b"a blob\n")
    store = open_store(path)
    number = store.find(BLOB_OID)
    os.unlink(loose_path(str(path / "objects"), BLOB_OID))
    assert -1 == store.find(BLOB_OID)
    for look in (store.read, store.type_of, store.size_of, lambda n: list(store.iter_content(n))):
        with pytest.raises(ObjectMissing):
            look(number)


def test_absent_object_is_missing(make_repository):
    store = open_store(make_repository(commits=1))
    assert not store.contains(bytes(20))
    with pytest.raises(ObjectMissing):
        store.read_oid(bytes(20))
    with pytest.raises(IndexError):
        store.oid_of(10**6)
    with pytest.raises(IndexError):
        store.read(-1)


@pytest.mark.rows("FS-29", "FS-30")
def test_objects_of_alternates_are_found_and_their_files_watched(make_repository, git, tmp_path, cat_all):
    base = make_repository()
    for name in ("one.git", "two.git"):
        git(tmp_path, "clone", "-q", "--bare", "--shared", str(base), name)
        base = tmp_path / name
    git(base, "hash-object", "-w", "--stdin", stdin=b"own\n")
    store = open_store(base)
    assert 3 == len(store.directories)
    check_all(store, cat_all(base))
    assert str(base / "objects/info/alternates") in store.watched()
    assert str(tmp_path / "r.git/objects/pack") in store.watched()
    (base / "objects/info/alternates").unlink()
    assert store.refresh()
    assert store.vanished
    assert 1 == len(open_store(base).directories)


def test_helper_with_the_descriptors_has_the_same_numbers(make_repository, git):
    path = make_repository()
    other = make_repository("other.git", file="g")
    for name in os.listdir(other / "objects/pack"):
        shutil.copy(other / "objects/pack" / name, path / "objects/pack")
    store = open_store(path)
    inherited = [(p, os.dup(pack_fd), os.dup(idx_fd)) for p, pack_fd, idx_fd in store.descriptors()]
    helper = ObjectStore.from_descriptors([str(path / "objects")], SHA1, inherited)
    shutil.rmtree(path / "objects/pack")
    for oid in store.iter_oids():
        assert store.find(oid) == helper.find(oid)
        assert store.read_oid(oid) == helper.read_oid(oid)
    assert -1 == helper.find(bytes(20))


@pytest.mark.parametrize("damage", ["cut pack", "cut idx", "no pack", "other idx", "empty idx", "bad fan-out"])
def test_damaged_pack_is_skipped_with_one_warning_and_the_rest_is_served(damage, make_repository, git, caplog):
    path = make_repository()
    good = make_repository("good.git", commits=4, file="g")
    [pack] = (path / "objects/pack").glob("*.pack")
    [idx] = (path / "objects/pack").glob("*.idx")
    [good_idx] = (good / "objects/pack").glob("*.idx")
    for name in os.listdir(good / "objects/pack"):
        shutil.copy(good / "objects/pack" / name, path / "objects/pack")
    for file in (pack, idx):
        file.chmod(0o644)
    if damage == "cut pack":
        os.truncate(pack, 100)
    elif damage == "cut idx":
        os.truncate(idx, idx.stat().st_size - 4)
    elif damage == "no pack":
        pack.unlink()
        pack.symlink_to("nowhere")
    elif damage == "other idx":
        idx.write_bytes(good_idx.read_bytes())
    elif damage == "empty idx":
        os.truncate(idx, 0)
    else:
        data = bytearray(idx.read_bytes())
        data[8:12] = b"\xff\xff\xff\xff"
        idx.write_bytes(data)
    store = open_store(path)
    assert 1 == len(store.packs)
    assert not store.contains(bytes(20))
    assert not store.contains(bytes(20))
    if damage != "no pack":
        assert 1 == len([record for record in caplog.records if "is not used" in record.message])


def test_temporary_and_strange_files_are_ignored(make_repository, git, cat_all):
    path = make_repository(commits=5)
    expected = cat_all(path)
    objects = path / "objects"
    for name in ("pack/tmp_pack_abcdef", "pack/tmp_idx_abcdef", "pack/pack-x.strange", "tmp_obj_abcdef"):
        (objects / name).write_bytes(b"junk")
    (objects / "tmp_objdir-incoming-abcdef/pack").mkdir(parents=True)
    (objects / "ab").mkdir(exist_ok=True)
    (objects / "ab/tmp_obj_abcdef").write_bytes(b"junk")
    check_all(open_store(path), expected)


@pytest.mark.rows("FS-15", "FS-53")
def test_side_files_are_noted(make_repository):
    path = make_repository(commits=2)
    [pack] = (path / "objects/pack").glob("*.pack")
    store = open_store(path)
    assert not store.packs[0].is_promisor
    pack.with_suffix(".keep").touch()
    pack.with_suffix(".promisor").touch()
    store.refresh()
    assert {".keep", ".promisor"} <= store.packs[0].side_files
    assert store.packs[0].is_promisor


def write_crafted_pack(folder: Path, entries: list[tuple[bytes, bytes]]) -> None:
    """Write a pack of (oid, entry bytes) with an index, whatever the entries say."""
    offset = 12
    rows = []
    for oid, entry in entries:
        rows.append((oid, offset))
        offset += len(entry)
    body = b"PACK\0\0\0\2" + len(entries).to_bytes(4, "big") + b"".join(entry for _, entry in entries)
    checksum = SHA1.new(body).digest()
    rows.sort()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pack-crafted.pack").write_bytes(body + checksum)
    blob = b"".join(oid for oid, _ in rows)
    offsets = array("Q", [offset for _, offset in rows])
    crcs = array("I", [0] * len(rows))
    (folder / "pack-crafted.idx").write_bytes(b"".join(encode_index_v2(SHA1, blob, crcs, offsets, checksum)))


A, B, C = b"\x0a" * 20, b"\x0b" * 20, b"\x0c" * 20
DELTA = b"\x06\x06\x90\x06"  # copy 6 bytes of a base of 6


def ref_delta(base: bytes, delta: bytes = DELTA) -> bytes:
    return bytes([0x70 | len(delta)]) + base + zlib.compress(delta)


def whole(content: bytes, stated: int | None = None) -> bytes:
    return bytes([0x30 | (len(content) if stated is None else stated)]) + zlib.compress(content)


@pytest.mark.rows("FS-09")
def test_base_of_a_ref_delta_may_come_later(tmp_path):
    write_crafted_pack(tmp_path / "objects/pack", [(A, ref_delta(B)), (B, ref_delta(C)), (C, whole(b"abcdef"))])
    store = open_store(tmp_path)
    assert (BLOB, b"abcdef") == store.read_oid(A)
    assert BLOB == store.type_of(store.find(A))
    assert store.find(B) == store.entry(store.find(A)).base_number


@pytest.mark.parametrize(
    "entries",
    [
        [(A, ref_delta(B)), (B, ref_delta(A))],
        [(A, ref_delta(A))],
        [(A, ref_delta(C))],
        [(A, b"\x64\x7f" + zlib.compress(DELTA))],
        [(A, b"\x50" + zlib.compress(b""))],
        [(A, b"\x00" + zlib.compress(b""))],
        [(A, whole(b"abcdef", 5))],
        [(A, whole(b"abcdef", 7))],
        [(A, whole(b"abcdef")[:-8])],
        [(A, b"\x36not zlib at all")],
        [(A, b"\xff" * 12)],
    ],
    ids=[
        "cycle",
        "own base",
        "no base",
        "base before pack",
        "type 5",
        "type 0",
        "longer",
        "shorter",
        "cut",
        "not zlib",
        "huge size",
    ],
)
def test_crafted_entry_is_corrupt_in_every_way_of_looking(entries, tmp_path):
    write_crafted_pack(tmp_path / "objects/pack", entries)
    store = open_store(tmp_path)
    number = store.find(A)
    with pytest.raises(Corrupt):
        store.read(number)
    with pytest.raises(Corrupt):
        list(store.iter_content(number))
    for look in (store.type_of, store.size_of, store.entry):
        try:
            look(number)
        except Corrupt:
            continue


def test_object_larger_than_the_limit_is_refused_but_streams(tmp_path):
    write_crafted_pack(tmp_path / "objects/pack", [(A, whole(b"abcdef"))])
    store = open_store(tmp_path, object_bytes_max=5)
    with pytest.raises(LimitExceeded):
        store.read_oid(A)
    assert [b"abcd", b"ef"] == list(store.iter_content(store.find(A), 4))


def test_damaged_copy_is_passed_over_when_there_is_another(make_repository, git, caplog):
    path = make_repository(commits=3)
    data = b"x" * 1000 + b"\n"
    write_crafted_pack(path / "objects/pack", [(hash_object(SHA1, BLOB, data), b"\x36damaged")])
    write_loose_object(str(path / "objects"), SHA1, BLOB, data, FileModes())
    assert (BLOB, data) == open_store(path).read_oid(hash_object(SHA1, BLOB, data))
    assert "damaged copy" in caplog.text


def test_pack_cut_short_while_open_is_an_error_and_not_a_crash(make_repository):
    path = make_repository()
    store = open_store(path)
    [pack] = (path / "objects/pack").glob("*.pack")
    pack.chmod(0o644)
    os.truncate(pack, 50)
    with pytest.raises(CorruptPack):
        for number in range(store.packs[0].count):
            store.read(number)


@pytest.mark.rows("FS-04")
def test_freshening_sets_the_time_of_own_files_only(make_repository, git, tmp_path):
    path = make_repository(commits=2)
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(path), "fork.git")
    git(tmp_path / "fork.git", "hash-object", "-w", "--stdin", stdin=b"a blob\n")
    [pack] = (path / "objects/pack").glob("*.pack")
    loose = loose_path(str(tmp_path / "fork.git/objects"), BLOB_OID)
    for file in (pack, loose):
        os.utime(file, (1, 1))
    fork = open_store(tmp_path / "fork.git")
    assert fork.freshen(fork.find(BLOB_OID))
    assert os.stat(loose).st_mtime > 1
    packed = next(open_store(path).iter_oids())
    assert not fork.freshen(fork.find(packed))
    own = open_store(path)
    assert own.freshen(own.find(packed))
    assert pack.stat().st_mtime > 1


def test_many_packs_are_numbered_without_gaps_and_duplicates_found_in_the_first(make_repository, git, tmp_path):
    path = make_repository(commits=30)
    store = open_store(path)
    for count in range(1, 12):
        numbers = array("Q", range(count))
        data = b"".join(write_pack(store, numbers, ofs_delta=True))
        git(path, "index-pack", "--stdin", f"--keep=part {count}", stdin=data)
    many = open_store(path)
    assert 12 == len(many.packs)
    firsts = [pack.first_number for pack in many.packs]
    assert [sum(pack.count for pack in many.packs[:i]) for i in range(12)] == firsts
    big = many.packs[0]
    assert [big.first_number + i for i in range(big.count)] == [many.find(o) for o in big.index.iter_oids()]


def test_overlaid_store_sees_both_and_knows_what_is_new(make_repository, git, tmp_path):
    path = make_repository(commits=10)
    other = make_repository("other.git", commits=20)
    git(path, "hash-object", "-w", "--stdin", stdin=b"a blob\n")
    store = open_store(path)
    loose = store.find(BLOB_OID)
    top = store.overlaid(str(other / "objects"))
    for oid in open_store(other).iter_oids():
        assert store.contains(oid) != top.is_overlaid(top.find(oid))
        if store.contains(oid):
            assert store.find(oid) == top.find(oid)
        assert top.read_oid(oid)[0] in TYPE_NAMES
    assert loose == top.find(BLOB_OID)
    assert not top.is_overlaid(loose)
    git(other, "hash-object", "-w", "--stdin", stdin=b"another\n")
    assert top.is_overlaid(top.find(hash_object(SHA1, BLOB, b"another\n")))
    assert not store.contains(hash_object(SHA1, BLOB, b"another\n"))


@pytest.mark.parametrize("absent", [5, 2000])
def test_many_objects_are_looked_for_at_once(absent, make_repository, git, tmp_path, cat_all):
    """A few absent ones: loose files are asked for by name; many: folders are listed."""
    path = make_repository()
    other = make_repository("other.git", commits=5, file="g")
    (path / "objects/info/alternates").write_text(f"{other}/objects\n")
    loose = bytes.fromhex(git(path, "hash-object", "-w", "--stdin", stdin=b"loose\n").decode())
    there = {*cat_all(path), loose}
    oids = sorted({*there, *(hash_object(SHA1, BLOB, b"absent %d" % n) for n in range(absent))})
    ranks = open_store(path).find_among(b"".join(oids))
    assert there == {oids[rank] for rank in ranks}
    assert [] == open_store(path).find_among(b"").tolist()
