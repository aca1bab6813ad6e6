import os
import stat
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptObject, LimitExceeded
from govc.objects.types import BLOB, COMMIT, TAG, TREE, TYPE_NAMES
from govc.odb.loose import (
    has_loose_object,
    iter_loose_content,
    iter_loose_oids,
    loose_path,
    read_loose_header,
    read_loose_object,
    write_loose_object,
)
from govc.odb.modes import FileModes
from govc.protocol.oid import SHA1, SHA256

OID = b"\xab" * 20
LIMIT = 1 << 30


def put(objects_dir, data: bytes) -> str:
    path = loose_path(str(objects_dir), OID)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    return str(objects_dir)


@pytest.mark.rows("FS-02")
@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("window_bits", [9, 12, 15])
def test_any_level_and_window_is_read(level, window_bits, tmp_path):
    content = os.urandom(3000) + b"x" * 100_000
    stream = zlib.compressobj(level, zlib.DEFLATED, window_bits)
    data = stream.compress(b"blob %d\0" % len(content)) + stream.compress(content) + stream.flush()
    objects_dir = put(tmp_path, data)
    assert (BLOB, content) == read_loose_object(objects_dir, OID, object_bytes_max=LIMIT)
    assert (BLOB, len(content)) == read_loose_header(objects_dir, OID)
    chunks = list(iter_loose_content(objects_dir, OID, 1000))
    assert content == b"".join(chunks)
    assert max(map(len, chunks)) <= 1000


@pytest.mark.parametrize("size", [0, 1, 22, 23, 24, 25, 26, 31, 32, 33])
def test_content_that_ends_about_where_the_header_is_read_to_is_whole(size, tmp_path):
    objects_dir = put(tmp_path, zlib.compress(b"commit %d\0" % size + b"y" * size))
    assert (COMMIT, b"y" * size) == read_loose_object(objects_dir, OID, object_bytes_max=LIMIT)


@pytest.mark.rows("FS-02")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not zlib",
        zlib.compress(b""),
        zlib.compress(b"blob 3"),
        zlib.compress(b"blob\0abc"),
        zlib.compress(b"blob 03\0abc"),
        zlib.compress(b"blob -3\0abc"),
        zlib.compress(b"blob 3 \0abc"),
        zlib.compress(b"blob  3\0abc"),
        zlib.compress(b"blub 3\0abc"),
        zlib.compress(b"blob 2\0abc"),
        zlib.compress(b"blob 4\0abc"),
        zlib.compress(b"blob 0\0abc"),
        zlib.compress(b"blob " + b"9" * 40 + b"\0abc"),
        zlib.compress(b"blob 3\0abc") + b"x",
        zlib.compress(b"blob 3\0abc") + bytes(100_000),
        zlib.compress(b"blob 3\0abc")[:-1],
        zlib.compress(b"blob 3\0abc")[:-4] + b"\0\0\0\0",
    ],
)
def test_damaged_object_is_corrupt_whole_or_in_pieces(data, tmp_path):
    objects_dir = put(tmp_path, data)
    with pytest.raises(CorruptObject):
        read_loose_object(objects_dir, OID, object_bytes_max=LIMIT)
    with pytest.raises(CorruptObject):
        list(iter_loose_content(objects_dir, OID, 2))


def test_stated_size_beyond_the_limit_is_refused_before_reading(tmp_path):
    objects_dir = put(tmp_path, zlib.compress(b"blob 99999999999\0abc"))
    with pytest.raises(LimitExceeded):
        read_loose_object(objects_dir, OID, object_bytes_max=1000)
    assert (BLOB, 99999999999) == read_loose_header(objects_dir, OID)


def test_bomb_behind_a_small_size_is_not_inflated(tmp_path):
    objects_dir = put(tmp_path, zlib.compress(b"blob 10\0" + bytes(50_000_000)))
    with pytest.raises(CorruptObject, match="larger"):
        read_loose_object(objects_dir, OID, object_bytes_max=LIMIT)


