"""Putting a file of git's in its place: written beside it, whole, synced (git believes what it finds), then renamed.

A temporary file has a name that git's own `prune` and our maintenance remove when it is old: what a kill leaves of it
goes as others do.
"""

import logging
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress

from govc import disk
from govc.odb.modes import FileModes

log = logging.getLogger(__name__)


def write_temporary(objects_dir: str, name: str, pieces: Iterable[bytes], modes: FileModes) -> str:
    """Write a file in the folder of packs and return its path; nothing of it stays when that fails. OSError."""
    path = f"{objects_dir}/pack/tmp_{name}_{secrets.token_hex(8)}"
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    try:
        try:
            for piece in pieces:
                disk.write_all(descriptor, piece)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        modes.adjust(path)
    except BaseException:
        with suppress(FileNotFoundError):
            disk.unlink(path)
        raise
    return path


def replace_locked(path: str, objects_dir: str, pieces: Iterable[bytes], modes: FileModes) -> bool:
    """Put a file in place under git's lock for it; False when somebody else holds that. OSError.

    It is whole before it becomes the lock, and is renamed at once: writing takes its time, and who is killed with the
    lock in hand leaves one that nobody dares to remove.
    """
    lock = f"{path}.lock"
    temporary = write_temporary(objects_dir, os.path.basename(path), pieces, modes)
    try:
        disk.rename_new(temporary, lock)
    except FileExistsError:
        log.info("%s: somebody else is writing it", path)
        disk.unlink(temporary)
        return False
    disk.rename(lock, path)
    return True
