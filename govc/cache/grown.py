"""Bodies that grew out of older ones, and share most of their bytes with them.

A *line* of bodies are answers to one question at different times: each begins with other words and ends with more, and
what is between is the same. `<line>.line` names the last body of a line, with a note by whoever made it: where its
parts lie, and what it was made for. Who makes the next one opens that body as its `Elder` and yields `Borrowed`
pieces: bytes of the elder.

Such a body isn't written again. Its file has a hole where the borrowed bytes belong, and `lent` says where they lie in
the *base*, the elder's file, which gets a second name (a hard link) and lives as long as somebody borrows from it:

    <key>.grown      the body with a hole, then a footer: "GVGR", start, end, offset, size and inode of the base, CRC-32
    <key>.base       the base: byte p of the body, start <= p < end, is its byte p - start + offset

A body that grows out of a grown one borrows from the same base, and has the bytes since then copied; when those are no
little part any more all is copied, and the body stands by itself.
"""

import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from govc.cache.span import READ_BYTES

_FOOTER = struct.Struct(">4sQQQQQ")
_LINE = struct.Struct(">4s20s")
_CRC = struct.Struct(">I")
_GROWN_MAGIC, _LINE_MAGIC = b"GVGR", b"GVLN"
FOOTER_BYTES = _FOOTER.size + _CRC.size
LINE_BYTES_MAX = 16 << 20
OWN_SHARE = 2
"""A body borrows while what it borrows is at least so many times what it has of its own."""


class Lent(NamedTuple):
    """Bytes `start` to `end` of a body lie in its base from `offset` on. Nothing is lent: all 0."""

    start: int
    end: int
    offset: int


NOTHING_LENT = Lent(0, 0, 0)


class Whole:
    """A whole body, opened: its own file, and its base when it borrows. Files that lose their names stay readable."""

    def __init__(self, path: str, descriptor: int, size: int, lent: Lent = NOTHING_LENT, base: int = -1) -> None:
        self.path = path
        """Where the file lies whose bytes others may borrow: the base's, when there is one."""
        self.descriptor = descriptor
        self.size = size
        self.lent = lent
        self.base = base

    def iter_places(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (descriptor, offset, length) of where these bytes lie."""
        while start < end:
            descriptor, offset, length = place_at(self.lent, self.descriptor, self.base, start, end)
            yield descriptor, offset, length
            start += length

    def read(self, start: int, end: int) -> bytes:
        """Return these bytes. OSError when the files are shorter."""
        return b"".join(_read(*place) for place in self.iter_places(start, end))

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Read the bytes from `start` on that lie together, as many as the buffer takes; return how many. OSError."""
        end = min(start + len(buffer), self.size)
        descriptor, offset, length = place_at(self.lent, self.descriptor, self.base, start, end)
        count = os.preadv(descriptor, (buffer[:length],), offset)
        if not count:
            raise OSError(errno.EIO, "a cached body ends early")
        return count

    def close(self) -> None:
        """Let go of the files."""
        os.close(self.descriptor)
        if self.base >= 0:
            os.close(self.base)


class Elder(NamedTuple):
    """The last body of a line, and what its maker noted."""

    body: Whole
    note: bytes


class Borrowed:
    """A piece of a production: whole packets, which are bytes `start` to `end` of an older body, held open."""

    __slots__ = ("body", "end", "start")

    def __init__(self, body: Whole, start: int, end: int) -> None:
        self.body = body
        self.start = start
        self.end = end

    def __len__(self) -> int:
        return self.end - self.start


def place_at(lent: Lent, own: int, base: int, start: int, end: int) -> tuple[int, int, int]:
    """Return (descriptor, offset, length) of the first bytes of that stretch which lie together."""
    if lent.start <= start < lent.end:
        return base, start - lent.start + lent.offset, min(end, lent.end) - start
    return own, start, (min(end, lent.start) if start < lent.start else end) - start


def may_borrow(body: Whole) -> bool:
    """Tell whether a body that grows out of this one may borrow from it, or has all copied."""
    lent = body.lent.end - body.lent.start
    return body.base < 0 or lent >= (body.size - lent) * OWN_SHARE


def encode_footer(lent: Lent, base: int) -> bytes:
    """Return what stands behind the body in a `.grown` file. Raises OSError."""
    status = os.fstat(base)
    content = _FOOTER.pack(_GROWN_MAGIC, *lent, status.st_size, status.st_ino)
    return content + _CRC.pack(zlib.crc32(content))


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a file to read; return its descriptor and what it is. Never waits for who writes to a named pipe.

    Raises OSError for anything but a regular file: a link, a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", path)
    return descriptor, status


def open_grown(path: str, base_path: str) -> Whole | None:
    """Return a body that borrows; None when there is none, or its base isn't the one that it was made with."""
    opened: list[int] = []
    try:
        for name in (path, base_path):
            opened.append(open_regular(name)[0])
        size = os.fstat(opened[0]).st_size - FOOTER_BYTES
        footer = os.pread(opened[0], FOOTER_BYTES, max(size, 0))
        lent = _parse_footer(footer, os.fstat(opened[1]), size)
        if lent is not None:
            return Whole(base_path, opened[0], size, lent, opened[1])
    except OSError:
        pass  # gone, or on its way out
    for descriptor in opened:
        os.close(descriptor)
    return None


def _parse_footer(footer: bytes, base: os.stat_result, size: int) -> Lent | None:
    if len(footer) != FOOTER_BYTES or _CRC.unpack_from(footer, _FOOTER.size)[0] != zlib.crc32(footer[: _FOOTER.size]):
        return None
    magic, start, end, offset, base_size, inode = _FOOTER.unpack_from(footer)
    if magic != _GROWN_MAGIC or (base_size, inode) != (base.st_size, base.st_ino):
        return None
    if not 0 <= start <= end <= size or offset + end - start > base_size:
        return None
    return Lent(start, end, offset)


def encode_line(key: bytes, note: bytes) -> bytes:
    """Return the content of a `.line` file. `key`: 20 bytes."""
    content = _LINE.pack(_LINE_MAGIC, key) + note
    return content + _CRC.pack(zlib.crc32(content))


def read_line(path: str) -> tuple[bytes, bytes] | None:
    """Return the key and the note of a line; None when there is none, or its file is no good."""
    try:
        descriptor, status = open_regular(path)
        with open(descriptor, "rb", buffering=0) as file:
            # No memory is cleared that nothing is read into.
            content = file.read(min(status.st_size, LINE_BYTES_MAX) + 1)
    except OSError:
        return None
    end = len(content) - _CRC.size
    if end < _LINE.size or _CRC.unpack_from(content, end)[0] != zlib.crc32(content[:end]):
        return None
    magic, key = _LINE.unpack_from(content)
    return (key, content[_LINE.size : end]) if magic == _LINE_MAGIC else None


def link_same(path: str, descriptor: int, new_path: str) -> bool:
    """Give the file that is open a second name, by its first one; False when that isn't its name any more."""
    try:
        os.link(path, new_path, follow_symlinks=False)
    except OSError:
        return False
    with suppress(OSError):
        if os.path.samestat(os.stat(new_path, follow_symlinks=False), os.fstat(descriptor)):
            return True
    with suppress(OSError):
        os.unlink(new_path)
    return False


def _read(descriptor: int, offset: int, length: int) -> bytes:
    pieces = []
    while length:
        data = os.pread(descriptor, min(length, READ_BYTES), offset)
        if not data:
            raise OSError(errno.EIO, "a cached body ends early")
        pieces.append(data)
        offset += len(data)
        length -= len(data)
    return b"".join(pieces)
