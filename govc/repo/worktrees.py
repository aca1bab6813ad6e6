"""Linked worktrees: which branches somebody has checked out beside the repository.

    <commondir>/worktrees/<id>/HEAD     the HEAD of each linked worktree

Source: gitrepository-layout "worktrees", git's branch.c (branch_checked_out).
"""

import os

from govc.repo.layout import RepositoryLayout

HEAD_BYTES_MAX = 4096


def is_checked_out_elsewhere(layout: RepositoryLayout, refname: bytes) -> bool:
    """Say whether a linked worktree is on the branch `refname` (full name). Raises OSError: not knowing is not no."""
    folder = f"{layout.commondir}/worktrees"
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(_branch_of(f"{folder}/{name}/HEAD") == refname for name in names)


def _branch_of(head_path: str) -> bytes | None:
    try:
        with open(head_path, "rb") as file:
            head = file.read(HEAD_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return head[5:].strip() if head.startswith(b"ref: ") else None
