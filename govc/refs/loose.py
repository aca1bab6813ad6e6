"""Loose refs: one small file each below refs/, and how to notice cheaply that one changed.

    <oid hex> LF            a direct ref; a missing LF and trailing blanks are tolerated
    ref: <refname> LF       a symbolic ref
    a symbolic link whose target text starts with refs/: the old form of a symbolic ref

A `LooseScan` remembers the signature of every directory and of every file. Scanning again with the previous
scan at hand lists only directories that changed and reads only files that changed. A file that is
overwritten in place changes its own stat and not its directory's, so each file is stat'ed too while there
are at most LOOSE_STAT_MAX of them; above that only directories are, which sees everything that git does (it
renames) and misses an editor.

What never leaks: a file that isn't a ref is called broken, its content is shown to nobody, and symbolic
links to directories are not entered.

Source: gitrepository-layout "refs", git's refs/files-backend.c (files_read_raw_ref, loose_fill_ref_dir).
"""

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from govc.kernels.stamps import Stamps
from govc.protocol.oid import HashAlgorithm
from govc.protocol.refname import check_refname_format
from govc.watch import (
    GRAIN_NS,
    OUR_TROUBLE,
    ClockNs,
    StatFunction,
    StatSignature,
    WatchedFile,
    is_settled,
    read_regular,
    signature_of,
    watch_folder,
)

LOOSE_STAT_MAX = 2000
"""With more loose refs than this, a check looks at directories only."""

YOUNG_READ_MAX = 8
"""So many files that were changed just now are read once more; with more of them everything is looked at again."""

LOOSE_BYTES_MAX = 8192
"""A loose ref is an oid or one refname; a larger file is broken."""

_BLANKS = b" \t\n\v\f\r"


class LooseRef(NamedTuple):
    """What a loose ref's file says: an oid, or a symref's target, or (`problem` not empty) neither."""

    oid: bytes | None
    target: bytes | None
    problem: str = ""


