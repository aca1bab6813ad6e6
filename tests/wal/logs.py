"""A log in a temporary folder, for the tests of this room."""

import os

from govc.protocol.oid import SHA1
from govc.wal.flock import Flocked
from govc.wal.log import Log, LogOptions
from govc.wal.place import LogFolder, LogHome
from govc.wal.reader import LogReader, Position
from govc.wal.record import GENESIS, Draft, Kind, RefChange


def make_folder(path):
    folder = LogFolder(str(path / "govc"))
    for name in (folder.root, folder.locks, folder.packs):
        os.makedirs(name, exist_ok=True)
    return folder


def open_log(folder, **options):
    return Log(folder, LogHome(SHA1, 1), LogOptions(**{"segment_bytes_min": 16384, **options}))


def start(log):
    with log.append_lock():
        log.start(Position(0, 0, 0, GENESIS), b"i" * 16)
    return log


def change(text, size=0):
    refs = (RefChange(b"refs/heads/" + text.encode(), bytes(20), b"\x01" * 20),)
    return Draft(kind=Kind.CHANGE, refs=refs, packs=(b"p" * size,) if size else ())


def append(log, *drafts):
    with log.append_lock():
        return log.append(drafts)


def read(folder, **options):
    """The records that are there, as (sequence, first ref's name)."""
    reader = LogReader(folder.segments, **options)
    found = [
        (one.record.sequence, one.record.draft.refs[0].name.decode()[11:] if one.record.draft.refs else "")
        for one in reader
    ]
    return found, reader


__all__ = ["Flocked", "Kind", "append", "change", "make_folder", "open_log", "read", "start"]
