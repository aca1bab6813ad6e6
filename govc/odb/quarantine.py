"""The quarantine of a push: received objects in a private folder, until it is decided that they may stay.

    objects/tmp_objdir-incoming-XXXXXX/       0700; git's prune knows the prefix
        pack/                                 the received pack
        xx/                                   loose objects, when a hook writes some

Hooks see it as their object directory with the repository as an alternate (`environment`). `migrate` moves
everything over in an order in which no reader meets half a pack: a `.keep` that names us first (a repack
that starts now must not collect what no ref reaches yet), loose objects, then for each pack .pack, .rev and
what else there is, .idx last. What isn't migrated is removed, by leaving the `with` block at the latest. A
folder holds a flock on itself while its process lives, so `stale_quarantines` finds the dead ones.

Source: git-receive-pack(1) "QUARANTINE ENVIRONMENT".
"""

import errno
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol

from govc import disk
from govc.errors import GovcError
from govc.odb.alternates import quote_path
from govc.odb.files import create_temporary, place_file, random_suffix, same_content, sync_path, within_folder
from govc.odb.modes import FileModes

log = logging.getLogger(__name__)

PREFIX = "tmp_objdir-incoming-"
STALE_SECONDS = 24 * 3600
KEEP_PREFIX = "govc receive-pack "
"""How the text of a .keep begins that protects a push; a process number follows."""

_SHARD = re.compile(r"[0-9a-f]{2}")
_LAST_SUFFIXES = (".pack", ".rev", ".idx")
_ATTEMPTS = 100
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)


class MigrationFailed(GovcError):
    """Objects couldn't be moved out of the quarantine. What did move is harmless: nothing refers to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"unable to migrate objects to permanent storage: {reason}")

    @property
    def public_text(self) -> str:
        """git's words."""
        return "unable to migrate objects to permanent storage"


class WritableIndex(Protocol):
    """What the quarantine needs of an indexed pack."""

    @property
    def pack_checksum(self) -> bytes:
        """The trailer, which names the pack."""

    def write_index(self, target: int | str, /) -> None:
        """Write the .idx to a descriptor or a new file."""

    def write_reverse_index(self, target: int | str, /) -> None:
        """Write the .rev likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What came over: the new paths of the .pack files and of loose objects.

    The packs are kept (`.keep`) until `release_keep`, which belongs after the refs have moved.
    """

    pack_paths: tuple[str, ...]
    loose_paths: tuple[str, ...]
    keep_paths: tuple[str, ...]

    def release_keep(self) -> None:
        """Remove the `.keep` files that we made, and their other names; those that were there before stay."""
        _remove_keeps(self.keep_paths)


def _remove_keeps(paths: Iterable[str]) -> None:
    """Remove `.keep` files, each before its other name: by that one whoever comes after our end knows it as ours."""
    for path in paths:
        try:
            disk.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:  # what the push is worth is decided without it
            log.warning("%s: %s", path, error)
            return


def end_pack_file(file: int | str) -> None:
    """Let nobody write to a pack of `create_pack_file` any more: it has git's mode then, 0444 but for the umask."""
    os.chmod(file, os.stat(file).st_mode & 0o444)


