"""Small steps with files that the room's writers share: private temporary names, exclusive placing,
syncing.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from govc import disk
from govc.odb.modes import FileModes

_ATTEMPTS = 100
_FOLDER_ATTEMPTS = 10

_Result = TypeVar("_Result")


def random_suffix() -> str:
    """Return random letters and digits, as mkstemp's names end."""
    return os.urandom(4).hex()


def create_temporary(directory: str, prefix: str, mode: int) -> tuple[int, str]:
    """Create a new file for writing and return (descriptor, path). The umask applies to `mode`, as it does
    in git.
    """
    for _ in range(_ATTEMPTS):
        path = f"{directory}/{prefix}{random_suffix()}"
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), path
    raise FileExistsError(f"{directory}: no free name for {prefix}*")


def within_folder(folder: str, modes: FileModes, step: Callable[[], _Result]) -> _Result:
    """Make a folder of loose objects unless it is there, and return what `step` does in it. OSError.

    Once more when plain git (prune, prune-packed, gc) has removed the empty folder in between, as git itself does.
    """
    for _ in range(_FOLDER_ATTEMPTS):
        with suppress(FileNotFoundError):
            modes.make_directory(folder)
            return step()
    return step()


def place_file(source: str, target: str) -> bool:
    """Move a file into place without replacing what is there; False when something was, and `source` is
    gone then.
    """
    try:
        disk.rename_new(source, target)
    except FileExistsError:
        disk.unlink(source)
        return False
    return True


def sync_path(path: str) -> None:
    """Make a file's content, or a directory's names, durable."""
    if os.path.isdir(path):
        disk.sync_folder(path)
    else:
        disk.sync_path(path)


def same_content(path: str, other: str) -> bool:
    """Compare two files byte by byte."""
    with open(path, "rb") as left, open(other, "rb") as right:
        while True:
            chunk = left.read(1 << 20)
            if chunk != right.read(1 << 20):
                return False
            if not chunk:
                return True
