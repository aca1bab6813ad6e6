"""Looking at a log without touching it: its records as plain values, and whether it is sound.

Source: docs/formats/log.md.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from govc.repo.recovery import log_folder
from govc.wal.boot import boot_id
from govc.wal.checkpoint import Checkpoint, read_checkpoint
from govc.wal.errors import LogError
from govc.wal.place import LogFolder
from govc.wal.reader import Located, LogEnd, LogReader
from govc.wal.segment import list_segments, read_header
from govc.wal.state import peek_tail

_TRIES = 100


@dataclass(kw_only=True)
class LogView:
    """What a log is: `damage` "" when it is sound. `torn_bytes` behind the tail were never acknowledged."""

    records: int = 0
    last: int = 0
    segments: int = 0
    checkpoint: int = 0
    published: int | None = None
    torn_bytes: int = 0
    damage: str = ""
    notes: list[str] = field(default_factory=list)


def iter_located(commondir: str, view: LogView) -> Iterator[Located]:
    """Yield the records that are still there, oldest first, filling `view` on the way. Raises OSError."""
    folder = log_folder(commondir)
    reader = _begin(folder, view)
    retired = 0
    while True:
        try:
            for located in reader:
                if located.record.sequence > view.last:
                    view.records += 1
                    view.last = located.record.sequence
                    yield located
            break
        except FileNotFoundError:  # a checkpoint has retired a segment since they were listed
            retired += 1
            if retired >= _TRIES:
                raise
            reader = _begin(folder, view)
        except LogError as error:
            view.damage = view.damage or str(error)
            return
    if reader.damage is not None:
        view.damage = str(reader.damage)
    _look_at_end(reader.end, view)
    tail = peek_tail(folder.state, boot_id())
    view.published = tail.published if tail is not None else None
    if tail is None and os.path.isdir(folder.segments):
        view.notes.append("the machine was restarted since the last push: the next request recovers")


def _begin(folder: LogFolder, view: LogView) -> LogReader:
    checkpoint = _checkpoint(folder.checkpoint, view)
    view.checkpoint = checkpoint.position.sequence if checkpoint is not None else 0
    view.segments = len(list_segments(folder.segments))
    return LogReader(folder.segments, durable=view.checkpoint, strict=False)


def _checkpoint(path: str, view: LogView) -> Checkpoint | None:
    try:
        return read_checkpoint(path)
    except LogError as error:
        view.damage = str(error)
        return None


def _look_at_end(end: LogEnd | None, view: LogView) -> None:
    if end is not None:
        view.torn_bytes = end.torn_bytes


def verify(commondir: str) -> LogView:
    """Read the whole log and say what it is. Raises OSError."""
    view = LogView()
    for _ in iter_located(commondir, view):
        continue
    inode = os.stat(commondir).st_ino
    folder = log_folder(commondir).segments
    for ordinal in list_segments(folder):
        header = None
        with suppress(FileNotFoundError):  # retired since it was listed
            header = read_header(folder, ordinal)
        if header is not None and header.inode != inode:
            view.notes.append("the log was made for another folder: this is a copy, or a backup that was restored")
            break
    return view


def describe_record(located: Located) -> dict[str, Any]:
    """Return a record as plain values, for people and for JSON. Oids are hex, packs are told by their size."""
    record, draft = located.record, located.record.draft
    described: dict[str, Any] = {
        "sequence": record.sequence,
        "kind": record.kind.name.lower(),
        "time_ns": record.time_ns,
        "segment": located.ordinal,
        "offset": located.offset,
        "bytes": record.size,
        "durable": record.durable,
        "writer": record.writer.hex(),
        "checksum": record.checksum.hex(),
        "previous": record.previous.hex(),
    }
    for name in ("actor", "address", "request_id"):
        if getattr(draft, name):
            described[name] = getattr(draft, name)
    for name in ("committer", "message"):
        if getattr(draft, name):
            described[name] = _shown(getattr(draft, name))
    if draft.refs:
        described["refs"] = [
            {"name": _shown(name), "old": old.hex(), "new": new.hex()} for name, old, new in draft.refs
        ]
    if draft.symrefs:
        described["symrefs"] = [
            {"name": _shown(name), "old": _shown(old), "new": _shown(new)} for name, old, new in draft.symrefs
        ]
    if draft.packs or draft.pack_references:
        described["packs"] = [{"inline": True, "bytes": len(pack)} for pack in draft.packs] + [
            {"checksum": one.checksum.hex(), "bytes": one.length, "objects": one.object_count}
            for one in draft.pack_references
        ]
    if draft.loose_objects:
        described["loose_objects"] = [oid.hex() for oid, _ in draft.loose_objects]
    if draft.shallow:
        described["shallow"] = [oid.hex() for oid in draft.shallow]
    if draft.push_options:
        described["push_options"] = [_shown(option) for option in draft.push_options]
    if draft.certificate:
        described["certificate_bytes"] = len(draft.certificate)
    if draft.number:
        described["number"] = draft.number
    return described


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
