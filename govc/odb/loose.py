"""Loose objects: one file each, `objects/xx/yyyy...` by the hex digits of the oid.

    zlib stream of  <type name> SP <decimal size> NUL <content>

Any level and window of zlib is read. Absences are never remembered: another process may write the object at
any moment.

Source: gitrepository-layout "objects", gitformat-loose.
"""

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

from govc.errors import CorruptObject, LimitExceeded
from govc.objects.types import TYPE_NUMBERS, encode_object_header, hash_object
from govc.odb.files import create_temporary, place_file, within_folder
from govc.odb.modes import FileModes
from govc.protocol.oid import HashAlgorithm

_HEADER_BYTES_MAX = 32  # as git: "MAX_HEADER_LEN"
_READ_BYTES = 1 << 16
_HEADER = re.compile(rb"(commit|tree|blob|tag) (0|[1-9][0-9]*)\0")
_SHARD = re.compile(r"[0-9a-f]{2}")


def loose_path(objects_dir: str, oid: bytes) -> str:
    """Return where the object lies, or would lie."""
    digits = oid.hex()
    return f"{objects_dir}/{digits[:2]}/{digits[2:]}"


def has_loose_object(objects_dir: str, oid: bytes) -> bool:
    """Tell whether there is such a file; what is in it is not looked at."""
    try:
        os.stat(loose_path(objects_dir, oid))
    except OSError:
        return False
    return True


class _Inflater:
    """The stream of one file, with the header taken off."""

    def __init__(self, fd: int, oid: bytes) -> None:
        self._fd = fd
        self._oid = oid
        self._stream = zlib.decompressobj()
        self._pending = b""
        head = self._inflate(_HEADER_BYTES_MAX)
        match = _HEADER.match(head)
        while match is None and len(head) < _HEADER_BYTES_MAX and not self._stream.eof:
            head += self._inflate(_HEADER_BYTES_MAX - len(head))
            match = _HEADER.match(head)
        if match is None:
            raise CorruptObject(oid, "unable to parse header of the loose object")
        self.type_number = TYPE_NUMBERS[match[1]]
        self.size = int(match[2])
        self._first = head[match.end() :]

    def _inflate(self, bytes_max: int) -> bytes:
        """Return some bytes, at most `bytes_max`; none only at the end of the stream."""
        while not self._stream.eof:
            if not self._pending:
                self._pending = os.read(self._fd, _READ_BYTES)
                if not self._pending:
                    raise CorruptObject(self._oid, "truncated loose object")
            try:
                out = self._stream.decompress(self._pending, bytes_max)
            except zlib.error as error:
                raise CorruptObject(self._oid, f"inflate: {error}") from None
            self._pending = self._stream.unconsumed_tail
            if out:
                return out
        return b""

    def iter_content(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the content; raise CorruptObject at a size that isn't the header's or at bytes behind the
        stream.
        """
        left = self.size
        chunk = self._first
        while True:
            left -= len(chunk)
            if left < 0:
                raise CorruptObject(self._oid, "loose object is larger than its header says")
            if chunk:
                yield chunk
            # One byte more than is due, so that the end of the stream is met and an excess shows.
            chunk = self._inflate(min(chunk_bytes, left + 1))
            if not chunk:
                break
        if left:
            raise CorruptObject(self._oid, "loose object is smaller than its header says")
        if self._stream.unused_data or os.read(self._fd, 1):
            raise CorruptObject(self._oid, "garbage at end of loose object")


def _open(objects_dir: str, oid: bytes) -> int:
    return os.open(loose_path(objects_dir, oid), os.O_RDONLY | os.O_CLOEXEC)


def read_loose_object(objects_dir: str, oid: bytes, *, object_bytes_max: int) -> tuple[int, bytes]:
    """Return (type, content). FileNotFoundError when there is none, CorruptObject, LimitExceeded."""
    fd = _open(objects_dir, oid)
    try:
        stream = _Inflater(fd, oid)
        if stream.size > object_bytes_max:
            raise LimitExceeded("object_bytes_max", object_bytes_max, stream.size)
        return stream.type_number, b"".join(stream.iter_content(1 << 20))
    finally:
        os.close(fd)


def read_loose_header(objects_dir: str, oid: bytes) -> tuple[int, int]:
    """Return (type, size in bytes) as the header states them; FileNotFoundError, CorruptObject."""
    fd = _open(objects_dir, oid)
    try:
        stream = _Inflater(fd, oid)
        return stream.type_number, stream.size
    finally:
        os.close(fd)


def iter_loose_content(objects_dir: str, oid: bytes, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the content in pieces of at most `chunk_bytes`; raises as `read_loose_object`, perhaps late, but
    FileNotFoundError before anything was yielded.
    """
    fd = _open(objects_dir, oid)
    try:
        yield from _Inflater(fd, oid).iter_content(chunk_bytes)
    finally:
        os.close(fd)


def iter_loose_oids(objects_dir: str, algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield the oids that file names spell, shard by shard in order; temporary and strange files are passed
    over.
    """
    try:
        shards = sorted(name for name in os.listdir(objects_dir) if _SHARD.fullmatch(name))
    except FileNotFoundError:
        return
    for shard in shards:
        try:
            names = sorted(os.listdir(f"{objects_dir}/{shard}"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            oid = algo.parse_hex(os.fsencode(shard + name))
            if oid is not None:
                yield oid


def write_loose_object(
    objects_dir: str,
    algo: HashAlgorithm,
    type_number: int,
    data: bytes,
    modes: FileModes,
    *,
    level: int = 1,
    fsync: bool = False,
) -> bytes:
    """Write an object, unless it is there, and return its oid.

    The file is 0444, written as `tmp_obj_*` beside its place and linked into it.
    """
    oid = hash_object(algo, type_number, data)
    chunks = (encode_object_header(type_number, len(data)), data)
    write_loose_stream(objects_dir, oid, chunks, modes, level=level, fsync=fsync)
    return oid


def write_loose_stream(
    objects_dir: str, oid: bytes, chunks: Iterable[bytes], modes: FileModes, *, level: int = 1, fsync: bool = False
) -> None:
    """Write an object, unless it is there, from its header and content in pieces, whose hash the caller vouches for."""
    path = loose_path(objects_dir, oid)
    if os.path.exists(path):
        return
    shard = os.path.dirname(path)
    fd, temporary = within_folder(shard, modes, lambda: create_temporary(shard, "tmp_obj_", 0o444))
    try:
        with open(fd, "wb") as file:
            stream = zlib.compressobj(level)
            for chunk in chunks:
                file.write(stream.compress(chunk))
            file.write(stream.flush())
            if fsync:
                file.flush()
                os.fsync(fd)
        modes.adjust(temporary)
        place_file(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
