"""What is cached and what is durable: the state of the watched folder after some of the calls of a trace.

A file has cached content (what readers see, what a killed process leaves), durable content, and the list of changes in
between. A folder has cached names, durable names, and the changes in between. What a power cut may leave:

- Of a file, any choice of its unsynced changes, each lost, whole or torn, applied in order to the durable content.
- Of the names, one of two rules. *weak*, the least that POSIX systems promise: per name, the changes apply in order up
  to some point, independently of other names; a rename within a folder is one change of two names, across folders it is
  two changes. *ordered*, as ext4 does: the changes of all folders apply in order up to some point, not before the last
  sync.

fsync of a file makes its content durable, and under *ordered* all names so far; under *weak* it takes the sync of the
folder. A sync that fails leaves the cached content as it is and makes the unsynced changes *stuck*: no later sync makes
them durable, each of them may or may not lie on the disk (what ext4 and others do: the page counts as clean).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.trace import Call

ROOT = 0


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file and its mtime; zeros at the end are only counted, since logs are preallocated."""

    data: bytes = b""
    size: int = 0
    time_ns: int = 0

    @classmethod
    def of(cls, data: bytes, time_ns: int) -> "Content":
        """Content of these bytes."""
        return cls(data.rstrip(b"\0"), len(data), time_ns)

    def written(self, offset: int, piece: bytes, time_ns: int) -> "Content":
        """The content after a write."""
        end = offset + len(piece)
        before = self.data[:offset].ljust(offset, b"\0")
        data = (before + piece + self.data[end:]).rstrip(b"\0")
        return Content(data, max(self.size, end), time_ns)

    def cut(self, size: int, time_ns: int) -> "Content":
        """The content after a truncate."""
        return Content(self.data[:size].rstrip(b"\0"), size, time_ns)

    def __bytes__(self) -> bytes:
        return self.data.ljust(self.size, b"\0")


@dataclass(eq=False, slots=True)
class Change:
    """One unsynced change of a file: a write, a truncate (`size`), or other content altogether."""

    kind: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    time_ns: int = 0
    is_stuck: bool = False

    def apply(self, content: Content, data: bytes | None = None) -> Content:
        """The content with this change in it, a write perhaps with only a part of its bytes."""
        if self.kind == "truncate":
            return content.cut(self.size, self.time_ns)
        if self.kind == "content":
            return Content.of(self.data, self.time_ns)
        return content.written(self.offset, self.data if data is None else data, self.time_ns)


@dataclass(eq=False, slots=True)
class File:
    """One inode."""

    cached: Content
    durable: Content
    mode: int
    changes: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Something reaches the page cache."""
        self.cached = change.apply(self.cached)
        self.changes.append(change)

    def sync(self, ok: bool) -> None:
        """fsync, as far as content goes."""
        if not ok:
            for change in self.changes:
                change.is_stuck = True
            return
        if not any(change.is_stuck for change in self.changes):
            self.durable = self.cached
            self.changes.clear()
            return
        # What is not stuck is durable from now on; what is stuck stays in doubt, in its place in the order.
        first = next(index for index, change in enumerate(self.changes) if change.is_stuck)
        for change in self.changes[:first]:
            self.durable = change.apply(self.durable)
        self.changes = self.changes[first:]
        for change in self.changes:
            if not change.is_stuck:
                change.kind = f"sure {change.kind}" if not change.kind.startswith("sure ") else change.kind


@dataclass(eq=False, slots=True)
class Folder:
    """Names to node numbers."""

    cached: dict[str, int]
    durable: dict[str, int]
    mode: int = 0o755


class Part(NamedTuple):
    """One name in one folder leads to another node, or nowhere (None)."""

    folder: int
    name: str
    node: int | None


@dataclass(eq=False, slots=True)
class NameChange:
    """One call's change of names: one part, or two for a rename. `parts` loses what a sync_folder made durable."""

    parts: tuple[Part, ...]
    all_parts: tuple[Part, ...]