class _LooseFile(NamedTuple):
    """One file as it was read. `signature` None: a symbolic link, which its directory vouches for."""

    name: bytes
    ref: LooseRef
    signature: StatSignature | None
    is_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    """One directory as it was listed; `prefix` is its refname prefix, with the slash."""

    prefix: bytes
    watch: WatchedFile
    subdirectories: tuple[str, ...]
    files: dict[str, _LooseFile]
    links: frozenset[str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LooseScan:
    """All loose refs of a repository at one moment.

    `refs` holds every well-named file, broken ones included; `directories` is keyed by disk path.
    """

    refs: dict[bytes, LooseRef]
    directories: dict[str, _Directory]
    warnings: tuple[str, ...]
    algo: HashAlgorithm
    _asked: "list[_Asked]" = field(default_factory=list, init=False, repr=False, compare=False)

    def is_current(
        self, stat: StatFunction = os.stat, clock_ns: ClockNs = time.time_ns, grain_ns: int = GRAIN_NS
    ) -> bool:
        """Say whether a new scan would find the same. One stat per directory, and per file while few; of files whose
        stamps prove nothing yet, while those are few, what they say. No, once a new scan would find such a stamp
        settled.
        """
        if stat is os.stat:
            if not self._asked:
                self._asked.append(_Asked.of(self))
            return self._asked[0].is_current(self.algo, clock_ns(), grain_ns)
        directories = self.directories.values()
        if not all(directory.watch.is_current(stat) for directory in directories):
            return False
        check_files = len(self.refs) <= LOOSE_STAT_MAX
        young: list[tuple[str, LooseRef]] = []
        for directory in directories:
            for filename, file in directory.files.items():
                if not file.is_settled:
                    young.append((f"{directory.watch.path}/{filename}", file.ref))
                    has_settled = file.signature is None or is_settled(file.signature, clock_ns(), grain_ns)
                    if has_settled or len(young) > YOUNG_READ_MAX:
                        return False
                if not check_files or file.signature is None:
                    continue
                if signature_of(f"{directory.watch.path}/{filename}", stat) != file.signature:
                    return False
        return all(read_loose_ref(path, self.algo) == ref for path, ref in young)

    def changed(self) -> frozenset[str] | None:
        """Return the paths of what isn't as it was; None when not all files were kept to be asked together."""
        if not self._asked or len(self.refs) > LOOSE_STAT_MAX:
            return None
        stamps = self._asked[0].stamps
        return stamps.changed() if stamps is not None else None

    def file_of(self, name: bytes) -> WatchedFile | None:
        """Return the file of one loose ref; None when there is none, or stat can't tell of it."""
        prefix, slash, _ = name.rpartition(b"/")
        for directory in self.directories.values():
            if directory.prefix == prefix + slash:
                for filename, file in directory.files.items():
                    if file.name == name and file.signature is not None:
                        path = f"{directory.watch.path}/{filename}"
                        return WatchedFile(path=path, signature=file.signature, is_settled=file.is_settled)
        return None

    def watched(self) -> list[WatchedFile] | None:
        """Return the files that `is_current` asks; None when stat can't tell of all of them."""
        directories = self.directories.values()
        files = [directory.watch for directory in directories]
        check_files = len(self.refs) <= LOOSE_STAT_MAX
        for directory in directories:
            for filename, file in directory.files.items():
                if file.signature is None or not file.is_settled:
                    return None
                if check_files:
                    path = f"{directory.watch.path}/{filename}"
                    files.append(WatchedFile(path=path, signature=file.signature, is_settled=True))
        return files


class _Asked(NamedTuple):
    """What `LooseScan.is_current` asks the real file system: all stamps in one call, and the young files."""

    stamps: Stamps | None
    young: tuple[tuple[str, _LooseFile], ...]

    @classmethod
    def of(cls, scan: LooseScan) -> "_Asked":
        """Gather them. `stamps` None: nothing proves the scan."""
        directories = scan.directories.values()
        files = [
            (f"{directory.watch.path}/{filename}", file)
            for directory in directories
            for filename, file in directory.files.items()
        ]
        young = tuple((path, file) for path, file in files if not file.is_settled)
        if len(young) > YOUNG_READ_MAX or not all(directory.watch.is_settled for directory in directories):
            return cls(None, ())
        watches = [directory.watch for directory in directories]
        present = [(watch.path, watch.signature) for watch in watches if watch.signature is not None]
        if len(scan.refs) <= LOOSE_STAT_MAX:
            present += [(path, file.signature) for path, file in files if file.signature is not None]
        return cls(Stamps(present, [watch.path for watch in watches if watch.signature is None]), young)

    def is_current(self, algo: HashAlgorithm, now_ns: int, grain_ns: int) -> bool:
        """As `LooseScan.is_current`."""
        if self.stamps is None:
            return False
        for _, file in self.young:
            if file.signature is None or is_settled(file.signature, now_ns, grain_ns):
                return False
        return self.stamps.are_current() and all(read_loose_ref(path, algo) == file.ref for path, file in self.young)


def parse_loose_ref(content: bytes, algo: HashAlgorithm) -> LooseRef:
    """Return what the content of a loose ref's file says; never raises."""
    if content.startswith(b"ref:"):
        target = content[4:].strip(_BLANKS)
        if check_refname_format(target, allow_onelevel=True):
            return LooseRef(None, target)
        return LooseRef(None, None, "symbolic ref to an ill-formed name")
    oid = algo.parse_hex(content[: algo.hex_size])
    if oid is None or content[algo.hex_size : algo.hex_size + 1].strip(_BLANKS + b"\0"):
        return LooseRef(None, None, "neither an object id nor a symbolic ref")
    if oid == algo.zero:
        return LooseRef(None, None, "null object id")
    return LooseRef(oid, None)


def read_loose_ref(path: str, algo: HashAlgorithm) -> LooseRef | None:
    """Return what the file at `path` says, None when there is no such file (a directory is none).

    A file that can't be read is a broken ref; OSError only when we lack descriptors or memory.
    """
    try:
        content = read_regular(path, LOOSE_BYTES_MAX, os.O_NOFOLLOW)
        if content is None:  # absent, or a link
            target = read_symref_link(path)
            if target is not None:
                return LooseRef(None, target)
            content = read_regular(path, LOOSE_BYTES_MAX)
    except IsADirectoryError:
        return None  # asked for again, it may be gone: git removes empty folders when it packs refs
    except OSError as error:
        if error.errno in OUR_TROUBLE:
            raise
        return None if os.path.isdir(path) else LooseRef(None, None, error.strerror or "unreadable")
    return None if content is None else parse_loose_ref(content, algo)


def read_symref_link(path: str) -> bytes | None:
    """Return the target of a legacy symref (a symbolic link to refs/...), None for anything else."""
    try:
        text = os.fsencode(os.readlink(path))
    except OSError:
        return None
    return text if text.startswith(b"refs/") and check_refname_format(text) else None


class _Scanner:
    """One scan: the fixed arguments, and what was gathered."""

    def __init__(
        self,
        algo: HashAlgorithm,
        previous: LooseScan | None,
        stat: StatFunction,
        clock_ns: ClockNs,
        grain_ns: int,
    ) -> None:
        self.algo = algo
        self.previous = previous.directories if previous is not None else {}
        self.trust_files = previous is not None and len(previous.refs) > LOOSE_STAT_MAX
        # All looked at in one call, before anything is listed: of so many files mostly one has changed.
        self.changed = previous.changed() if previous is not None and stat is os.stat else None
        self.stat = stat
        self.clock_ns = clock_ns
        self.grain_ns = grain_ns

    def directory(self, path: str, prefix: bytes, excluded: frozenset[bytes]) -> _Directory:
        """List one directory, or take its listing from the previous scan; read the files that need it."""
        watch = watch_folder(path, self.stat, self.clock_ns, self.grain_ns)
        old = self.previous.get(path)
        if old is not None and old.watch.is_settled and old.watch.signature == watch.signature:
            known = {
                filename: self.file_in_unchanged(path, filename, file, filename in old.links)
                for filename, file in old.files.items()
            }
            files = {name: file for name, file in known.items() if file is not None}
            return _Directory(
                prefix=prefix,
                watch=_watch_for(old.watch, old.links, files),
                subdirectories=old.subdirectories,
                files=files,
                links=old.links,
                warnings=old.warnings,
            )
        return self.list_directory(path, prefix, excluded, watch, old)

    def list_directory(
        self, path: str, prefix: bytes, excluded: frozenset[bytes], watch: WatchedFile, old: _Directory | None
    ) -> _Directory:
        """List one directory anew, using the previous reading of files whose signature is the same."""
        subdirectories: list[str] = []
        files: dict[str, _LooseFile] = {}
        links: set[str] = set()
        warnings: list[str] = []
        same = self.unchanged_files(path, old) if old is not None else {}
        for filename, kind in _list_entries(path, warnings):
            if kind == "f" and (proven := same.get(filename)) is not None:
                files[filename] = proven
                continue
            name = prefix + os.fsencode(filename)
            if kind == "d":
                if name + b"/" not in excluded:
                    subdirectories.append(filename)
                continue
            known = old.files.get(filename) if old is not None else None
            if known is None and not check_refname_format(name):
                warnings.append(f"ignoring ref with broken name {name.decode('utf-8', 'backslashreplace')}")
                continue
            if kind == "l":
                links.add(filename)
            old_file = known if old is not None and filename not in old.links else None
            file = self.file(f"{path}/{filename}", name, kind == "l", old_file)
            if file is not None:
                files[filename] = file
        return _Directory(
            prefix=prefix,
            watch=_watch_for(watch, links, files),
            subdirectories=tuple(subdirectories),
            files=files,
            links=frozenset(links),
            warnings=tuple(warnings),
        )

    def unchanged_files(self, path: str, old: _Directory) -> dict[str, _LooseFile]:
        """Return the files of a directory that were looked at and are what they were; links are never among them."""
        changed, links = self.changed, old.links
        if changed is None:
            return {}
        return {
            filename: file
            for filename, file in old.files.items()
            if file.is_settled
            and file.signature is not None
            and f"{path}/{filename}" not in changed
            and filename not in links
        }

    def file_in_unchanged(self, directory: str, filename: str, old: _LooseFile, is_link: bool) -> _LooseFile | None:
        """Return a file of a directory whose listing is known to be the same."""
        if old.is_settled and (self.trust_files or old.signature is None):
            return old
        return self.file(f"{directory}/{filename}", old.name, is_link, old)

    def file(self, path: str, name: bytes, is_link: bool, old: _LooseFile | None) -> _LooseFile | None:
        """Return one file, read again unless its signature proves the old reading.

        None: it vanished, or is a symbolic link that leads nowhere (git lists none either). The stat comes
        before the reading, so that whatever changes later differs from it.
        """
        may_stay = old is not None and old.is_settled and old.signature is not None and not is_link
        if may_stay and self.changed is not None and path not in self.changed:
            return old
        now_ns = self.clock_ns()
        signature = signature_of(path, self.stat)
        if signature is None:
            return None
        if is_link and (target := read_symref_link(path)) is not None:
            return _LooseFile(name, LooseRef(None, target), None, True)
        if old is not None and old.is_settled and old.signature == signature:
            return old
        ref = read_loose_ref(path, self.algo)
        if ref is None:
            return None
        return _LooseFile(name, ref, signature, is_settled(signature, now_ns, self.grain_ns))


def _watch_for(watch: WatchedFile, links: Collection[str], files: Collection[str]) -> WatchedFile:
    """Return the watch of a directory: one with a link that leads nowhere is listed each time.

    What such a link names may appear without a change to the directory.
    """
    return watch if all(link in files for link in links) else watch._replace(is_settled=False)


def _list_entries(path: str, warnings: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (file name, "d" directory | "l" symbolic link | "f" the rest), without dot files and locks."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                filename = entry.name
                if filename.startswith(".") or filename.endswith(".lock"):
                    continue
                if entry.is_symlink():
                    if entry.is_dir():
                        warnings.append(f"ignoring symbolic link to a directory {filename!r}")
                    else:
                        yield filename, "l"
                else:
                    yield filename, "d" if entry.is_dir() else "f"
    except (FileNotFoundError, NotADirectoryError):
        return  # removed since its parent was listed: the parent's stamp tells
    except OSError as error:
        if error.errno in OUR_TROUBLE:  # refs that seem to be gone would be pruned by every mirror
            raise
        warnings.append(f"cannot read a directory of refs: {error.strerror}")


def scan_loose(
    roots: tuple[tuple[str, bytes], ...],
    algo: HashAlgorithm,
    *,
    previous: LooseScan | None = None,
    excluded: frozenset[bytes] = frozenset(),
    stat: StatFunction = os.stat,
    clock_ns: ClockNs = time.time_ns,
    grain_ns: int = GRAIN_NS,
) -> LooseScan:
    """Return all loose refs below `roots`, each (disk path, refname prefix with its slash).

    `excluded` prefixes (with their slash) are not entered. Give `previous` to read only what changed.
    """
    scanner = _Scanner(algo, previous, stat, clock_ns, grain_ns)
    refs: dict[bytes, LooseRef] = {}
    directories: dict[str, _Directory] = {}
    warnings: list[str] = []
    pending = list(roots)
    while pending:
        path, prefix = pending.pop()
        directory = scanner.directory(path, prefix, excluded)
        directories[path] = directory
        warnings += directory.warnings
        for file in directory.files.values():
            refs[file.name] = file.ref
        for filename in directory.subdirectories:
            pending.append((f"{path}/{filename}", prefix + os.fsencode(filename) + b"/"))
    if scanner.changed is not None and len(refs) > LOOSE_STAT_MAX:
        # Files that were looked at before their folder was stay with its new stamp, and nobody looks at them again.
        return scan_loose(roots, algo, excluded=excluded, stat=stat, clock_ns=clock_ns, grain_ns=grain_ns)
    return LooseScan(refs, directories, tuple(warnings), algo)
