"""The entries of an archive: a walk over a tree in git's order, with export-ignore, export-subst and conversions.

A folder comes just before the first entry below it that is written, so that an empty one (by pathspec, say) leaves no
trace; a submodule is an empty folder. Everything has the prefix in front; with a prefix that ends in a slash the root
itself is the first entry.

Content is read when the container asks for it, one object at a time, and in pieces when it is larger than
core.bigFileThreshold (then it isn't converted, as in git).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from govc.archive.attributes import Attributes, Value
from govc.archive.convert import ATTRIBUTE_NAMES, LineEnds, convert_to_worktree, looks_binary
from govc.archive.pathspec import Pathspec
from govc.errors import CorruptObject, LimitExceeded, ObjectMissing
from govc.objects.errors import MalformedObject
from govc.objects.tree import TreeEntry, is_gitlink, is_tree, parse_tree
from govc.objects.types import BLOB, TREE
from govc.odb.store import ObjectStore

DIRECTORY, REGULAR, LINK = "directory", "file", "link"
TREE_DEPTH_MAX = 2048
_MODES = {REGULAR: 0o100644, LINK: 0o120000, DIRECTORY: 0o040000}
_EXPORT = ("export-ignore", "export-subst")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """One entry. `path` has the prefix, and a slash at its end when it is a folder; `chunks()` yields the content."""

    path: bytes
    mode: int
    kind: str
    oid: bytes
    size: int = 0
    is_streamed: bool = False
    chunks: Callable[[], Iterator[bytes]] = field(default=lambda: iter(()))
    is_binary: Callable[[], bool] = field(default=lambda: False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySettings:
    """How a tree becomes entries. `substitute` expands $Format:...$, None when there is no commit to speak of.

    `reads_attributes`: whether the tree's own .gitattributes count.
    `binary_drivers`: the diff drivers of the configuration that say whether their files are binary.
    """

    prefix: bytes = b""
    pathspec: Pathspec
    attributes: Attributes
    reads_attributes: bool = True
    line_ends: LineEnds = field(default_factory=LineEnds)
    substitute: Callable[[bytes], bytes] | None = None
    stream_bytes_min: int = 512 << 20
    binary_drivers: dict[str, bool] = field(default_factory=dict)
    tree_depth_max: int = TREE_DEPTH_MAX


class TreeWalk:
    """The entries of one tree. `tick` is called between two of them."""

    def __init__(self, store: ObjectStore, tree_oid: bytes, settings: EntrySettings, tick: Callable[[], None]) -> None:
        self._store = store
        self._root = tree_oid
        self._settings = settings
        self._tick = tick
        self._waiting: list[ArchiveEntry] = []

    def entries(self) -> Iterator[ArchiveEntry]:
        """Yield them all. Raises ObjectMissing, CorruptObject, LimitExceeded."""
        prefix = self._settings.prefix
        if prefix.endswith(b"/"):
            stripped = prefix.rstrip(b"/")
            yield self._folder(stripped + b"/", self._root)
        for path, entry in self._walk(self._root, ""):
            full = prefix + path.encode("utf-8", "surrogateescape")
            if is_tree(entry.mode):
                self._enqueue(full + b"/", entry.oid)
                continue
            # Folders that nothing was written below are no part of the archive.
            self._waiting = [folder for folder in self._waiting if full.startswith(folder.path)]
            yield from self._waiting
            self._waiting = []
            made = self._make(path, full, entry)
            if made is not None:
                yield made

    def paths(self) -> Iterator[str]:
        """Yield every path that the pathspecs may name, folders included."""
        for path, _entry in self._walk(self._root, "", filtered=False):
            yield path

    def _enqueue(self, full: bytes, oid: bytes) -> None:
        self._waiting = [folder for folder in self._waiting if full.startswith(folder.path)]
        self._waiting.append(self._folder(full, oid))

    def _folder(self, path: bytes, oid: bytes) -> ArchiveEntry:
        return ArchiveEntry(path=path, mode=_MODES[DIRECTORY], kind=DIRECTORY, oid=oid)

    def _walk(self, tree_oid: bytes, base: str, *, filtered: bool = True) -> Iterator[tuple[str, TreeEntry]]:
        pathspec = self._settings.pathspec
        stack = [(base, iter(self._open_folder(tree_oid, base)))]
        while stack:
            self._tick()
            folder, items = stack[-1]
            entry = next(items, None)
            if entry is None:
                stack.pop()
                continue
            path = folder + entry.name.decode("utf-8", "surrogateescape")
            if not is_tree(entry.mode):
                if pathspec.matches(path):
                    yield path, entry
                continue
            if not pathspec.may_match_below(f"{path}/"):
                continue
            if filtered and self._attributes(f"{path}/", _EXPORT)["export-ignore"] is True:
                continue
            if len(stack) > self._settings.tree_depth_max:
                raise LimitExceeded("core.maxTreeDepth", self._settings.tree_depth_max)
            yield path, entry
            stack.append((f"{path}/", iter(self._open_folder(entry.oid, f"{path}/"))))

    def _open_folder(self, oid: bytes, folder: str) -> list[TreeEntry]:
        """Return the entries of a folder, after telling `attributes` what its .gitattributes says."""
        entries = self._read_tree(oid)
        if self._settings.reads_attributes:
            found = next((entry for entry in entries if entry.name == b".gitattributes"), None)
            if found is not None and found.mode & 0o170000 == 0o100000:
                type_number, data = self._store.read_oid(found.oid)
                if type_number == BLOB:
                    self._settings.attributes.provide(folder, data)
        return entries

    def _attributes(self, path: str, names: tuple[str, ...]) -> dict[str, Value]:
        return self._settings.attributes.of(path, names)

    def _read_tree(self, oid: bytes) -> list[TreeEntry]:
        type_number, data = self._store.read_oid(oid)
        if type_number != TREE:
            raise CorruptObject(oid, "is not a tree")
        try:
            return parse_tree(data, self._store.algo)
        except MalformedObject as error:
            raise CorruptObject(oid, str(error)) from error

    def _make(self, path: str, full: bytes, entry: TreeEntry) -> ArchiveEntry | None:
        shown = f"{path}/" if is_gitlink(entry.mode) else path
        found = self._attributes(shown, (*_EXPORT, *ATTRIBUTE_NAMES, "diff"))
        if found["export-ignore"] is True:
            return None
        if is_gitlink(entry.mode):
            return self._folder(full + b"/", entry.oid)
        number = self._store.find(entry.oid)
        if number < 0:
            raise ObjectMissing(entry.oid, "blob")
        substitute = self._settings.substitute if found["export-subst"] is True else None
        kind = LINK if entry.mode & 0o170000 == _MODES[LINK] else REGULAR
        size = self._store.size_of(number)
        if kind == REGULAR and found["export-subst"] is not True and size > self._settings.stream_bytes_min:
            return self._streamed(full, entry, number, size, found)
        type_number, content = self._store.read(number)
        if type_number != BLOB:
            raise CorruptObject(entry.oid, "is not a blob")
        if kind == REGULAR:
            content = convert_to_worktree(content, found, self._settings.line_ends, self._store.algo)
            if substitute is not None:
                content = substitute(content)
        return ArchiveEntry(
            path=full,
            mode=_mode(entry.mode, kind),
            kind=kind,
            oid=entry.oid,
            size=len(content),
            chunks=lambda: iter((content,)),
            is_binary=lambda: self._is_binary(found["diff"], content),
        )

    def _streamed(self, full: bytes, entry: TreeEntry, number: int, size: int, found: dict[str, Value]) -> ArchiveEntry:
        def begins_binary() -> bool:
            return self._is_binary(found["diff"], next(self._store.iter_content(number), b""))

        return ArchiveEntry(
            path=full,
            mode=_mode(entry.mode, REGULAR),
            kind=REGULAR,
            oid=entry.oid,
            size=size,
            is_streamed=True,
            chunks=lambda: self._store.iter_content(number),
            is_binary=begins_binary,
        )

    def _is_binary(self, diff: Value, content: bytes) -> bool:
        if isinstance(diff, bool):
            return not diff
        if isinstance(diff, str) and diff in self._settings.binary_drivers:
            return self._settings.binary_drivers[diff]
        return looks_binary(content)


def _mode(mode: int, kind: str) -> int:
    """Return the mode as git writes it: only the owner's execute bit of a file counts."""
    if kind == REGULAR:
        return 0o100755 if mode & 0o100 else 0o100644
    return _MODES[kind]
