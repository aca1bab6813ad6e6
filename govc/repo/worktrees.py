"""Work trees: what HEAD says in each, which branches somebody works on, here or beside the repository.

    <gitdir> and core.worktree, else the parent of .git     the repository's own, unless it is bare
    <commondir>/worktrees/<id>/             a linked worktree's own folder
        gitdir                              the path of its .git file, beside which it lies
        HEAD                                its HEAD, in the files backend
        reftable/                           the stack that holds its HEAD, in the reftable backend
        rebase-merge/head-name, rebase-apply/head-name, BISECT_START
                                            the branch that a rebase or a bisection began on, while HEAD is detached

Source: gitrepository-layout "worktrees", git's worktree.c (is_shared_symref), wt-status.c.
"""

import os
from typing import NamedTuple

from govc.protocol.oid import SHA1
from govc.refs.backend import REFTABLE
from govc.refs.loose import LooseRef, read_loose_ref
from govc.refs.reftable.stack import Stack
from govc.repo.layout import RepositoryLayout

HEAD_BYTES_MAX = 4096


class Worktree(NamedTuple):
    """A work tree: its own git folder and where its files are."""

    gitdir: str
    path: str


def read_head_in(layout: RepositoryLayout, refs_folder: str) -> LooseRef | None:
    """Return what HEAD says in a worktree whose refs are kept in `refs_folder`. Raises OSError, CorruptRefs."""
    if layout.ref_storage != REFTABLE:
        return read_loose_ref(f"{refs_folder}/HEAD", layout.algo)
    record = Stack(f"{refs_folder}/reftable", layout.algo).find_ref(b"HEAD")
    return None if record is None else LooseRef(record.oid, record.target)


def read_head_branch(gitdir: str, layout: RepositoryLayout | None) -> str | None:
    """Return the branch that HEAD names, without refs/heads/. Without a layout the file HEAD is believed."""
    if layout is not None:
        head = read_head_in(layout, layout.refs_gitdir)
    else:
        head = read_loose_ref(f"{gitdir}/HEAD", SHA1)  # a symref reads the same whatever the hash
    prefix = b"refs/heads/"
    if head is None or head.target is None or not head.target.startswith(prefix):
        return None
    return os.fsdecode(head.target.removeprefix(prefix))


def is_checked_out_elsewhere(layout: RepositoryLayout, refname: bytes) -> bool:
    """Say whether another worktree is on the branch `refname` (full name), or will come back to it.

    Looked up each time. Raises OSError, CorruptRefs: not knowing is not no.
    """
    return find_linked_worktree(layout, refname) is not None


def find_linked_worktree(layout: RepositoryLayout, refname: bytes) -> Worktree | None:
    """Return the other worktree that is on the branch `refname` (full name). Raises OSError, CorruptRefs.

    Seen from a linked worktree, the main one is another, too.
    """
    if layout.is_linked_worktree and not layout.main_is_bare:
        head = read_head_in(layout, layout.refs_commondir)
        if _is_on(head, layout.commondir, refname):
            return Worktree(layout.commondir, os.path.dirname(layout.commondir))
    folder = f"{layout.commondir}/worktrees"
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name in names:
        gitdir = f"{folder}/{name}"
        head = read_head_in(layout, f"{layout.refs_commondir}/worktrees/{name}")
        if _is_on(head, gitdir, refname):
            return Worktree(gitdir, os.path.dirname(os.path.join(gitdir, os.fsdecode(_read(f"{gitdir}/gitdir")))))
    return None


def own_worktree(layout: RepositoryLayout) -> Worktree:
    """Return the work tree of a repository that isn't bare."""
    path = layout.worktree if layout.worktree is not None else ".."
    return Worktree(layout.gitdir, os.path.normpath(os.path.join(layout.gitdir, path)))


def _is_on(head: LooseRef | None, gitdir: str, refname: bytes) -> bool:
    if head is None:
        return False
    if head.target is not None:
        return head.target == refname
    return refname in (_rebased_branch(gitdir), _bisected_branch(gitdir))


def _rebased_branch(gitdir: str) -> bytes | None:
    """Return the branch that is being rebased. A series of mails that is being applied looks alike and isn't that."""
    if os.path.isdir(f"{gitdir}/rebase-apply"):
        is_am = os.path.exists(f"{gitdir}/rebase-apply/applying")
        return None if is_am else _read_branch(f"{gitdir}/rebase-apply/head-name")
    return _read_branch(f"{gitdir}/rebase-merge/head-name")


def _bisected_branch(gitdir: str) -> bytes | None:
    return _read_branch(f"{gitdir}/BISECT_START") if os.path.exists(f"{gitdir}/BISECT_LOG") else None


def _read_branch(path: str) -> bytes | None:
    """Return the full name of the branch in a file that holds it in full or without refs/heads/."""
    name = _read(path)
    return (name if name.startswith(b"refs/") else b"refs/heads/" + name) if name else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES_MAX).strip()
    except (FileNotFoundError, NotADirectoryError):
        return b""
