"""Reflogs: one line appended for each change of a ref.

    <old hex> SP <new hex> SP <name> SP <<email>> SP <seconds> SP <zone> TAB <message> LF

Which refs have one is told by core.logAllRefUpdates: one that exists is always continued; whether a new one
is made depends. A name or message that comes from a peer can't break the line: identities lose the bytes
that delimit them (SEC-34), and blanks within a message become single spaces.

Source: gitrepository-layout "logs", git-config "core.logAllRefUpdates"; git's ident.c, refs.c
(copy_reflog_msg).
"""

import contextlib
import errno
import os
from enum import Enum

from govc import disk
from govc.protocol.oid import to_hex
from govc.refs.lock import FileModes, make_parents, remove_empty_tree, remove_file

_CRUD = bytes(range(33)) + b",:;<>\"\\'"
_FORBIDDEN = b"\n<>\0"
_LOGGED_PREFIXES = (b"refs/heads/", b"refs/remotes/", b"refs/notes/")
_TRIES = 4


class LogUpdates(Enum):
    """Which refs get a reflog that have none yet."""

    NONE = "none"
    BRANCHES = "branches"  # HEAD, refs/heads/, refs/remotes/, refs/notes/
    ALWAYS = "always"


def choose_log_updates(value: str | None, as_bool: bool | None, *, is_bare: bool) -> LogUpdates:
    """Return what core.logAllRefUpdates means: its text, and its value as a boolean (None: unset)."""
    if value is not None and value.lower() == "always":
        return LogUpdates.ALWAYS
    wanted = (not is_bare) if as_bool is None else as_bool
    return LogUpdates.BRANCHES if wanted else LogUpdates.NONE


def clean_ident(text: bytes) -> bytes:
    """Return a name or address without LF, `<`, `>` and NUL, and without crud at its ends, as git does it."""
    return text.strip(_CRUD).translate(None, _FORBIDDEN)


def encode_ident(name: bytes, email: bytes) -> bytes:
    """Return `name <email>` of cleaned parts."""
    return b"%b <%b>" % (clean_ident(name), clean_ident(email))


def encode_reflog_line(
    old: bytes, new: bytes, ident: bytes, time_seconds: int, message: bytes, zone: bytes = b"+0000"
) -> bytes:
    """Return one line of a reflog; `ident` as `encode_ident` makes it."""
    ident = ident.replace(b"\n", b"").replace(b"\0", b"")
    text = b" ".join(message.split())
    end = b"\t%b\n" % text if text else b"\n"
    return b"%b %b %b %d %b%b" % (to_hex(old), to_hex(new), ident, time_seconds, zone, end)


class ReflogAppender:
    """A reflog that is known to be writable, before the ref moves. The line is appended by `append`."""

    __slots__ = ("_descriptor", "_was_created", "path")

    def __init__(self, path: str, descriptor: int, was_created: bool) -> None:
        self.path = path
        self._descriptor = descriptor
        self._was_created = was_created

    def let_go_of_descriptor(self) -> None:
        """Close the file until it is appended to: a push of thousands of refs can't keep them all open."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            disk.close(descriptor)

    def append(self, line: bytes, *, fsync: bool) -> None:
        """Append the line in one write, and close."""
        if self._descriptor < 0:
            self._descriptor = disk.open_file(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            disk.write_all(self._descriptor, line)
            if fsync:
                disk.sync(self._descriptor)
        finally:
            self.let_go_of_descriptor()

    def abandon(self) -> None:
        """Close; remove the file if it was made for this and is still empty."""
        self.let_go_of_descriptor()
        if self._was_created:
            with contextlib.suppress(FileNotFoundError):
                if os.path.getsize(self.path) == 0:
                    remove_file(self.path)


def open_reflog(path: str, name: bytes, log_updates: LogUpdates, modes: FileModes) -> ReflogAppender | None:
    """Return the reflog to append to, None when this ref has none and shall have none. Raises OSError.

    What is left of deleted refs' logs and stands in the way (empty folders, an orphaned file where a folder
    must be) is removed: the caller has checked that no other ref is there.
    """
    flags = os.O_WRONLY | os.O_APPEND
    try:
        return ReflogAppender(path, disk.open_file(path, flags), False)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if not is_log_wanted(name, log_updates):
            return None
    for _ in range(_TRIES):
        try:
            descriptor = disk.open_file(path, flags | os.O_CREAT)
        except FileNotFoundError:
            _make_log_parents(path, name, modes)
        except NotADirectoryError:
            _make_log_parents(path, name, modes)
        except IsADirectoryError:
            if not remove_empty_tree(path):
                raise
        else:
            modes.adjust_file(path)
            return ReflogAppender(path, descriptor, True)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def is_log_wanted(name: bytes, log_updates: LogUpdates) -> bool:
    """Say whether a ref that has no reflog yet shall get one."""
    if log_updates is LogUpdates.BRANCHES:
        return name == b"HEAD" or name.startswith(_LOGGED_PREFIXES)
    return log_updates is LogUpdates.ALWAYS


def _make_log_parents(path: str, name: bytes, modes: FileModes) -> None:
    """Make the folders above a log; an orphaned log file of a deleted ref gives way."""
    folder = path
    for _ in range(name.count(b"/")):
        folder = os.path.dirname(folder)
        if os.path.isfile(folder):
            remove_file(folder)
    make_parents(path, modes)


def delete_reflog(path: str) -> None:
    """Remove a ref's reflog; fine when there is none."""
    with contextlib.suppress(IsADirectoryError, PermissionError):
        remove_file(path)
