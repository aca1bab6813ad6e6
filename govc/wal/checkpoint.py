"""The checkpoint: up to which record the native repository is durable, and what its refs were then.

    govc/checkpoint        magic "GOVCCKPT", format (1), fields as in a record, SHA-256
    govc/refs-<number>     all refs at that record, in the form of packed-refs (see `repo.checkpointing`)

The refs of a checkpoint are the table file that it names, with the changes that it lists on top: so a checkpoint costs
what changed, and the table is written anew only when the changes have become many. They are kept because plain git
syncs neither refs nor folders by default: a `git pack-refs` after our checkpoint can lose refs that we had made safe.

Written to a temporary file, synced, renamed, the folder synced: there is always a whole one.
"""

import hashlib
import os
import struct
from dataclasses import dataclass, field

from govc import disk
from govc.wal.errors import LogDamaged, LogForeign
from govc.wal.reader import Position

MAGIC = b"GOVCCKPT"
VERSION = 1
_HEAD = struct.Struct(">8sH6xQQQ32s16s16sqQ32sIII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint. `changes`: refs that differ from the table, b"" as value for one that isn't there any more.

    `packs` are the names (without suffix) of the packs that were durable in objects/pack; `head` is what HEAD said.
    `packed_mark` is what packed-refs is known by, or the list of reftables (b"": nothing); `loose` are the refs
    that had a file of their own.
    """

    position: Position
    log_id: bytes
    boot: bytes
    time_ns: int
    table_sequence: int
    table_checksum: bytes
    changes: dict[bytes, bytes] = field(default_factory=dict)
    packs: tuple[bytes, ...] = ()
    head: bytes = b""
    packed_mark: bytes = b""
    loose: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        position = self.position
        head = _HEAD.pack(
            MAGIC,
            VERSION,
            position.sequence,
            position.ordinal,
            position.offset,
            position.checksum,
            self.log_id,
            self.boot,
            self.time_ns,
            self.table_sequence,
            self.table_checksum,
            len(self.changes),
            len(self.packs),
            len(self.head),
        )
        pieces = [head, self.head]
        for name, value in sorted(self.changes.items()):
            pieces.append(struct.pack(">BH", len(value), len(name)) + value + name)
        for pack in self.packs:
            pieces.append(struct.pack(">H", len(pack)) + pack)
        if self.packed_mark:
            pieces.append(struct.pack(">HI", len(self.packed_mark), len(self.loose)) + self.packed_mark)
            pieces += [struct.pack(">H", len(name)) + name for name in self.loose]
        body = b"".join(pieces)
        return body + hashlib.sha256(body).digest()


def decode_checkpoint(data: bytes, path: str) -> Checkpoint:
    """Return the checkpoint. Raises LogDamaged, LogForeign."""
    body = data[:-32]
    if len(body) < _HEAD.size or body[:8] != MAGIC or hashlib.sha256(body).digest() != data[-32:]:
        raise LogDamaged(path, 0, "the checkpoint's checksum is wrong")
    values = _HEAD.unpack_from(body)
    _, version, sequence, ordinal, offset, checksum, log_id, boot, time_ns, table, table_sum, *counts = values
    if version != VERSION:
        raise LogForeign(path, f"checkpoint format {version} is of a newer govc")
    try:
        head, changes, packs, packed_mark, loose = _decode_lists(body, *counts)
    except struct.error as error:
        raise LogDamaged(path, 0, "the checkpoint's counts and its content differ") from error
    return Checkpoint(
        position=Position(ordinal, offset, sequence, checksum),
        log_id=log_id,
        boot=boot,
        time_ns=time_ns,
        table_sequence=table,
        table_checksum=table_sum,
        changes=changes,
        packs=packs,
        head=head,
        packed_mark=packed_mark,
        loose=loose,
    )


def _decode_lists(
    body: bytes, change_count: int, pack_count: int, head_size: int
) -> tuple[bytes, dict[bytes, bytes], tuple[bytes, ...], bytes, tuple[bytes, ...]]:
    """Return HEAD, changes, packs, mark and loose refs. Raises struct.error when they aren't exactly what is there."""
    at = _HEAD.size

    def take(size: int) -> bytes:
        nonlocal at
        piece = body[at : at + size]
        if len(piece) != size:
            raise struct.error("cut short")
        at += size
        return piece

    head = take(head_size)
    changes: dict[bytes, bytes] = {}
    for _ in range(change_count):
        value_size, name_size = struct.unpack(">BH", take(3))
        value = take(value_size)
        changes[take(name_size)] = value
    packs = tuple(take(int.from_bytes(take(2), "big")) for _ in range(pack_count))
    packed_mark = b""
    loose: tuple[bytes, ...] = ()
    if at < len(body):
        mark_size, loose_count = struct.unpack(">HI", take(6))
        if not mark_size:
            raise struct.error("refs without the mark that they belong to")
        packed_mark = take(mark_size)
        loose = tuple(take(int.from_bytes(take(2), "big")) for _ in range(loose_count))
    if at != len(body):
        raise struct.error("something follows")
    return head, changes, packs, packed_mark, loose


def read_checkpoint(path: str) -> Checkpoint | None:
    """Return the checkpoint in a file, None when there is none. Raises LogDamaged, LogForeign, OSError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return decode_checkpoint(data, path)


def write_checkpoint(path: str, checkpoint: Checkpoint, *, mode: int) -> None:
    """Put a checkpoint in place, durably. OSError; then the old one stands."""
    replace_synced(path, checkpoint.encode(), mode=mode)


def replace_synced(path: str, content: bytes, *, mode: int) -> None:
    """Write a file whole, durably, in place of what is there. OSError; then the old one stands."""
    temporary = f"{path}.new"
    descriptor = disk.open_with_mode(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        disk.write_all(descriptor, content)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    disk.sync_folder(os.path.dirname(path))
