"""The files that records lie in: `govc/log/<ordinal>.seg`.

      0   8  magic "GOVCLOG\\0"
      8   2  version of the segment format (1)
     10   1  object format: 1 SHA-1, 2 SHA-256
     11   1  1 when the segment before it ended in a failed sync
     12   4  zero
     16  16  id of the log, random
     32   8  inode of the repository's folder: a copied folder has another
     40   8  salt
     48   8  ordinal of the file
     56   8  sequence number of the first record
     64   8  size of the file in bytes
     72   8  time, nanoseconds since 1970
     80  32  checksum of the record before the first (the chain goes on)
    112  32  SHA-256 of the 112 bytes before
    144 ...  zero up to byte 512, where records begin, one after the other

A segment is written full of zeros and synced before it gets its name, so that a sync of a record costs no journal
commit of the file system. Records never cross segments; what is left over stays zero. The last RESERVE_BYTES are for
records that must not fail for lack of space: void records and the end record.

When `continues` is set, what the segment before it holds from `first_sequence` on is void: its sync failed, and nothing
tells what of it is on the disk.
"""

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from typing import Final

from govc import disk
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from govc.wal.errors import LogForeign

MAGIC = b"GOVCLOG\0"
VERSION = 1
HEADER_BYTES = 512
RESERVE_BYTES = 4096
SEGMENT_BYTES_MIN = 256 << 10
SEGMENT_BYTES_MAX = 16 << 20

_HEADER = struct.Struct(">8sHBBI16sQ8sQQQq32s")
_NAME = re.compile(r"([0-9]{12})\.seg")
_ZEROS: Final = bytes(64 << 10)
_FORMATS = {1: SHA1, 2: SHA256}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """What the head of a segment says."""

    algo: HashAlgorithm
    log_id: bytes
    inode: int
    salt: bytes
    ordinal: int
    first_sequence: int
    size: int
    time_ns: int
    previous: bytes
    continues: bool = False

    def encode(self) -> bytes:
        """Return the HEADER_BYTES that a file begins with."""
        packed = _HEADER.pack(
            MAGIC,
            VERSION,
            1 if self.algo is SHA1 else 2,
            int(self.continues),
            0,
            self.log_id,
            self.inode,
            self.salt,
            self.ordinal,
            self.first_sequence,
            self.size,
            self.time_ns,
            self.previous,
        )
        return (packed + hashlib.sha256(packed).digest()).ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes, path: str) -> SegmentHeader | None:
    """Return the header, None when its bytes are damaged. Raises LogForeign for a newer format."""
    if len(data) < _HEADER.size + 32:
        return None
    packed = data[: _HEADER.size]
    if hashlib.sha256(packed).digest() != data[_HEADER.size : _HEADER.size + 32] or packed[:8] != MAGIC:
        return None
    _, version, algo, continues, _, log_id, inode, salt, ordinal, first, size, time_ns, previous = _HEADER.unpack(
        packed
    )
    if version != VERSION or algo not in _FORMATS:
        raise LogForeign(path, f"segment format {version} is of a newer govc: upgrade, or go back with that version")
    return SegmentHeader(
        algo=_FORMATS[algo],
        log_id=log_id,
        inode=inode,
        salt=salt,
        ordinal=ordinal,
        first_sequence=first,
        size=size,
        time_ns=time_ns,
        previous=previous,
        continues=bool(continues),
    )


def segment_path(folder: str, ordinal: int) -> str:
    """Return the path of a segment; `folder` is govc/log."""
    return f"{folder}/{ordinal:012d}.seg"


def list_segments(folder: str) -> list[int]:
    """Return the ordinals of the segments there, in order; [] when there is no folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def read_header(folder: str, ordinal: int) -> SegmentHeader | None:
    """Return a segment's header, None when it is damaged. Raises OSError, LogForeign."""
    path = segment_path(folder, ordinal)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = decode_header(os.pread(descriptor, HEADER_BYTES, 0), path)
    finally:
        os.close(descriptor)
    return header if header is not None and header.ordinal == ordinal else None


def create_segment(folder: str, header: SegmentHeader, *, mode: int) -> None:
    """Make a segment: zeros, header, sync, name, sync of the folder. Raises OSError; then there is none."""
    path = segment_path(folder, header.ordinal)
    temporary = f"{path}.new"
    descriptor = disk.open_with_mode(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        disk.pwrite_all(descriptor, header.encode(), 0)
        offset = HEADER_BYTES
        while offset < header.size:
            disk.pwrite_all(descriptor, _ZEROS[: header.size - offset], offset)
            offset += len(_ZEROS)
        disk.sync(descriptor)
    except OSError:
        disk.unlink(temporary)
        raise
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    disk.sync_folder(folder)
