"""Create on push: a push to a name under which there is nothing makes the repository (`create_on_push`, default off).

    GET info/refs for a push    answered from an empty repository of our own, in a private folder: asking makes nothing
    POST git-receive-pack       the repository is made, then the push goes on in it. A push that fails leaves it, empty

Who may: whoever may push there once it exists. With a permission file that is `write` on its name; without, whom
http.receivepack lets push (unset: who has logged in), as the system's and the user's configuration say.

Where: `team/app` and `team/app.git` make ROOT/team/app.git. Folders on the way are made, too. Refused, with the 404
that it would be without all this: names with parts that aren't plain (letters, digits and `._+-` inside, no dot or dash
in front), deeper than DEPTH_MAX; places inside another repository, beyond a symbolic link, or where anything lies.

How: made whole in a hidden folder beside its place, synced, and renamed there; so it is there wholly or not at all,
and of two at once one wins and both go on with it. What a crash leaves of the hidden folder is removed after a day.
"""

import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress

from govc.config.config import Config
from govc.config.loader import load_protected_config
from govc.errors import RepositoryNotFound
from govc.protocol.oid import SHA1
from govc.protocol.refname import check_refname_format
from govc.repo.creation import create_repository
from govc.repo.discover import is_git_directory
from govc.repo.repository import Repository, Surroundings

log = logging.getLogger(__name__)

DEPTH_MAX = 8
PART_BYTES_MAX = 100
LEFTOVER_SECONDS = 86_400
HIDDEN_PREFIX = ".govc-new-"

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?", re.ASCII)


class RepositoryCreator:
    """Makes repositories below one root."""

    def __init__(self, root: str, around: Surroundings, environ: Mapping[str, str]) -> None:
        self._root = root
        self._around = around
        self._environ = environ
        self._empty: Repository | None = None

    def find_place(self, path_info: str) -> str | None:
        """Return where the repository of a URL's path would be made; None where none may be."""
        parts = path_info.strip("/").split("/")
        parts[-1] = parts[-1].removesuffix(".git")
        if len(parts) > DEPTH_MAX or any(not _is_plain(part) for part in parts):
            return None
        folder = self._root
        for part in parts[:-1]:
            folder = os.path.join(folder, part)
            if not os.path.lexists(folder):
                break
            if os.path.islink(folder) or not os.path.isdir(folder) or is_git_directory(folder):
                return None
        if is_git_directory(self._root):
            return None
        place = os.path.join(self._root, *parts)
        if os.path.lexists(place) or os.path.lexists(place + ".git"):
            return None
        return place + ".git"

    def config(self) -> Config:
        """Return the configuration that a repository without its own has."""
        return load_protected_config(self._environ).config

    def empty(self) -> Repository:
        """Return an empty repository, from which listings are answered where nothing is yet. Blocks at first."""
        if self._empty is None or not os.path.isdir(self._empty.gitdir):
            path = os.path.join(tempfile.mkdtemp(prefix="govc-empty-"), "empty.git")
            self._create(path)
            self._empty = Repository(path, self._around)
        return self._empty

    def create(self, place: str) -> bool:
        """Make the repository; False when somebody else has just done so. Blocks. Raises OSError."""
        parent = os.path.dirname(place)
        self._make_folders(parent)
        _remove_leftovers(parent)
        hidden = os.path.join(parent, HIDDEN_PREFIX + secrets.token_hex(8))
        made = os.path.join(hidden, "new.git")
        os.mkdir(hidden)
        try:
            self._create(made)
            _sync_tree(made)
            try:
                os.rename(made, place)
            except OSError:
                # Neither a file nor a folder with something in it gives way to a rename.
                if not is_git_directory(place):
                    raise
                return False
            _sync(parent)
            return True
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def close(self) -> None:
        """Remove the empty repository."""
        empty, self._empty = self._empty, None
        if empty is not None:
            empty.close()
            shutil.rmtree(os.path.dirname(empty.gitdir), ignore_errors=True)

    def _create(self, path: str) -> None:
        create_repository(path, SHA1, export=True, allow_push=False, branch=self._first_branch())

    def _first_branch(self) -> str:
        """Return what HEAD of a new repository names: init.defaultBranch, else main."""
        wanted = self.config().get("init.defaultbranch") or "main"
        return wanted if check_refname_format(b"refs/heads/" + os.fsencode(wanted)) else "main"

    def _make_folders(self, folder: str) -> None:
        """Make the folders that are missing, each durable in the one above."""
        if folder == self._root or os.path.isdir(folder):
            return
        above = os.path.dirname(folder)
        self._make_folders(above)
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        _sync(above)


def _is_plain(part: str) -> bool:
    return len(part) <= PART_BYTES_MAX and _PART.fullmatch(part) is not None and not part.endswith((".git", ".lock"))


def _remove_leftovers(parent: str) -> None:
    """Remove the hidden folders of processes that died long ago."""
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(HIDDEN_PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # of a worker that makes one beside us, and is through with it
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    if age > LEFTOVER_SECONDS:
                        shutil.rmtree(entry.path, ignore_errors=True)


def _sync_tree(path: str) -> None:
    """Make what the folders hold durable; the files are already."""
    for folder, _, _ in os.walk(path, topdown=False):
        _sync(folder)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_made(path_info: str, error: OSError) -> RepositoryNotFound:
    """Return what to say when a repository could not be made: there is none."""
    return RepositoryNotFound(path_info, f"could not be made: {error.strerror or error}")
