"""Bringing objects back that a power cut has taken: is this pack whole, and if not, put it in place again.

A pack is whole when its trailer is the hash of what comes before, and its index is sound and belongs to it. What isn't
whole is never deleted: it is moved aside.

Source: gitformat-pack; storage rule 21.
"""

import logging
import os
from contextlib import suppress

from govc import disk
from govc.errors import Corrupt, CorruptPack
from govc.odb.files import create_temporary, within_folder
from govc.odb.loose import loose_path
from govc.odb.modes import FileModes
from govc.pack.index import PackIndex
from govc.pack.indexer import index_pack
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_SUFFIXES = (".idx", ".rev", ".pack")


def find_pack_damage(path: str, algo: HashAlgorithm) -> str:
    """Return what is wrong with the pack at `path` or its index, "" when both are whole. Reads all of both."""
    try:
        trailer = _checked_trailer(path, algo)
        with open(f"{path.removesuffix('.pack')}.idx", "rb") as file:
            index = PackIndex(file.read(), algo)
        index.verify()
    except FileNotFoundError as error:
        return f"{os.path.basename(error.filename)} is missing"
    except (Corrupt, OSError) as error:
        return str(error)
    return "" if index.pack_checksum == trailer else "the index belongs to another pack"


def _checked_trailer(path: str, algo: HashAlgorithm) -> bytes:
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size - algo.oid_size
        if left < 12:
            raise CorruptPack("the pack is too short")
        hasher = algo.new()
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise CorruptPack("the pack is cut short")
            hasher.update(chunk)
            left -= len(chunk)
        trailer = file.read()
    if hasher.digest() != trailer:
        raise CorruptPack("the pack's checksum is wrong")
    return trailer


def restore_pack(objects_dir: str, checksum: bytes, source: bytes | str, algo: HashAlgorithm, modes: FileModes) -> bool:
    """Put a pack, given as bytes or as another file, into objects/pack; False when it is there, whole.

    Nothing is synced: the checkpoint that follows does that. Raises CorruptPack when `source` isn't whole, OSError.
    """
    folder = f"{objects_dir}/pack"
    target = f"{folder}/pack-{checksum.hex()}.pack"
    damage = find_pack_damage(target, algo)
    if not damage:
        return False
    modes.make_directory(folder)
    descriptor, temporary = create_temporary(folder, "tmp_pack_", 0o444)
    try:
        try:
            _copy(source, descriptor)
            indexed = index_pack(descriptor, algo)
            if indexed.pack_checksum != checksum:
                raise CorruptPack("the log's copy of a pack has another checksum")
        finally:
            os.close(descriptor)
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                disk.unlink(f"{target.removesuffix('.pack')}{suffix}")
        stem = target.removesuffix(".pack")
        for suffix, write in ((".rev", indexed.write_reverse_index), (".idx", indexed.write_index)):
            fresh = f"{temporary}{suffix}"
            write(fresh)
            modes.adjust(fresh)
            if suffix == ".idx":
                modes.adjust(temporary)
                disk.rename(temporary, target)
            disk.rename(fresh, f"{stem}{suffix}")
    except BaseException:
        for suffix in ("", ".rev", ".idx"):
            with suppress(FileNotFoundError):
                os.unlink(f"{temporary}{suffix}")
        raise
    log.warning("%s: restored from the log (%s)", target, damage)
    return True


def _copy(source: bytes | str, descriptor: int) -> None:
    if isinstance(source, bytes):
        disk.write_all(descriptor, source)
        return
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            disk.write_all(descriptor, chunk)


def restore_loose_object(objects_dir: str, oid: bytes, content: bytes, modes: FileModes) -> bool:
    """Put a loose object's file in place, unsynced; False when the same bytes are there. OSError."""
    path = loose_path(objects_dir, oid)
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == content:
            return False
    folder = os.path.dirname(path)
    descriptor, temporary = within_folder(folder, modes, lambda: create_temporary(folder, "tmp_obj_", 0o444))
    try:
        disk.write_all(descriptor, content)
    finally:
        os.close(descriptor)
    modes.adjust(temporary)
    disk.rename(temporary, path)
    return True


def move_aside(path: str, folder: str) -> str:
    """Move a file that can't be used into `folder`, under a name that is free; return it. OSError."""
    with suppress(FileExistsError):
        disk.mkdir(folder, 0o700)
    name = os.path.basename(path)
    for number in range(1000):
        target = f"{folder}/{name}.{number}"
        if not os.path.lexists(target):
            disk.rename(path, target)
            return target
    raise FileExistsError(f"{folder}/{name}.*")