class Quarantine:
    """One folder for one push. Use it in a `with` block; leaving it discards what wasn't migrated."""

    def __init__(self, objects_dir: str, modes: FileModes | None = None) -> None:
        """Create the folder below `objects_dir`. OSError."""
        self.objects_dir = os.path.abspath(objects_dir)
        self.modes = modes or FileModes()
        self.path = _make_private_directory(self.objects_dir)
        self.pack_dir = f"{self.path}/pack"
        self._fd = -1
        self._is_gone = False
        try:
            os.mkdir(self.pack_dir, 0o700)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # not every file system locks; then age alone tells
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def create_pack_file(self) -> tuple[int, str]:
        """Return a descriptor for reading and writing, the caller's to close, and the path of a new empty
        file.

        Its owner may open it again for writing until `end_pack_file` has been called: indexing does, elsewhere.
        """
        return create_temporary(self.pack_dir, "tmp_pack_", 0o644)

    def add_pack(self, path: str, indexed: WritableIndex) -> str:
        """Name the complete pack at `path` (of `create_pack_file`), write its .rev and .idx, return the new
        path.
        """
        stem = f"{self.pack_dir}/pack-{indexed.pack_checksum.hex()}"
        end_pack_file(path)
        os.rename(path, f"{stem}.pack")
        indexed.write_reverse_index(f"{stem}.rev")
        indexed.write_index(f"{stem}.idx")
        return f"{stem}.pack"

    def environment(self, alternates: str = "") -> dict[str, str]:
        """Return the variables for hooks; `alternates`: what GIT_ALTERNATE_OBJECT_DIRECTORIES was before."""
        own = os.fsdecode(quote_path(os.fsencode(self.objects_dir)))
        return {
            "GIT_OBJECT_DIRECTORY": self.path,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{alternates}:{own}" if alternates else own,
            "GIT_QUARANTINE_PATH": self.path,
        }

    def migrate(
        self,
        keep_message: str = "govc",
        *,
        fsync: bool = False,
        next_own_path: Callable[[], str] | None = None,
        known_as: str = "",
        break_dead: Callable[[str], object] | None = None,
    ) -> Migration:
        """Move everything into the repository, hooks' objects included, and remove the folder.

        `next_own_path` gives names for the `.keep` files' other names: a `.keep` that shares the inode is known as
        ours even after a power cut that took its text. `known_as`: a file that is there, with `keep_message` in it, of
        which all `.keep` files may be further names. `break_dead` removes a `.keep` whose push is a dead process's.

        With `fsync`, files are synced before they get their names and folders afterwards. A pack that is
        there already must have the same bytes, and stays. Raises MigrationFailed, after which the
        quarantine still has to be discarded, and what `break_dead` raises.
        """
        keep_paths: list[str] = []
        try:
            stems = self._pack_stems()
            if stems:
                self.modes.make_directory(f"{self.objects_dir}/pack")
            for stem in stems:
                paths = self._create_keep(stem, keep_message, next_own_path, known_as)
                if not paths and break_dead is not None:
                    # Whoever finds that its process is dead (it may be this very push, sent before) removes it.
                    break_dead(f"{self.objects_dir}/pack/{stem}.keep")
                    paths = self._create_keep(stem, keep_message, next_own_path, known_as)
                keep_paths.extend(paths)
            loose_paths = self._migrate_loose(fsync)
            for stem in stems:
                self._migrate_pack(stem, fsync)
            if fsync and stems:
                sync_path(f"{self.objects_dir}/pack")
            if fsync:
                sync_path(self.objects_dir)
        except (OSError, GovcError) as error:
            _remove_keeps(keep_paths)
            if isinstance(error, GovcError):
                raise
            raise MigrationFailed(str(error)) from error
        self.discard()
        return Migration(
            pack_paths=tuple(f"{self.objects_dir}/pack/{stem}.pack" for stem in stems),
            loose_paths=loose_paths,
            keep_paths=tuple(keep_paths),
        )

    def loose_bytes(self) -> int:
        """Return the size of all loose objects together, as they are stored."""
        size = 0
        for shard in filter(_SHARD.fullmatch, os.listdir(self.path)):
            with os.scandir(f"{self.path}/{shard}") as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # a child of a hook has given it its name meanwhile
                        size += entry.stat().st_size
        return size

    def discard(self) -> None:
        """Remove the folder and all in it; nothing to do after it is gone."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._is_gone:
            return
        self._is_gone = True
        with suppress(OSError):  # what was migrated has left it empty
            os.rmdir(self.pack_dir)
            os.rmdir(self.path)
            return
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("unable to remove quarantine %s: %s", self.path, error)

    def _pack_stems(self) -> list[str]:
        """Return the names, without suffix, of complete packs; temporary files are left to be discarded."""
        names = set(os.listdir(self.pack_dir))
        return sorted(name[:-4] for name in names if name.endswith(".idx") and f"{name[:-4]}.pack" in names)

    def _create_keep(
        self, stem: str, message: str, next_own_path: Callable[[], str] | None, known_as: str
    ) -> list[str]:
        """Create the pack's .keep; return the paths to remove later, none when somebody else keeps the pack already.

        It is whole when it gets its name: an empty one, left by a kill, would belong to nobody. To make a file for each
        push costs a file system more than a further name of one that stays.
        """
        path = f"{self.objects_dir}/pack/{stem}.keep"
        if known_as and (found := _link_keep(known_as, path)) is not None:
            return found
        own = next_own_path() if next_own_path is not None else f"{self.pack_dir}/keep"
        disk.write_file(own, f"{message}\n".encode(), mode=0o600, fsync=False)
        try:
            if next_own_path is None:
                disk.rename_new(own, path)
                return [path]
            try:
                disk.link(own, path)
            except FileExistsError:
                raise
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                disk.rename_new(own, path)
            return [path, own]
        except FileExistsError:
            disk.unlink(own)
            _make_young(path)
            return []

    def _migrate_loose(self, fsync: bool) -> tuple[str, ...]:
        paths: list[str] = []
        for shard in sorted(name for name in os.listdir(self.path) if _SHARD.fullmatch(name)):
            target_dir = f"{self.objects_dir}/{shard}"
            for name in sorted(os.listdir(f"{self.path}/{shard}")):
                if name.startswith("tmp_"):
                    continue
                move = partial(self._migrate_file, f"{self.path}/{shard}/{name}", f"{target_dir}/{name}", fsync)
                within_folder(target_dir, self.modes, move)
                paths.append(f"{target_dir}/{name}")
            if fsync:
                with suppress(FileNotFoundError):  # all in it was packed meanwhile
                    sync_path(target_dir)
        return tuple(paths)

    def _migrate_pack(self, stem: str, fsync: bool) -> None:
        """Move the files of one pack, .idx last."""
        names = [name for name in os.listdir(self.pack_dir) if os.path.splitext(name)[0] == stem]
        suffixes = {os.path.splitext(name)[1] for name in names} - {".keep"}
        if not suffixes >= {".pack", ".idx"}:
            raise MigrationFailed(f"{stem} is no longer whole: something prunes the quarantine")
        first = [".pack"]
        middle = sorted(suffixes.difference(_LAST_SUFFIXES))
        last = [suffix for suffix in (".rev", ".idx") if suffix in suffixes]
        for suffix in first + middle + last:
            source = f"{self.pack_dir}/{stem}{suffix}"
            target = f"{self.objects_dir}/pack/{stem}{suffix}"
            if suffix == ".pack" and os.path.lexists(target) and not same_content(source, target):
                raise MigrationFailed(f"{target} exists and is different")
            self._migrate_file(source, target, fsync)

    def _migrate_file(self, source: str, target: str, fsync: bool) -> None:
        """Move one file, unless the target is there already."""
        self.modes.adjust(source)
        if fsync:
            sync_path(source)
        if not place_file(source, target):
            with suppress(OSError):  # it was there before: save it from pruning, as git does
                os.utime(target)


def _link_keep(known_as: str, path: str) -> list[str] | None:
    """Make `path` a name of that file; return what to remove later, None where that can't be done."""
    _make_young(known_as)  # before it has that name, too: it may be as old as its process
    try:
        disk.link(known_as, path)
    except FileExistsError:
        _make_young(path)
        return []
    except OSError as error:
        if error.errno not in (*_NO_LINKS, errno.ENOENT):
            raise
        return None
    return [path]


