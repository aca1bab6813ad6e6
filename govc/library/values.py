"""What answers are made of: raw objects, commits, tags, entries of trees.

Oids are raw bytes, as everywhere in govc (`.hex()` makes digits of them); names and paths are bytes, as git stores
them. A `Commit` is a number in the graph until it is asked for more: oid, tree, time and parents come from the graph,
and who wrote it and why from its content, which is read and cut up when it is asked for.

A commit's `parents` are those that the repository says it has: none at a shallow boundary, others where info/grafts
says so. `text.get_all(b"parent")` is what the commit itself says.
"""

from typing import TYPE_CHECKING, NamedTuple

from govc.kernels.history import Handle, make_handle
from govc.objects.text import Identity, ObjectText, parse_identity, parse_text

if TYPE_CHECKING:
    from govc.library.objects import Objects

__all__ = ["Blob", "Commit", "FileEntry", "Identity", "RawObject", "Tag", "Tree", "TreeEntry"]

NOBODY = Identity(b"", b"", 0, 0)


class RawObject(NamedTuple):
    """An object as stored: `kind` is "commit", "tree", "blob" or "tag"."""

    kind: str
    data: bytes


class TreeEntry(NamedTuple):
    """An entry of one tree: the mode as written (0o100644, say), the name of one path component, the oid."""

    mode: int
    name: bytes
    oid: bytes


class FileEntry(NamedTuple):
    """A file, symbolic link or submodule somewhere below a tree; `path` is relative to that tree."""

    mode: int
    path: bytes
    oid: bytes


class Commit(Handle):
    """A commit. Equal to another one of the same oid."""

    __slots__ = ()

    @property
    def hex(self) -> str:
        """The oid in hexadecimal digits."""
        return self.oid.hex()

    @property
    def parent_oids(self) -> tuple[bytes, ...]:
        """The parents' names, the first parent first."""
        graph = self.graph
        return tuple(map(graph.oid, graph.parents(self.cid)))

    @property
    def parents(self) -> "tuple[Commit, ...]":
        """The parents."""
        graph, source = self.graph, self.source
        return tuple(make_handle(Commit, graph, source, cid) for cid in graph.parents(self.cid))

    @property
    def raw(self) -> bytes:
        """The content. Raises ObjectMissing, Corrupt."""
        source: Objects = self.source
        found: RawObject = source[self.oid]
        return found.data

    @property
    def text(self) -> ObjectText:
        """All headers, and the message."""
        return parse_text(self.raw)

    @property
    def author(self) -> Identity:
        """Who wrote it, and when."""
        return parse_identity(self.text.get(b"author") or b"")

    @property
    def committer(self) -> Identity:
        """Who committed it, and when."""
        return parse_identity(self.text.get(b"committer") or b"")

    # `message` is the handle's: the headers aren't cut up for what logs are asked for most. It is in the encoding that
    # the header `encoding` names (UTF-8 without one).

    def odd_message(self) -> bytes:
        """Return the message where the content doesn't begin as commits do."""
        return self.text.message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and self.oid == other.oid

    def __hash__(self) -> int:
        return hash(self.oid)

    def __repr__(self) -> str:
        return f"<Commit {self.hex}>"


class Tree(NamedTuple):
    """A tree with its entries, in the order in which they are stored."""

    oid: bytes
    entries: tuple[TreeEntry, ...]


class Blob(NamedTuple):
    """A file's content."""

    oid: bytes
    data: bytes


class Tag(NamedTuple):
    """An annotated tag: which object (`target_oid`, of kind `target_kind`), under which name, by whom, why."""

    oid: bytes
    target_oid: bytes
    target_kind: str
    name: bytes
    tagger: Identity
    message: bytes
