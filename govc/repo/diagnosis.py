"""Why a path is no repository, in a few words: for `govc doctor`, which has the time to look at everything.

The gate (`discover`) only says "not a repository": it answers strangers, and a dozen system calls have to do.
"""

import os
import stat

from govc.errors import RepositoryRefused
from govc.repo.discover import HEAD_BYTES_MAX, SUFFIXES, is_git_directory
from govc.repo.layout import find_commondir


def explain_absence(path: str) -> str:
    """Return what is missing at `path` (absolute) for it to be a repository; "" when nothing is."""
    path = path.rstrip("/") or "/"
    candidates = [path + suffix for suffix in SUFFIXES]
    if any(is_git_directory(candidate) for candidate in candidates):
        return ""
    there = [candidate for candidate in candidates if os.path.lexists(candidate)]
    if not there:
        return _explain_missing(path)
    # "repo/.git" of a work tree says more than "repo", which is there, too.
    return next(filter(None, map(_explain_folder, sorted(there, key=len, reverse=True))), "")


def _explain_missing(path: str) -> str:
    """Say where on its way a path ends."""
    folder = os.path.dirname(path)
    while folder != "/" and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is no folder"
    if not os.access(folder, os.X_OK):
        return f"user {os.geteuid()} may not enter {folder}"
    return f"there is nothing of that name in {folder}"


def _explain_folder(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a symbolic link that leads nowhere, or where user {os.geteuid()} may not go"
    if os.path.isfile(path):
        return f"{path} is a file that should say 'gitdir: FOLDER' and lead to a repository"
    if not os.path.isdir(path):
        return f"{path} is neither a folder nor a file"
    if not os.access(path, os.X_OK):
        return f"user {os.geteuid()} may not enter {path}"
    reason = _explain_head(os.path.join(path, "HEAD"))
    if reason:
        return reason
    try:
        commondir = find_commondir(path)
    except RepositoryRefused as error:
        return error.reason
    for name in ("objects", "refs"):
        inside = os.path.join(commondir, name)
        if not os.path.isdir(inside):
            return f"{inside} is missing"
        if not os.access(inside, os.X_OK):
            return f"user {os.geteuid()} may not enter {inside}"
    return ""


def _explain_head(path: str) -> str:
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind == stat.S_IFLNK:
            return f"{path} is a symbolic link that doesn't begin with refs/"
        if kind != stat.S_IFREG:
            return f"{path} is no plain file"
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES_MAX)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    # Whoever asks has found that it isn't one; only what may be said of HEAD is left, or nothing.
    if head.startswith(b"ref:") or len(head.strip()) in (40, 64):
        return ""
    return f"{path} holds neither 'ref: refs/...' nor an object id"