def test_absent_object_is_file_not_found(tmp_path):
    assert not has_loose_object(str(tmp_path), OID)
    for read in (read_loose_header, lambda *args: read_loose_object(*args, object_bytes_max=LIMIT)):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path), OID)


@pytest.mark.rows("FS-01")
@pytest.mark.parametrize("algo", [SHA1, SHA256], ids=["sha1", "sha256"])
def test_git_reads_what_we_write(algo, tmp_path, git):
    git(tmp_path, "init", "-q", "--bare", f"--object-format={algo.name}", "r.git")
    objects_dir = str(tmp_path / "r.git/objects")
    for content in (b"", b"hello\n", bytes(200_000)):
        oid = write_loose_object(objects_dir, algo, BLOB, content, FileModes(), fsync=True)
        assert content == git(tmp_path / "r.git", "cat-file", "blob", oid.hex())
        assert 0o444 == stat.S_IMODE(os.stat(loose_path(objects_dir, oid)).st_mode)
    git(tmp_path / "r.git", "fsck", "--strict")
    assert 3 == len(list(iter_loose_oids(objects_dir, algo)))
    assert [] == [name for _, _, names in os.walk(objects_dir) for name in names if name.startswith("tmp_")]


@settings(max_examples=50)
@given(st.sampled_from([COMMIT, TREE, BLOB, TAG]), st.binary(max_size=500), st.integers(0, 9))
def test_what_is_written_is_read(tmp_path_factory, type_number, content, level):
    objects_dir = str(tmp_path_factory.mktemp("objects"))
    oid = write_loose_object(objects_dir, SHA1, type_number, content, FileModes(), level=level)
    assert (type_number, content) == read_loose_object(objects_dir, oid, object_bytes_max=LIMIT)
    assert type_number in TYPE_NAMES


def test_object_that_is_there_is_not_written_again(tmp_path):
    first = write_loose_object(str(tmp_path), SHA1, BLOB, b"abc", FileModes())
    inode = os.stat(loose_path(str(tmp_path), first)).st_ino
    assert first == write_loose_object(str(tmp_path), SHA1, BLOB, b"abc", FileModes())
    assert inode == os.stat(loose_path(str(tmp_path), first)).st_ino


def test_failed_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("govc.odb.loose.place_file", fail)
    with pytest.raises(OSError, match="space"):
        write_loose_object(str(tmp_path), SHA1, BLOB, b"abc", FileModes())
    assert [] == [name for _, _, names in os.walk(tmp_path) for name in names]


def test_strange_names_are_no_objects(tmp_path):
    for name in ("ab/short", "ab/" + "g" * 38, "zz/" + "0" * 38, "ab/tmp_obj_123456", "info/packs"):
        os.makedirs(tmp_path / os.path.dirname(name), exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "cd").touch()
    assert [] == list(iter_loose_oids(str(tmp_path), SHA1))
    assert [] == list(iter_loose_oids(str(tmp_path / "gone"), SHA1))


def test_a_folder_that_git_removes_before_anything_is_in_it_is_made_again(tmp_path, monkeypatch):
    """`git prune-packed` removes empty folders of loose objects; the text of a push certificate was lost then."""
    mkdir, made = os.mkdir, []

    def make_then_remove(path, mode=0o777):
        mkdir(path, mode)
        made.append(path)
        if len(made) < 3:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", make_then_remove)
    oid = write_loose_object(str(tmp_path), SHA1, BLOB, b"a blob", FileModes(0o660))
    assert (BLOB, b"a blob") == read_loose_object(str(tmp_path), oid, object_bytes_max=LIMIT)
    assert len(made) == 3


def test_objects_without_a_place_to_be_are_an_error_and_not_a_loop(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_loose_object(str(tmp_path / "gone"), SHA1, BLOB, b"a blob", FileModes())
