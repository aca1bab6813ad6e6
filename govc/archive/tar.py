"""tar as git writes it, byte for byte: ustar headers, with pax records for what doesn't fit.

    [global pax header: the commit's id as a comment]  entries  two or more empty records up to a block of 10240 bytes

    entry   [pax header  records]  header (512)  content, padded to 512

A path of more than 100 bytes is split at a slash into prefix (155) and name (100); when that isn't possible it goes
into a pax record, and so do links of more than 100 bytes, and sizes beyond 8 GiB. Owners are root, times the commit's.

Source: git-archive, POSIX pax "ustar Interchange Format" and "pax Extended Header".
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from govc.archive.entries import LINK, REGULAR, ArchiveEntry

RECORD_BYTES = 512
BLOCK_BYTES = 20 * RECORD_BYTES
NUMBER_MAX = 0o77777777777
DEFAULT_UMASK = 0o002

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_NAME_BYTES = _LINK_BYTES = 100
_PREFIX_BYTES = 155
_EXTENDED_MODE = 0o100666


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSettings:
    """`time` is that of every entry, in seconds; `comment` the commit's id in hex (b"" for none)."""

    time: int
    umask: int = DEFAULT_UMASK
    comment: bytes = b""


def write_tar(entries: Iterable[ArchiveEntry], settings: TarSettings) -> Iterator[bytes]:
    """Yield the archive in pieces."""
    written = 0
    for piece in _iter_pieces(entries, settings):
        written += len(piece)
        yield piece
    # At least two records of zeros, and never a broken block.
    fill = -written % BLOCK_BYTES or BLOCK_BYTES
    yield bytes(fill if fill >= 2 * RECORD_BYTES else fill + BLOCK_BYTES)


def _iter_pieces(entries: Iterable[ArchiveEntry], settings: TarSettings) -> Iterator[bytes]:
    records = _pax_record(b"comment", settings.comment) if settings.comment else b""
    time = settings.time
    if time > NUMBER_MAX:
        records += _pax_record(b"mtime", b"%d" % time)
        time = NUMBER_MAX
    if records:
        yield _header(b"pax_global_header", _EXTENDED_MODE, len(records), time, b"g")
        yield _padded(records)
    for entry in entries:
        yield from _iter_entry(entry, settings.umask, time)


def _iter_entry(entry: ArchiveEntry, umask: int, time: int) -> Iterator[bytes]:
    oid_hex = entry.oid.hex().encode("ascii")
    records = b""
    prefix, name = _split_path(entry.path)
    if name is None:
        prefix, name = b"", oid_hex + b".data"
        records += _pax_record(b"path", entry.path)
    link, kind, size = b"", b"5", 0
    mode = (entry.mode | 0o777) & ~umask
    if entry.kind == LINK:
        kind, mode, link = b"2", entry.mode | 0o777, b"".join(entry.chunks())
        if len(link) > _LINK_BYTES:
            records += _pax_record(b"linkpath", link)
            link = b"see " + oid_hex + b".paxheader"
    elif entry.kind == REGULAR:
        kind, size = b"0", entry.size
        mode = (entry.mode | (0o777 if entry.mode & 0o100 else 0o666)) & ~umask
        if size > NUMBER_MAX:
            records += _pax_record(b"size", b"%d" % size)
            size = 0
    if records:
        yield _header(oid_hex + b".paxheader", _EXTENDED_MODE, len(records), time, b"x")
        yield _padded(records)
    yield _header(name, mode, size, time, kind, prefix=prefix, link=link)
    if entry.kind == REGULAR:
        yield from entry.chunks()
        yield bytes(-entry.size % RECORD_BYTES)


def _split_path(path: bytes) -> tuple[bytes, bytes | None]:
    """Return (prefix, name); name None when the path can't be split so that both fit."""
    if len(path) <= _NAME_BYTES:
        return b"", path
    end = min(len(path) - 1 if path.endswith(b"/") else len(path), _PREFIX_BYTES)
    cut = path.rfind(b"/", 0, end)
    if cut <= 0 or len(path) - cut - 1 > _NAME_BYTES:
        return b"", None
    return path[:cut], path[cut + 1 :]


def _header(
    name: bytes, mode: int, size: int, time: int, kind: bytes, *, prefix: bytes = b"", link: bytes = b""
) -> bytes:
    fields = [
        name,
        b"%07o" % (mode & 0o7777),
        b"%07o" % 0,
        b"%07o" % 0,
        b"%011o" % size,
        b"%011o" % (time % (1 << 64)),
        b" " * 8,
        kind,
        link,
        b"ustar",
        b"00",
        b"root",
        b"root",
        b"%07o" % 0,
        b"%07o" % 0,
        prefix,
    ]
    fields[6] = b"%07o" % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields)


def _pax_record(keyword: bytes, value: bytes) -> bytes:
    """Return `LENGTH SP keyword = value LF`, where LENGTH counts itself."""
    rest = b" %b=%b\n" % (keyword, value)
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return b"%d" % length + rest


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % RECORD_BYTES)
