"""Completing a thin pack: the bases that it lacks are appended to it, as `git index-pack --fix-thin` does.

A ref-delta whose base isn't in the pack stays over after the second pass. One by one, in the order of the file, the
bases are read from where they are, checked, written behind the last entry, and what stands on them is resolved: what
became known that way isn't asked for any more. Then the header's count and the trailer are written anew.

Source: git's builtin/index-pack.c fix_unresolved_deltas, append_obj_to_pack.
"""

import os
import zlib
from collections.abc import Callable, Iterator

from govc.errors import CorruptPack, LimitExceeded
from govc.objects.types import hash_object
from govc.pack.entry import encode_entry_header
from govc.pack.format import encode_pack_header
from govc.pack.scanner import WINDOW_BYTES
from govc.pack.tables import EntryTable

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

_LEVEL = 1
"""As git's zlib_compression_level, by which it makes the same bytes: the bases are copies of what is there already."""

Reader = Callable[[bytes], tuple[int, bytes] | None]
"""Takes an oid; returns type (1 to 4) and content, or None when there is no such object."""


class Resolver(Protocol):
    """The second pass, as far as it can go on."""

    def iter_missing_bases(self) -> Iterator[bytes]:
        """Yield the names that unresolved ref-deltas wait for."""

    def resolve_from(self, root: int, content: bytes) -> None:
        """Resolve everything that stands on the whole object of entry `root`."""


def _append_base(fd: int, table: EntryTable, at: int, type_number: int, oid: bytes, content: bytes) -> int:
    """Write a whole object at `at`, where the entries end, and add its row; return the entry."""
    raw = encode_entry_header(type_number, len(content)) + zlib.compress(content, _LEVEL)
    view = memoryview(raw)
    end = at + len(raw)
    while view:
        view = view[os.pwrite(fd, view, end - len(view)) :]
    return table.append(end, zlib.crc32(raw), type_number, oid)


def complete_thin_pack(
    fd: int, table: EntryTable, resolver: Resolver, base_reader: Reader, *, base_bytes_max: int
) -> bytes | None:
    """Append the bases that the pack lacks, resolve what stands on them; return the new checksum, if any.

    Raises LimitExceeded for a base of more than `base_bytes_max`: it is held in memory, as those that came are.
    """
    received = table.count
    for oid in resolver.iter_missing_bases():
        found = base_reader(oid)
        if found is None:
            continue
        type_number, content = found
        if len(content) > base_bytes_max:
            raise LimitExceeded("object bytes in memory", base_bytes_max, len(content))
        if hash_object(table.algo, type_number, content) != oid:
            raise CorruptPack(f"base {oid.hex()} is corrupt")
        base = _append_base(fd, table, table.offsets[table.count], type_number, oid, content)
        resolver.resolve_from(base, content)
    return _rewrite_frame(fd, table) if table.count > received else None


def _rewrite_frame(fd: int, table: EntryTable) -> bytes:
    """Write the header's count and the trailer anew; return the checksum."""
    end = table.offsets[table.count]
    os.pwrite(fd, encode_pack_header(table.count), 0)
    hasher = table.algo.new()
    for at in range(0, end, WINDOW_BYTES):
        hasher.update(os.pread(fd, min(WINDOW_BYTES, end - at), at))
    checksum = hasher.digest()
    os.pwrite(fd, checksum, end)
    os.ftruncate(fd, end + len(checksum))
    return checksum
