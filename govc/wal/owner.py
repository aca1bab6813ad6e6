"""Which processes write to a repository, and which of them are alive: `govc/locks/`.

    <token>.owner       flocked by the process for as long as it lives
    <token>.<number>    a lock file of ours: linked to `X.lock`, which is how git knows it
    <token>.0           one file whose further names are the `.keep` files of packs that come with pushes

A token is 8 random bytes in hex. Liveness is the flock, never a process number: numbers are given to others. A lock
file is ours when `X.lock` and a file here are one inode, which needs no sync and no record to be known after a crash.

Source: flock(2), link(2); storage rules 10, 22.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress

from govc import disk

TOKEN_BYTES = 8
_OWNER = re.compile(r"([0-9a-f]{16})\.owner")
_LOCK = re.compile(r"([0-9a-f]{16})\.[0-9]+")


class Owner:
    """This process, as a writer of one repository."""

    def __init__(self, folder: str, *, mode: int = 0o600) -> None:
        """Take a token and hold its flock; `folder` is govc/locks. OSError."""
        self.folder = folder
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._path = f"{folder}/{self.token.hex()}.owner"
        self._count = 0
        self._mode = mode
        self._has_said = False
        # Locked before it has its name: nobody must ever find a living process unlocked.
        temporary = f"{folder}/new-{self.token.hex()}"
        self._descriptor = disk.open_with_mode(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        disk.rename(temporary, self._path)

    def next_lock_path(self) -> str:
        """Return the path for one more lock file. Each name is given once."""
        self._count += 1
        return f"{self.folder}/{self.token.hex()}.{self._count}"

    def path_saying(self, text: bytes) -> str:
        """Return the path of the file that all `.keep` files may be names of. It says `text`, at each call the same.

        Who finds it made by another thread just now may find it empty: by its inode it is ours all the same. OSError.
        """
        path = f"{self.folder}/{self.token.hex()}.0"
        if not self._has_said:
            with suppress(FileExistsError):
                disk.write_file(path, text, mode=self._mode, fsync=False)
            self._has_said = True
        return path

    def close(self) -> None:
        """Let go of the token; its locks are released by then. What is the name of a `.keep` that could not be removed
        stays, so that whoever comes next knows whose that is.
        """
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(FileNotFoundError):  # the log was retired under us
                disk.unlink(self._path)
            if self._has_said:
                with suppress(FileNotFoundError):
                    path = f"{self.folder}/{self.token.hex()}.0"
                    if os.lstat(path).st_nlink == 1:
                        disk.unlink(path)
            disk.close(descriptor)


def is_alive(folder: str, token: bytes) -> bool:
    """Say whether the process of that token lives. A token without a file is dead."""
    try:
        descriptor = os.open(f"{folder}/{token.hex()}.owner", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def iter_tokens(folder: str) -> Iterator[bytes]:
    """Yield the tokens that have left something here, living or dead."""
    seen: set[str] = set()
    for name in _names(folder):
        match = _OWNER.fullmatch(name) or _LOCK.fullmatch(name)
        if match is not None and match[1] not in seen:
            seen.add(match[1])
            yield bytes.fromhex(match[1])


def iter_locks(folder: str) -> Iterator[tuple[bytes, str, os.stat_result]]:
    """Yield (token, path, status) of each lock file."""
    for name in _names(folder):
        match = _LOCK.fullmatch(name)
        if match is None:
            continue
        path = f"{folder}/{name}"
        try:
            yield bytes.fromhex(match[1]), path, os.lstat(path)
        except FileNotFoundError:
            continue


def find_lock(folder: str, lock_path: str) -> tuple[bytes, str] | None:
    """Return (token, file here) when `lock_path` is a lock of ours, None when it is somebody else's or gone."""
    try:
        status = os.lstat(lock_path)
    except OSError:
        return None
    if status.st_nlink < 2:
        return None
    for token, path, own in iter_locks(folder):
        if (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino):
            return token, path
    return None


def forget(folder: str, token: bytes) -> None:
    """Remove what is left of a dead process, once its locks are gone."""
    try:
        disk.unlink(f"{folder}/{token.hex()}.owner")
    except FileNotFoundError:
        return


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
