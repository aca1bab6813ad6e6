"""Bringing a clean work tree to another commit: what receive.denyCurrentBranch=updateInstead asks for.

    lock the index → is every file as the index says? → is the index as HEAD says? → is nothing in the way?
    → remove, write → the new index takes the place of the old one

Refused, with git's reasons, when somebody has changed a file or the index, and when a file that git doesn't know would
be overwritten (here also one that is ignored, which git would overwrite). Modes, symbolic links, line ends and
encodings are those of a checkout. Submodules are left alone: their folders are made, no more. Paths with a filter
driver (`filter=lfs`) are refused: what it writes is another program's to say. So are sparse and split indexes.

Until the index is replaced nothing has been said of success; a kill in between leaves a work tree with changes, as with
git.

Source: git's builtin/receive-pack.c (push_to_deploy), read-tree -u -m; gitattributes.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from govc.archive.attributes import Attributes, parse_attributes
from govc.archive.convert import ATTRIBUTE_NAMES, LineEnds, convert_to_worktree
from govc.errors import GovcError
from govc.objects.commit import parse_commit_links
from govc.objects.dotgit import is_dotgit
from govc.objects.tree import parse_tree
from govc.objects.types import BLOB, COMMIT, TREE, hash_object
from govc.odb.store import ObjectStore
from govc.protocol.oid import find_algorithm
from govc.repo.helper import Emit
from govc.worktree.index_file import (
    FORMAT_MASK,
    MODE_FILE,
    MODE_GITLINK,
    MODE_LINK,
    IndexEntry,
    encode_index,
    parse_index,
)

NOT_FRESH = "Up-to-date check failed"
UNSTAGED = "Working directory has unstaged changes"
STAGED = "Working directory has staged changes"
NOT_UPDATED = "Could not update working tree to new HEAD"

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutTask:
    """One work tree and where it shall go. Picklable. `old` is HEAD's commit, None while it is unborn.

    `above`, `below`: attributes files outside the tree. `file_mode`: whether the execute bit counts (core.fileMode).
    `is_sparse`: core.sparseCheckout.
    """

    gitdir: str
    worktree: str
    objects_dir: str
    algo_name: str
    old: bytes | None
    new: bytes
    line_ends: LineEnds = field(default_factory=LineEnds)
    above: tuple[bytes, ...] = ()
    below: tuple[bytes, ...] = ()
    file_mode: bool = True
    is_sparse: bool = False


class _Refused(GovcError):
    """`reason` is for the report, `detail` for band 2."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def checkout_job(task: CheckoutTask, _emit: Emit) -> tuple[str, str]:
    """The helper's "checkout" job: ("", "") when it was done, else the reason and a detail."""
    try:
        _Checkout(task).run()
    except _Refused as error:
        return error.reason, error.detail
    except OSError as error:
        return NOT_UPDATED, error.strerror or "input/output error"
    except GovcError as error:
        return NOT_UPDATED, error.public_text
    return "", ""


_Files = dict[bytes, tuple[int, bytes]]
"""Path to mode and oid."""


