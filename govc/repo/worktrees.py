"""Work trees: which branches somebody has checked out, here or beside the repository.

    <gitdir>/HEAD and core.worktree, else the parent of .git     the repository's own, unless it is bare
    <commondir>/worktrees/<id>/HEAD                              the HEAD of each linked worktree
    <commondir>/worktrees/<id>/gitdir                            the path of its .git file, beside which it lies

Source: gitrepository-layout "worktrees", git's branch.c (branch_checked_out), worktree.c.
"""

import os
from typing import NamedTuple

from govc.repo.layout import RepositoryLayout

HEAD_BYTES_MAX = 4096


class Worktree(NamedTuple):
    """A work tree: its own git folder and where its files are."""

    gitdir: str
    path: str


def is_checked_out_elsewhere(layout: RepositoryLayout, refname: bytes) -> bool:
    """Say whether a linked worktree is on the branch `refname` (full name). Raises OSError: not knowing is not no."""
    return find_linked_worktree(layout, refname) is not None


def find_linked_worktree(layout: RepositoryLayout, refname: bytes) -> Worktree | None:
    """Return the linked worktree that is on the branch `refname` (full name). Raises OSError."""
    folder = f"{layout.commondir}/worktrees"
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name in names:
        gitdir = f"{folder}/{name}"
        if _branch_of(f"{gitdir}/HEAD") == refname:
            return Worktree(gitdir, os.path.dirname(os.path.join(gitdir, os.fsdecode(_read(f"{gitdir}/gitdir")))))
    return None


def own_worktree(layout: RepositoryLayout) -> Worktree:
    """Return the work tree of a repository that isn't bare."""
    path = layout.worktree if layout.worktree is not None else ".."
    return Worktree(layout.gitdir, os.path.normpath(os.path.join(layout.gitdir, path)))


def _branch_of(head_path: str) -> bytes | None:
    head = _read(head_path)
    return head[5:].strip() if head.startswith(b"ref: ") else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES_MAX).rstrip()
    except (FileNotFoundError, NotADirectoryError):
        return b""
