"""zip as git writes it: every entry deflated when that makes it smaller, times as an extended timestamp.

    entries             local header (30)  path  extra fields  content  [data descriptor, when streamed]
    central directory   header (46) per entry  path  extra fields
    [zip64 end, locator]  end (22)  the commit's id as the archive's comment

What is streamed (core.bigFileThreshold) is not held in memory: its sizes and checksum follow the content. Names that
aren't ASCII carry the UTF-8 flag. Sizes, offsets and counts that don't fit go into zip64 fields.

Source: APPNOTE.TXT (zip format) 4.3 and 4.5, Info-ZIP "extended timestamp" 0x5455, git-archive.
"""

import struct
import time as clock
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from govc.archive.entries import LINK, REGULAR, ArchiveEntry
from govc.archive.options import ArchiveRefused

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<IIQI")
_TIMESTAMP = struct.Struct("<HHBI")
_EXTRA64 = struct.Struct("<HHQQ")
_U32_MAX = 0xFFFFFFFF
_STREAMED_LARGE = 0x7FFFFFFF
_PATH_BYTES_MAX = 0xFFFF
_STREAM_FLAG = 1 << 3
_UTF8_FLAG = 1 << 11
_STORE, _DEFLATE = 0, 8
_UNIX = 0x0317


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipSettings:
    """`time` is that of every entry; `comment` the commit's id in hex; `level` -1 to 9."""

    time: int
    level: int = -1
    comment: bytes = b""


class _Writer:
    def __init__(self, settings: ZipSettings) -> None:
        self._settings = settings
        self._offset = 0
        self._directory: list[bytes] = []
        self._creator_max = 0
        self._time, self._date = _dos_time(settings.time)
        self._stamp = _TIMESTAMP.pack(0x5455, 5, 1, settings.time & _U32_MAX)

    def entry(self, entry: ArchiveEntry) -> Iterator[bytes]:
        """Yield one entry, and note it for the directory."""
        if len(entry.path) > _PATH_BYTES_MAX:
            raise ArchiveRefused(f"path too long ({len(entry.path)} chars, SHA1: {entry.oid.hex()})")
        start = self._offset
        flags = 0 if entry.path.isascii() or not _is_utf8(entry.path) else _UTF8_FLAG
        streamed = entry.is_streamed
        method, crc, packed, size, content = _STORE, 0, 0, 0, b""
        if streamed:
            flags |= _STREAM_FLAG
            size = entry.size
            method = _STORE if self._settings.level == 0 else _DEFLATE
            packed = size if method == _STORE else 0
        elif entry.kind in (REGULAR, LINK):
            content = b"".join(entry.chunks())
            crc, size = zlib.crc32(content), len(content)
            if entry.kind == REGULAR and self._settings.level != 0 and size:
                deflated = _deflate(content, self._settings.level)
                if len(deflated) < size:
                    method, content = _DEFLATE, deflated
            packed = len(content)
        is_large = size > _U32_MAX or packed > _U32_MAX or (streamed and size > _STREAMED_LARGE)
        version = 45 if is_large else 10
        extra = self._stamp + (_EXTRA64.pack(1, 16, size, packed) if is_large else b"")
        shown = (_U32_MAX, _U32_MAX) if is_large else (packed, size)
        head = _LOCAL.pack(
            0x04034B50, version, flags, method, self._time, self._date, crc, *shown, len(entry.path), len(extra)
        )
        yield self._count(head + entry.path + extra)
        if streamed:
            crc, packed = yield from self._stream(entry, method)
        elif content:
            yield self._count(content)
        self._note(entry, start, flags, method, version, crc, packed, size)

    def _stream(self, entry: ArchiveEntry, method: int) -> Generator[bytes, None, tuple[int, int]]:
        crc, packed = 0, 0
        deflater = zlib.compressobj(self._settings.level, zlib.DEFLATED, -zlib.MAX_WBITS)
        for chunk in entry.chunks():
            crc = zlib.crc32(chunk, crc)
            piece = chunk if method == _STORE else deflater.compress(chunk)
            packed += len(piece)
            yield self._count(piece)
        if method == _DEFLATE:
            piece = deflater.flush()
            packed += len(piece)
            yield self._count(piece)
        form = "<IIQQ" if max(packed, entry.size) >= _U32_MAX else "<IIII"
        yield self._count(struct.pack(form, 0x08074B50, crc, packed, entry.size))
        return crc, packed

    def _note(
        self, entry: ArchiveEntry, start: int, flags: int, method: int, version: int, crc: int, packed: int, size: int
    ) -> None:
        creator, attributes, text = 0, 16, False
        if entry.kind == LINK:
            creator, attributes = _UNIX, (entry.mode | 0o777) << 16
            text = not entry.is_binary()
        elif entry.kind == REGULAR:
            creator, attributes = (_UNIX, entry.mode << 16) if entry.mode & 0o111 else (0, 0)
            text = not entry.is_binary()
        self._creator_max = max(self._creator_max, creator)
        extra = self._stamp
        large = b"".join(struct.pack("<Q", number) for number in (size, packed, start) if number >= _U32_MAX)
        if max(size, packed, start) > _U32_MAX:
            extra += struct.pack("<HH", 1, len(large)) + large
        self._directory.append(
            _CENTRAL.pack(
                0x02014B50,
                creator,
                version,
                flags,
                method,
                self._time,
                self._date,
                crc,
                min(packed, _U32_MAX),
                min(size, _U32_MAX),
                len(entry.path),
                len(extra),
                0,
                0,
                int(text),
                attributes,
                min(start, _U32_MAX),
            )
            + entry.path
            + extra
        )

    def end(self) -> Iterator[bytes]:
        """Yield the central directory and what closes the archive."""
        start, count = self._offset, len(self._directory)
        for head in self._directory:
            yield self._count(head)
        size = self._offset - start
        if count > 0xFFFF or start > _U32_MAX:
            yield _END64.pack(0x06064B50, 44, self._creator_max, 45, 0, 0, count, count, size, start)
            yield _LOCATOR64.pack(0x07064B50, 0, start + size, 1)
        shown = min(count, 0xFFFF)
        comment = self._settings.comment
        yield _END.pack(0x06054B50, 0, 0, shown, shown, size, min(start, _U32_MAX), len(comment)) + comment

    def _count(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data


def write_zip(entries: Iterable[ArchiveEntry], settings: ZipSettings) -> Iterator[bytes]:
    """Yield the archive in pieces. Raises ArchiveRefused for a path that no zip can hold."""
    writer = _Writer(settings)
    for entry in entries:
        yield from writer.entry(entry)
    yield from writer.end()


def _deflate(content: bytes, level: int) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _dos_time(seconds: int) -> tuple[int, int]:
    """Return (time, date) as DOS had them: two-second steps, years from 1980, in the server's own zone."""
    try:
        moment = clock.localtime(seconds)
    except (OverflowError, ValueError, OSError) as error:
        raise ArchiveRefused(f"timestamp too large for this system: {seconds}") from error
    date = moment.tm_mday + moment.tm_mon * 32 + (moment.tm_year - 1980) * 512
    return moment.tm_sec // 2 + moment.tm_min * 32 + moment.tm_hour * 2048, date & 0xFFFF