class _Checkout:
    def __init__(self, task: CheckoutTask) -> None:
        algo = find_algorithm(task.algo_name)
        assert algo is not None
        self._task = task
        self._algo = algo
        self._store = ObjectStore.open(task.objects_dir, algo)
        self._root = os.fsencode(task.worktree)
        self._index_time = 0

    def run(self) -> None:
        """Do it. Raises _Refused, GovcError, OSError."""
        if self._task.is_sparse:
            raise _Refused(NOT_UPDATED, "a sparse checkout needs a push-to-checkout hook")
        path = f"{self._task.gitdir}/index"
        try:
            lock = os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError as error:
            raise _Refused(NOT_FRESH, f"Unable to create '{path}.lock': File exists.") from error
        try:
            with open(lock, "wb") as file:
                entries = self._read_index(path)
                file.write(encode_index(self._carry_out(entries), self._algo))
            os.rename(f"{path}.lock", path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.lock")
            raise

    def _carry_out(self, entries: dict[bytes, IndexEntry]) -> list[IndexEntry]:
        old_attributes, old = self._list(self._task.old)
        for entry in entries.values():
            if not self._is_unchanged(entry, old_attributes):
                raise _Refused(UNSTAGED)
        if _without_links({path: (entry.mode, entry.oid) for path, entry in entries.items()}) != _without_links(old):
            raise _Refused(STAGED)
        attributes, new = self._list(self._task.new)
        self._check_filters(attributes, new)
        gone = [path for path in entries if path not in new]
        come = [path for path, wanted in new.items() if path not in entries or _what(entries[path]) != wanted]
        self._check_flagged([entries[path] for path in (*gone, *come) if path in entries], old_attributes)
        self._check_way(entries, frozenset(gone), come)
        for path in sorted(gone, reverse=True):
            self._remove(path, entries[path])
        kept = {path: entry for path, entry in entries.items() if path in new}
        for path in come:
            kept[path] = self._write(path, *new[path], attributes, entries.get(path))
        return list(kept.values())

    # What is there

    def _read_index(self, path: str) -> dict[bytes, IndexEntry]:
        try:
            with open(path, "rb") as file:
                self._index_time = os.fstat(file.fileno()).st_mtime_ns
                entries = parse_index(file.read(), self._algo)
        except FileNotFoundError:
            return {}
        if any(entry.stage for entry in entries):
            raise _Refused(NOT_FRESH, "some paths are unmerged")
        if any(entry.intent_to_add for entry in entries):
            raise _Refused(STAGED)
        return {entry.path: entry for entry in entries}

    def _list(self, commit: bytes | None) -> tuple[Attributes, _Files]:
        """Return the files of a commit, and the attributes that its tree gives them."""
        task = self._task
        attributes = Attributes(
            above=tuple(parse_attributes(data) for data in task.above),
            below=tuple(parse_attributes(data) for data in task.below),
        )
        found: _Files = {}
        if commit is not None:
            type_number, data = self._store.read_oid(commit)
            if type_number != COMMIT:
                raise _Refused(NOT_UPDATED, "HEAD's new value is not a commit")
            self._walk(parse_commit_links(data, self._algo).tree, b"", attributes, found, 0)
        return attributes, found

    def _walk(self, oid: bytes, folder: bytes, attributes: Attributes, found: _Files, depth: int) -> None:
        type_number, data = self._store.read_oid(oid)
        if type_number != TREE or depth > 2048:
            raise _Refused(NOT_UPDATED, "a tree makes no sense")
        entries = parse_tree(data, self._algo)
        for entry in entries:
            if entry.name in (b"", b".", b"..") or b"/" in entry.name or is_dotgit(entry.name):
                raise _Refused(NOT_UPDATED, f"invalid path '{_shown(folder + entry.name)}'")
            if entry.name == b".gitattributes" and entry.mode & FORMAT_MASK == MODE_FILE:
                attributes.provide(os.fsdecode(folder), self._store.read_oid(entry.oid)[1])
        for entry in entries:
            if entry.mode & FORMAT_MASK == 0o040000:
                self._walk(entry.oid, folder + entry.name + b"/", attributes, found, depth + 1)
            else:
                found[folder + entry.name] = (_canonical(entry.mode), entry.oid)

    def _is_unchanged(self, entry: IndexEntry, attributes: Attributes) -> bool:
        if entry.assume_valid or entry.skip_worktree or entry.mode == MODE_GITLINK:
            return True
        full = self._full(entry.path)
        if self._linked_parent(entry.path):
            return False
        try:
            status = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not self._has_mode(status, entry.mode):
            return False
        is_older = entry.stat[2] * 1_000_000_000 + entry.stat[3] < self._index_time
        if is_older and _stat_numbers(status, entry.mode)[2:] == entry.stat[2:]:
            return True
        return self._content(full, entry.mode) == self._converted(entry.path, entry.mode, entry.oid, attributes) or (
            hash_object(self._algo, BLOB, self._content(full, entry.mode)) == entry.oid
        )

    def _has_mode(self, status: os.stat_result, mode: int) -> bool:
        if mode == MODE_LINK:
            return stat.S_ISLNK(status.st_mode)
        is_file = stat.S_ISREG(status.st_mode)
        return is_file and (not self._task.file_mode or bool(status.st_mode & 0o100) == bool(mode & 0o100))

    @staticmethod
    def _content(full: bytes, mode: int) -> bytes:
        if mode == MODE_LINK:
            return os.readlink(full)
        with open(full, "rb") as file:
            return file.read()

    def _converted(self, path: bytes, mode: int, oid: bytes, attributes: Attributes) -> bytes:
        content = self._store.read_oid(oid)[1]
        if mode == MODE_LINK:
            return content
        found = attributes.of(os.fsdecode(path), ATTRIBUTE_NAMES)
        return convert_to_worktree(content, found, self._task.line_ends, self._algo)

    # What is in the way

    def _check_filters(self, attributes: Attributes, new: _Files) -> None:
        for path, (mode, _oid) in new.items():
            if mode & FORMAT_MASK == MODE_FILE:
                driver = attributes.of(os.fsdecode(path), ("filter",))["filter"]
                if isinstance(driver, str) and driver:
                    raise _Refused(NOT_UPDATED, f"'{_shown(path)}' has a filter: a push-to-checkout hook can apply it")

    def _check_flagged(self, entries: Sequence[IndexEntry], attributes: Attributes) -> None:
        """Look at files that the index says not to look at, before they are changed."""
        for entry in entries:
            if (entry.skip_worktree or entry.assume_valid) and os.path.lexists(self._full(entry.path)):
                seen = replace(entry, skip_worktree=False, assume_valid=False)
                if not self._is_unchanged(seen, attributes):
                    raise _Refused(NOT_UPDATED, f"Entry '{_shown(entry.path)}' not uptodate. Cannot merge.")

    def _check_way(self, entries: dict[bytes, IndexEntry], gone: frozenset[bytes], come: Sequence[bytes]) -> None:
        """Refuse when an untracked file would be overwritten or a folder of such removed."""
        for path in come:
            for parent in _parents(path):
                full = self._full(parent)
                if os.path.lexists(full) and (os.path.islink(full) or not os.path.isdir(full)) and parent not in gone:
                    raise _Refused(NOT_UPDATED, f"untracked '{_shown(parent)}' is in the way")
            full = self._full(path)
            if path in entries or not os.path.lexists(full):
                continue
            if os.path.islink(full) or not os.path.isdir(full):
                if not any(parent in gone for parent in _parents(path)):
                    raise _Refused(NOT_UPDATED, f"Untracked working tree file '{_shown(path)}' would be overwritten")
                continue
            for inside in self._files_below(full):
                if inside not in gone:
                    raise _Refused(NOT_UPDATED, f"untracked '{_shown(inside)}' would be lost")

    def _files_below(self, full: bytes) -> Iterator[bytes]:
        for folder, _names, files in os.walk(full):
            for name in files:
                yield os.path.join(folder, name)[len(self._root) + 1 :]

    def _linked_parent(self, path: bytes) -> bool:
        return any(os.path.islink(self._full(parent)) for parent in _parents(path))

    def _full(self, path: bytes) -> bytes:
        return self._root + b"/" + path

    # Changing

    def _remove(self, path: bytes, entry: IndexEntry) -> None:
        full = self._full(path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if entry.mode == MODE_GITLINK:
                with contextlib.suppress(OSError):  # it has something in it: left alone
                    os.rmdir(full)
            else:
                os.unlink(full)
        for parent in reversed(_parents(path)):
            try:
                os.rmdir(self._full(parent))
            except OSError:
                return

    def _write(
        self, path: bytes, mode: int, oid: bytes, attributes: Attributes, before: IndexEntry | None
    ) -> IndexEntry:
        full = self._full(path)
        for parent in _parents(path):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._full(parent))
        if mode == MODE_GITLINK:
            with contextlib.suppress(FileExistsError):
                os.mkdir(full)
            return IndexEntry(path=path, oid=oid, stat=_no_stat(mode))
        content = self._converted(path, mode, oid, attributes)
        if before is not None and before.mode != MODE_GITLINK:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(full)
        elif os.path.isdir(full) and not os.path.islink(full):
            os.rmdir(full)
        if mode == MODE_LINK:
            os.symlink(content, full)
        else:
            permissions = 0o777 if mode & 0o100 else 0o666
            descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, permissions)
            with open(descriptor, "wb") as file:
                file.write(content)
        return IndexEntry(path=path, oid=oid, stat=_stat_numbers(os.lstat(full), mode))


def _canonical(mode: int) -> int:
    """Return a mode as an index has it."""
    kind = mode & FORMAT_MASK
    if kind == MODE_FILE:
        return MODE_FILE | (0o755 if mode & 0o100 else 0o644)
    return MODE_LINK if kind == MODE_LINK else MODE_GITLINK


def _what(entry: IndexEntry) -> tuple[int, bytes]:
    return entry.mode, entry.oid


def _without_links(files: _Files) -> _Files:
    return {path: what for path, what in files.items() if what[0] != MODE_GITLINK}


def _parents(path: bytes) -> list[bytes]:
    """Return the folders of a path, the highest first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]


def _no_stat(mode: int) -> tuple[int, ...]:
    return (0, 0, 0, 0, 0, 0, mode, 0, 0, 0)


def _stat_numbers(status: os.stat_result, mode: int) -> tuple[int, ...]:
    second = 1_000_000_000
    numbers = (
        *divmod(status.st_ctime_ns, second),
        *divmod(status.st_mtime_ns, second),
        status.st_dev,
        status.st_ino,
        mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
    )
    return tuple(number & 0xFFFFFFFF for number in numbers)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")