def _make_young(path: str) -> None:
    """Save a `.keep` from being taken for a leftover."""
    with suppress(OSError):
        os.utime(path)


def _make_private_directory(objects_dir: str) -> str:
    for _ in range(_ATTEMPTS):
        path = f"{objects_dir}/{PREFIX}{random_suffix()}"
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path
    raise FileExistsError(f"{objects_dir}: no free name for {PREFIX}*")


def stale_quarantines(objects_dir: str, *, now_seconds: float | None = None) -> list[str]:
    """Return the quarantine folders that nobody touched for a day and no living process of ours holds."""
    now = time.time() if now_seconds is None else now_seconds
    found = []
    for name in sorted(os.listdir(objects_dir)):
        path = f"{objects_dir}/{name}"
        if name.startswith(PREFIX) and _is_stale(path, now):
            found.append(path)
    return found


def _is_stale(path: str, now_seconds: float) -> bool:
    try:
        newest = max(os.stat(entry).st_mtime for entry in (path, *_pack_files(path)))
        if now_seconds - newest < STALE_SECONDS:
            return False
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _pack_files(path: str) -> list[str]:
    folder = f"{path}/pack"
    try:
        return [folder, *(f"{folder}/{name}" for name in os.listdir(folder))]
    except FileNotFoundError:
        return []


def remove_stale_quarantines(objects_dir: str, *, now_seconds: float | None = None) -> list[str]:
    """Remove what `stale_quarantines` finds, and return it."""
    found = stale_quarantines(objects_dir, now_seconds=now_seconds)
    for path in found:
        try:
            shutil.rmtree(path)
        except OSError as error:
            log.warning("unable to remove %s: %s", path, error)
    return found
