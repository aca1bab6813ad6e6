"""Every question that a repository is asked, in one place.

`Reading` is what `Repository` and `Picture` have in common: the questions, each of which begins with `snapshot()`. A
`Repository` looks at the disk there, a `Picture` doesn't: it is one moment, held for as long as the caller likes.

Who is asked about: a **revision** is a `str` (an expression as for `git rev-parse`: "HEAD~3", "v1.0^{tree}",
"main:src/x.py", a short id), `bytes` (an oid, raw), or a `Commit`.

Errors: RevisionNotFound for what a string doesn't name or names of another kind, ObjectMissing for an oid that isn't
there, Corrupt for damaged objects, LimitExceeded, OSError. They are the same whether something was in memory or not.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from os import fsencode

from govc.errors import CorruptObject, ObjectMissing
from govc.graph.commits import follow_tags
from govc.kernels.history import Graph, make_handle
from govc.library.errors import RevisionNotFound
from govc.library.history import ORDERS, HistoryKeeper, Log
from govc.library.objects import KINDS, Objects
from govc.library.paths import PathHistories
from govc.library.refs import Ref, Refs
from govc.library.values import Blob, Commit, FileEntry, RawObject, Tag, Tree, TreeEntry
from govc.objects.commit import parse_commit_links
from govc.objects.errors import MalformedObject
from govc.objects.tag import parse_tag_links
from govc.objects.text import parse_identity, parse_text
from govc.objects.tree import is_tree
from govc.objects.types import COMMIT, TAG
from govc.protocol.oid import HashAlgorithm
from govc.refs.table import HeadState
from govc.repo.revision import BadRevision, resolve_strictly
from govc.repo.snapshot import Snapshot

Revision = str | bytes | Commit

PATHS_MAX = 16
"""Paths of one log."""

RESOLVED_MAX = 256
"""Expressions whose meaning a picture remembers."""

NO_CIDS: "array[int]" = array("I")


class Reading(ABC):
    """What can be asked. See the story of this module."""

    known_entries: Callable[[bytes], tuple[TreeEntry, ...] | None]
    """Return the entries of a tree that was listed before. What an oid names never changes."""

    @abstractmethod
    def snapshot(self) -> "Picture":
        """Return a picture that is true now."""

    def _picture_for(self, revision: Revision) -> "Picture":
        """Return a picture for questions about contents: what an oid names doesn't depend on the moment."""
        return self.snapshot()

    # Refs

    @property
    def refs(self) -> Refs:
        """The refs, as a mapping of names (`b"refs/heads/main"`) to `Ref`s; `refs.list(prefix)` lists them."""
        return self.snapshot().all_refs

    @property
    def head(self) -> HeadState:
        """HEAD: the branch that it is on (`symref_target`), or an oid."""
        return self.snapshot().all_refs.head

    def ref(self, name: bytes) -> Ref:
        """Return one ref. Raises RefNotFound."""
        return self.snapshot().all_refs[name]

    # Objects

    @property
    def objects(self) -> Objects:
        """The objects:

        `objects[oid]` is a RawObject (kind, data); `oid in objects`, `len(objects)`, `objects.header(oid)`.
        """
        return self.snapshot().all_objects

    def resolve(self, revision: Revision) -> bytes:
        """Return the oid that a revision names."""
        return self.snapshot().oid_of(revision)

    def __getitem__(self, revision: Revision) -> Commit | Tree | Blob | Tag:
        """Return the object that a revision names, parsed."""
        picture = self.snapshot()
        oid = picture.oid_of(revision)
        raw = picture.all_objects[oid]
        if raw.kind == "commit":
            return picture.commit_at(oid)
        if raw.kind == "tree":
            return Tree(oid, picture.all_objects.entries(oid))
        if raw.kind == "tag":
            return _parse_tag(oid, raw.data, picture.algo)
        return Blob(oid, raw.data)

    def commit(self, revision: Revision = "HEAD") -> Commit:
        """Return a commit; tags are followed."""
        picture = self.snapshot()
        return picture.commit_at(picture.commit_oid_of(revision))

    # Trees

    def tree(self, revision: Revision = "HEAD", path: bytes = b"") -> tuple[TreeEntry, ...]:
        """Return the entries of the tree at a path, in the order stored. Raises RevisionNotFound where no tree lies."""
        known = self.known_entries(revision) if not path and isinstance(revision, bytes) else None
        if known is not None:
            return known
        picture = self._picture_for(revision)
        return picture.all_objects.entries(picture.tree_oid_of(revision, path))

    def files(self, revision: Revision = "HEAD", path: bytes = b"") -> tuple[FileEntry, ...]:
        """Return everything below a tree that is no tree itself, as `git ls-tree -r`; paths begin below `path`."""
        picture = self._picture_for(revision)
        return picture.all_objects.files(picture.tree_oid_of(revision, path))

    def entry(self, revision: Revision, path: bytes) -> TreeEntry | None:
        """Return what lies at a path, None for nothing."""
        picture = self._picture_for(revision)
        return picture.entry_at(picture.tree_oid_of(revision), path)

    def blob(self, revision: Revision, path: bytes = b"") -> bytes:
        """Return the content of a file:

        of the one at `path` of a revision, or of the blob that the revision itself names.
        """
        picture = self._picture_for(revision)
        if not path:
            oid = picture.oid_of(revision)
        else:
            entry = picture.entry_at(picture.tree_oid_of(revision), path)
            if entry is None:
                raise RevisionNotFound(f"{_shown(revision)}:{path.decode('utf-8', 'replace')}", "nothing lies there")
            oid = entry.oid
        raw: RawObject = picture.all_objects[oid]
        if raw.kind != "blob":
            raise RevisionNotFound(_shown(revision), f"is a {raw.kind}, not a blob")
        return raw.data

    # History

    def log(
        self,
        *tips: Revision,
        exclude: Iterable[Revision] = (),
        order: str = "default",
        first_parent: bool = False,
        paths: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> Log:
        """Return the commits that `tips` (without any: HEAD) reach and `exclude` doesn't, as `git rev-list` lists them.

        `order`: "default" (by date), "date" (--date-order), "topo" (--topo-order). `paths`: only commits that changed
        something at one of these paths (files or folders, no patterns), with git's default simplification.
        """
        picture = self.snapshot()
        if order not in ORDERS:
            raise ValueError(f"order is one of {', '.join(ORDERS)}, not {order!r}")
        if len(paths) > PATHS_MAX:
            raise ValueError(f"at most {PATHS_MAX} paths")
        graph, cids = picture.cids_of(tips or ("HEAD",), exclude)
        count, kind = len(tips) or 1, ORDERS[order]
        most = -1 if limit is None else max(0, limit)
        names = [path.strip(b"/") for path in paths]
        histories = picture.path_histories
        question = (cids.tobytes(), count, kind, first_parent, most, tuple(names))
        made = histories.answer(graph, question) if names else None
        if made is not None:
            return Log(graph, picture.all_objects, made)
        if len(names) == 1 and len(cids) == count:
            index = histories.index
            made = index.order(picture.inner, graph, cids, kind, first_parent, most, names[0])
        if made is None:
            try:
                columns = histories.columns(graph, names) if names else None
            except ObjectMissing:
                # Perhaps of commits that nothing reaches any more, and that were pruned: a new graph hasn't met them.
                picture.history.forget()
                graph, cids = picture.cids_of(tips or ("HEAD",), exclude)
                question = (cids.tobytes(), *question[1:])
                columns = histories.columns(graph, names)
            made = graph.order(cids[:count], cids[count:], kind, first_parent, most, columns)
        if names:
            histories.remember(graph, question, made)
        return Log(graph, picture.all_objects, made)

    def merge_bases(self, one: Revision, *others: Revision) -> list[Commit]:
        """Return the best common ancestors of `one` and any of the others, newest first: `git merge-base --all`."""
        picture = self.snapshot()
        graph, cids = picture.cids_of((one, *others))
        found = sorted(graph.merge_bases(cids[0], cids[1:]), key=lambda cid: -graph.time(cid))
        return [make_handle(Commit, graph, picture.all_objects, cid) for cid in found]

    def merge_base(self, one: Revision, *others: Revision) -> Commit | None:
        """Return the newest of the best common ancestors, None when there is none."""
        return next(iter(self.merge_bases(one, *others)), None)

    def ahead_behind(self, one: Revision, other: Revision) -> tuple[int, int]:
        """Return how many commits only `one` reaches, and how many only `other`."""
        graph, cids = self.snapshot().cids_of((one, other))
        return graph.ahead_behind(cids[0], cids[1])

    def is_ancestor(self, old: Revision, new: Revision) -> bool:
        """Tell whether `new` reaches (or is) `old`."""
        graph, cids = self.snapshot().cids_of((old, new))
        return graph.is_ancestor(cids[0], cids[1])

    def contains(self, revision: Revision, prefix: bytes = b"refs/heads/") -> list[bytes]:
        """Return the names of the refs that reach a commit (`git for-each-ref --contains`), in byte order."""
        picture = self.snapshot()
        refs = [ref for ref in picture.all_refs.list(prefix) if picture.is_commit(ref.peeled or ref.oid)]
        graph, cids = picture.cids_of((revision, *(ref.peeled or ref.oid for ref in refs)))
        reached = graph.reached_by(cids[0], cids[1:])
        return [ref.name for ref, is_reached in zip(refs, reached, strict=True) if is_reached]


class Picture(Reading):
    """A repository at one moment. Immutable; may be asked from any thread, and after the repository has changed.

    Objects that are written later are found, too: what an oid names doesn't depend on the moment.
    """

    def __init__(
        self, inner: Snapshot, refs: Refs, objects: Objects, history: HistoryKeeper, path_histories: PathHistories
    ) -> None:
        self.inner = inner
        self.all_refs = refs
        self.all_objects = objects
        self.known_entries = objects.known_entries
        self.history = history
        self.path_histories = path_histories
        self._resolved: dict[str, bytes] = {}
        self._last_asked: tuple[str, Graph, array[int]] | None = None

    def snapshot(self) -> "Picture":
        """Return this: it is as true as it was."""
        return self

    @property
    def algo(self) -> HashAlgorithm:
        """The hash that names objects."""
        return self.inner.algo

    @property
    def is_shallow(self) -> bool:
        """Whether history was cut off here."""
        return bool(self.inner.shallow)

    # What the questions are made of

    def oid_of(self, revision: Revision) -> bytes:
        """Return the oid that a revision names; bytes and commits are taken at their word."""
        if isinstance(revision, Commit):
            return revision.oid
        if isinstance(revision, bytes):
            if len(revision) != self.algo.oid_size:
                raise ValueError(f"an oid has {self.algo.oid_size} bytes; expressions are str")
            return revision
        known = self._resolved.get(revision)
        if known is not None:
            return known
        try:
            with self.all_objects.lock:
                found = resolve_strictly(self.inner, fsencode(revision))
        except BadRevision as error:
            raise RevisionNotFound(revision, error.reason) from error
        # What was found holds for this moment; that nothing was found doesn't, for objects may come.
        if len(self._resolved) >= RESOLVED_MAX:
            self._resolved.clear()
        self._resolved[revision] = found
        return found

    def commit_oid_of(self, revision: Revision) -> bytes:
        """Return the oid of the commit that a revision leads to."""
        oid = self.oid_of(revision)
        if isinstance(revision, Commit) or self.history.graph_of(self.inner).find(oid) >= 0:
            return oid
        return self._follow(revision, oid, "commit")

    def tree_oid_of(self, revision: Revision, path: bytes = b"") -> bytes:
        """Return the oid of the tree that a revision leads to, or of the one at a path below it."""
        oid = self.oid_of(revision)
        objects = self.all_objects
        if objects.header(oid)[0] != "tree":
            oid = parse_commit_links(objects[self.commit_oid_of(revision)].data, self.algo).tree
        if not path.strip(b"/"):
            return oid
        entry = self.entry_at(oid, path)
        if entry is None or not is_tree(entry.mode):
            raise RevisionNotFound(f"{_shown(revision)}:{path.decode('utf-8', 'replace')}", "no tree lies there")
        return entry.oid

    def entry_at(self, tree_oid: bytes, path: bytes) -> TreeEntry | None:
        """Return what lies at a path below a tree; b"" is nothing."""
        names = [name for name in path.split(b"/") if name]
        found: tuple[int, bytes] | None = None
        for name in names:
            if found is not None and not is_tree(found[0]):
                return None
            found = self.all_objects.find_entry(found[1] if found is not None else tree_oid, name)
            if found is None:
                return None
        return TreeEntry(found[0], names[-1], found[1]) if found is not None else None

    def is_commit(self, oid: bytes) -> bool:
        """Tell whether an object is there and is a commit."""
        if self.history.graph_of(self.inner).find(oid) >= 0:
            return True
        try:
            return self.all_objects.header(oid)[0] == "commit"
        except ObjectMissing:
            return False

    def commit_at(self, oid: bytes) -> Commit:
        """Return the handle of a commit."""
        graph, cids = self.cids_of((oid,))
        return make_handle(Commit, graph, self.all_objects, cids[0])

    def cids_of(self, revisions: Iterable[Revision], more: Iterable[Revision] = ()) -> "tuple[Graph, array[int]]":
        """Return the graph, and the numbers of these commits in it."""
        graph = self.history.graph_of(self.inner)
        asked = (*revisions, *more)
        if len(asked) == 1 and isinstance(asked[0], str):
            # What a log is asked for most, and the same as last time.
            known = self._last_asked
            if known is not None and known[0] == asked[0] and known[1] is graph:
                return graph, known[2]
            found = self.history.find(self.inner, graph, [self.commit_oid_of(asked[0])])
            self._last_asked = (asked[0], graph, found)
            return graph, found
        names = [self.commit_oid_of(revision) for revision in asked]
        return graph, self.history.find(self.inner, graph, names)

    def _follow(self, revision: Revision, oid: bytes, kind: str) -> bytes:
        store = self.inner.store
        with self.all_objects.lock:
            number = store.find(oid)
            if number < 0:
                raise ObjectMissing(oid)
            type_number = store.type_of(number)
            if type_number == TAG:
                _, number, type_number = follow_tags(store, number)
            if type_number != COMMIT:
                raise RevisionNotFound(_shown(revision), f"leads to a {KINDS[type_number]}, not a {kind}")
            return store.oid_of(number)


def _shown(revision: Revision) -> str:
    if isinstance(revision, Commit):
        return revision.hex
    return revision.hex() if isinstance(revision, bytes) else revision


def _parse_tag(oid: bytes, data: bytes, algo: HashAlgorithm) -> Tag:
    try:
        links = parse_tag_links(data, algo)
    except MalformedObject as error:
        raise CorruptObject(oid, str(error)) from error
    text = parse_text(data)
    return Tag(
        oid=oid,
        target_oid=links.oid,
        target_kind=KINDS[links.type_number],
        name=text.get(b"tag") or b"",
        tagger=parse_identity(text.get(b"tagger") or b""),
        message=text.message,
    )
