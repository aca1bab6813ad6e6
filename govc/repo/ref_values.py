"""What the log says the refs are: the checkpoint's table, its changes, and the records since.

A writer compares that with what it finds under its locks: a difference is somebody else's doing (plain git), and is
recorded as observed before our own change. So the log has no unmarked gap.

The table is a file of `<oid hex> <refname>` lines in byte order, as in packed-refs, mapped and bisected: a repository
of a million refs costs nothing until it is looked at. It is ours alone, and replaced by a rename only.
"""

import copy
import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator

from govc.kernels.guard import FileMap, map_file
from govc.protocol.oid import HashAlgorithm
from govc.wal.checkpoint import Checkpoint
from govc.wal.errors import LogDamaged
from govc.wal.record import Kind, Record

_LF = 10
_CHUNK_LINES = 1000


class RefTableFile:
    """All refs at one checkpoint, on disk."""

    def __init__(self, path: str, algo: HashAlgorithm) -> None:
        """Map the file. OSError."""
        self._algo = algo
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            self._data: FileMap | bytes = map_file(path, descriptor, size) if size else b""
        finally:
            os.close(descriptor)

    def find(self, name: bytes) -> bytes | None:
        """Return the oid of a ref, None when it isn't there."""
        data, skip = self._data, self._algo.hex_size + 1
        low, high = 0, len(data)
        while low < high:
            middle = (low + high) // 2
            start = data.rfind(b"\n", low, middle) + 1 or low
            end = data.find(b"\n", middle)
            if end < 0:
                end = high
            found = data[start + skip : end]
            if found == name:
                return self._algo.parse_hex(data[start : start + skip - 1])
            if found < name:
                low = end + 1
            else:
                high = start
        return None

    def __len__(self) -> int:
        """Return how many refs there are, read off the number of lines."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        data, hex_size = self._data, self._algo.hex_size
        position = 0
        while position < len(data):
            end = data.find(b"\n", position)
            oid = self._algo.parse_hex(data[position : position + hex_size])
            if oid is None or end < 0:
                return
            yield data[position + hex_size + 1 : end], oid
            position = end + 1

    def checksum(self) -> bytes:
        """Return the SHA-256 of the file."""
        return hashlib.sha256(self._data).digest()


def encode_table(refs: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the chunks of a table file; `refs` are (name, oid) in byte order of the names."""
    lines: list[bytes] = []
    for name, oid in refs:
        lines.append(b"%b %b\n" % (oid.hex().encode("ascii"), name))
        if len(lines) >= _CHUNK_LINES:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def table_path(root: str, sequence: int) -> str:
    """Return the path of a table file; `root` is `<commondir>/govc`."""
    return f"{root}/refs-{sequence}"


class LoggedRefs:
    """The refs as the log knows them, up to the record `sequence`. `value` is all zeros for a ref that isn't there."""

    def __init__(self, root: str, checkpoint: Checkpoint | None, algo: HashAlgorithm) -> None:
        """Start from a checkpoint (None: nothing is known). Raises LogDamaged when its table is missing."""
        self._zero = algo.zero
        self.sequence = checkpoint.position.sequence if checkpoint is not None else 0
        self._changes = dict(checkpoint.changes) if checkpoint is not None else {}
        self._table: RefTableFile | None = None
        if checkpoint is not None:
            path = table_path(root, checkpoint.table_sequence)
            try:
                self._table = RefTableFile(path, algo)
            except FileNotFoundError as error:
                raise LogDamaged(path, 0, "the checkpoint's table of refs is missing") from error
        self._voided: dict[int, dict[bytes, bytes]] = {}

    def copy(self) -> "LoggedRefs":
        """Return what is known now; it takes in no more records."""
        other = copy.copy(self)
        other._changes = dict(self._changes)
        return other

    @property
    def table(self) -> RefTableFile | None:
        """The table below the changes."""
        return self._table

    @property
    def table_count(self) -> int:
        """About how many refs the table has, by its size."""
        return len(self._table) if self._table is not None else 0

    def iter_values(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (name, oid) of every ref that the log knows of; zeros for one that is gone."""
        if self._table is not None:
            for name, oid in self._table:
                if name not in self._changes:
                    yield name, oid
        for name, oid in self._changes.items():
            yield name, oid or self._zero

    def iter_present(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (name, oid) of the refs that are there, in byte order."""
        present = sorted((name, oid) for name, oid in self._changes.items() if oid)
        untouched = ((name, oid) for name, oid in self._table or () if name not in self._changes)
        return heapq.merge(untouched, present)

    @property
    def changes(self) -> dict[bytes, bytes]:
        """What differs from the table, b"" for a ref that is gone."""
        return self._changes

    def value(self, name: bytes) -> bytes:
        """Return the last value that the log knows of a ref."""
        known = self._changes.get(name)
        if known is None and self._table is not None:
            known = self._table.find(name)
        return known or self._zero

    def note(self, record: Record) -> None:
        """Take in one more record, in order."""
        self.sequence = record.sequence
        if record.kind is Kind.VOID:
            for name, old in self._voided.pop(record.draft.number, {}).items():
                self._changes[name] = old
            return
        if record.kind is Kind.CHANGE:
            self._voided = {record.sequence: {c.name: self._stored(c.old) for c in record.draft.refs}} | {
                number: olds for number, olds in self._voided.items() if number > record.sequence - 64
            }
        for change in record.draft.refs:
            self._changes[change.name] = self._stored(change.new)

    def _stored(self, oid: bytes) -> bytes:
        return b"" if oid == self._zero else oid