class Model:
    """The state after some calls. `apply` the calls of a trace to one that was made `of_folder` before them."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.folders: dict[int, Folder] = {ROOT: Folder({}, {})}
        self.links: dict[int, str] = {}
        self.by_inode: dict[int, int] = {}
        self.unsynced: list[NameChange] = []
        self.history: list[NameChange] = []
        self.first: dict[int, dict[str, int]] = {}
        self.committed = 0
        self._next = 1

    @classmethod
    def of_folder(cls, root: str) -> "Model":
        """All that lies in a folder, durable."""
        model = cls()
        model.by_inode[os.stat(root).st_ino] = ROOT
        model._scan(root, ROOT)
        model.first = {number: dict(folder.cached) for number, folder in model.folders.items()}
        return model

    def _scan(self, path: str, number: int) -> None:
        folder = self.folders[number]
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            known = self.by_inode.get(status.st_ino)
            if known is None:
                known = self._add(status.st_ino)
                if entry.is_symlink():
                    self.links[known] = os.readlink(entry.path)
                elif entry.is_dir():
                    self.folders[known] = Folder({}, {}, status.st_mode & 0o7777)
                    self._scan(entry.path, known)
                else:
                    with open(entry.path, "rb") as stream:
                        content = Content.of(stream.read(), status.st_mtime_ns)
                    self.files[known] = File(content, content, status.st_mode & 0o7777)
            folder.cached[entry.name] = folder.durable[entry.name] = known

    def _add(self, inode: int) -> int:
        number, self._next = self._next, self._next + 1
        self.by_inode[inode] = number
        return number

    # Looking things up

    def place(self, path: str) -> tuple[int, str]:
        """The folder of a path and the name in it."""
        folder_path, _, name = path.rpartition("/")
        return self.folder_at(folder_path), name

    def folder_at(self, path: str) -> int:
        """The number of a folder. KeyError."""
        number = ROOT
        for name in path.split("/") if path else ():
            number = self.folders[number].cached[name]
        return number

    def node_at(self, path: str) -> int | None:
        """What a path leads to."""
        try:
            folder, name = self.place(path)
        except KeyError:
            return None
        return self.folders[folder].cached.get(name)

    def file_of(self, inode: int) -> File:
        """The file with that inode."""
        return self.files[self.by_inode[inode]]

    # Applying calls

    def apply(self, call: Call) -> None:
        """Make one change."""
        getattr(self, f"_{call.kind}")(call)

    def apply_all(self, calls: Iterable[Call]) -> "Model":
        """Make them in order."""
        for call in calls:
            self.apply(call)
        return self

    def _names(self, *parts: Part) -> None:
        for part in parts:
            names = self.folders[part.folder].cached
            if part.node is None:
                names.pop(part.name, None)
            else:
                names[part.name] = part.node
        if len({part.folder for part in parts}) == 1:
            self.unsynced.append(NameChange(parts, parts))
        else:
            self.unsynced += [NameChange((part,), (part,)) for part in parts]
        self.history.append(NameChange(parts, parts))

    def _note(self, call: Call) -> None:
        """A remark changes nothing."""

    def _create(self, call: Call) -> None:
        number = self._add(call.inode)
        self.files[number] = File(Content(time_ns=call.time_ns), Content(time_ns=call.time_ns), call.mode)
        self._names(Part(*self.place(call.path), number))

    def _write(self, call: Call) -> None:
        self.file_of(call.inode).change(Change("write", call.offset, call.data, time_ns=call.time_ns))

    def _truncate(self, call: Call) -> None:
        self.file_of(call.inode).change(Change("truncate", size=call.size, time_ns=call.time_ns))

    def _content(self, call: Call) -> None:
        self.file_of(call.inode).change(Change("content", data=call.data, time_ns=call.time_ns))

    def _sync(self, call: Call) -> None:
        self.file_of(call.inode).sync(call.ok)
        if call.ok:
            self.committed = len(self.history)

    def _syncdata(self, call: Call) -> None:
        file = self.file_of(call.inode)
        if call.ok and file.cached.size != file.durable.size:
            self.committed = len(self.history)  # the new size is metadata, and takes the journal with it
        file.sync(call.ok)

    def _syncdir(self, call: Call) -> None:
        if not call.ok:
            return
        number = self.folder_at(call.path)
        for change in self.unsynced:
            kept = []
            for part in change.parts:
                if part.folder == number:
                    _apply_part(self.folders[number].durable, part)
                else:
                    kept.append(part)
            change.parts = tuple(kept)
        self.unsynced = [change for change in self.unsynced if change.parts]
        self.committed = len(self.history)

    def _syncfs(self, call: Call) -> None:
        if not call.ok:
            for file in self.files.values():
                file.sync(False)
            return
        for file in self.files.values():
            file.sync(True)
        for folder in self.folders.values():
            folder.durable = dict(folder.cached)
        self.unsynced.clear()
        self.committed = len(self.history)

    def _link(self, call: Call) -> None:
        self._names(Part(*self.place(call.target), self.by_inode[call.inode]))

    def _rename(self, call: Call) -> None:
        node = self.by_inode[call.inode]
        self._names(Part(*self.place(call.path), None), Part(*self.place(call.target), node))

    def _unlink(self, call: Call) -> None:
        self._names(Part(*self.place(call.path), None))

    def _rmdir(self, call: Call) -> None:
        self._names(Part(*self.place(call.path), None))

    def _mkdir(self, call: Call) -> None:
        number = self._add(call.inode)
        self.folders[number] = Folder({}, {}, call.mode)
        self.first[number] = {}
        self._names(Part(*self.place(call.path), number))

    def _symlink(self, call: Call) -> None:
        number = self._add(call.inode)
        self.links[number] = os.fsdecode(call.data)
        self._names(Part(*self.place(call.path), number))

    def _chmod(self, call: Call) -> None:
        """Permissions count as durable at once: nothing of ours depends on their order."""
        number = self.by_inode[call.inode]
        if number in self.files:
            self.files[number].mode = call.mode
        elif number in self.folders:
            self.folders[number].mode = call.mode


def _apply_part(names: dict[str, int], part: Part) -> None:
    if part.node is None:
        names.pop(part.name, None)
    else:
        names[part.name] = part.node
