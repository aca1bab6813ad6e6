"""From the filter that a client sends to the selection that the graph applies.

Here the wire's value (`protocol.object_filter`) meets the graph's (`graph.filter`), and the repository's own word on
which kinds it serves.

Source: git-config "uploadpackfilter.*", rev-list "--filter"; rows U0-50..53.
"""

from govc.errors import GovcError, LimitExceeded, ObjectMissing
from govc.graph.commits import follow_tags
from govc.graph.filter import ALL, ALL_TYPES, NO_BLOBS, ObjectSelection
from govc.graph.interface import Ticker, Work
from govc.graph.sparse import PATTERNS_BYTES_MAX, SparsePatterns, parse_sparse_patterns
from govc.objects.commit import parse_commit_links
from govc.objects.tree import parse_tree
from govc.objects.types import BLOB, COMMIT, TREE
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.object_filter import (
    BlobLimit,
    BlobNone,
    Combine,
    ObjectFilter,
    ObjectType,
    SparseOid,
    TreeDepth,
    find_banned_filter,
)
from govc.repo.snapshot import Snapshot
from govc.service.policy import UploadPolicy

SPARSE_PARTS_MAX = 64
"""A filter that names patterns more often is refused. All lists that it names are PATTERNS_BYTES_MAX long at most."""


class FilterUnusable(GovcError):
    """A filter names patterns that can't be read: git finds out when it makes the pack, not before. Its own words."""

    @property
    def public_text(self) -> str:
        """Git's own words."""
        return str(self)


def check_filter(object_filter: ObjectFilter, snapshot: Snapshot, policy: UploadPolicy) -> None:
    """Raise RemoteProtocolError for a filter that is banned here."""
    depth_max = None
    if snapshot.config.find_entry("uploadpackfilter.tree.maxdepth") is not None:
        depth_max = snapshot.config.get_int("uploadpackfilter.tree.maxdepth", 0)
    banned = find_banned_filter(object_filter, lambda kind: policy.allows_filter_kind(snapshot.config, kind), depth_max)
    if banned is not None:
        raise RemoteProtocolError(banned)


def select_objects(object_filter: ObjectFilter | None, snapshot: Snapshot) -> Work[ObjectSelection]:
    """Return the selection for a filter. Raises FilterUnusable for one that names no blob, LimitExceeded."""
    if object_filter is None:
        return ALL
    return (yield from _convert(object_filter, _PatternLists(snapshot)))


class _PatternLists:
    """The lists of patterns that the parts of one filter name: each list once, however often it is named."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lists: dict[bytes, SparsePatterns] = {}
        self._named = 0
        self._bytes = 0
        self.ticker = Ticker()

    def find(self, expression: bytes) -> SparsePatterns:
        """Return the list in the blob that an expression names. Raises FilterUnusable, LimitExceeded."""
        self._named += 1
        if self._named > SPARSE_PARTS_MAX:
            raise LimitExceeded("sparse filters", SPARSE_PARTS_MAX)
        store = self._snapshot.store
        try:
            oid = _find_blob(expression, self._snapshot)
            known = self._lists.get(oid)
            if known is None:
                number = store.find(oid)
                self._bytes += store.size_of(number)
                if self._bytes > PATTERNS_BYTES_MAX:
                    raise LimitExceeded("sparse patterns", PATTERNS_BYTES_MAX, self._bytes)
                known = self._lists[oid] = parse_sparse_patterns(store.read(number)[1])
        except ObjectMissing as error:
            raise _unusable(expression) from error
        return known


def _convert(object_filter: ObjectFilter, lists: _PatternLists) -> Work[ObjectSelection]:
    """Convert one filter; `combine:` nests no deeper than its parser allows."""
    if isinstance(object_filter, BlobNone):
        return NO_BLOBS
    if isinstance(object_filter, BlobLimit):
        return ObjectSelection(blob_limit=object_filter.size_limit)
    if isinstance(object_filter, TreeDepth):
        return ObjectSelection(tree_depth=object_filter.depth)
    if isinstance(object_filter, ObjectType):
        return ObjectSelection(types=ALL_TYPES & {object_filter.type_number})
    if isinstance(object_filter, SparseOid):
        return ObjectSelection(sparse=(lists.find(object_filter.expression),))
    assert isinstance(object_filter, Combine)
    selection = ALL
    for part in object_filter.parts:
        selection = selection.and_also((yield from _convert(part, lists)))
        if lists.ticker.due():
            yield
            lists.ticker.restart()
    return selection


def _find_blob(expression: bytes, snapshot: Snapshot) -> bytes:
    """Return the blob that an expression names: it is an oid, a ref, or either of them and `:path`.

    Raises FilterUnusable, ObjectMissing.
    """
    name, colon, path = expression.partition(b":")
    oid = snapshot.algo.parse_hex(name) or _resolve_name(name, snapshot)
    if oid is not None and colon:
        oid = _entry_at(oid, path, snapshot)
    number = snapshot.store.find(oid) if oid is not None else -1
    if oid is None or number < 0 or snapshot.store.type_of(number) != BLOB:
        raise _unusable(expression)
    return oid


def _unusable(expression: bytes) -> FilterUnusable:
    return FilterUnusable(f"unable to access sparse blob in '{expression.decode('utf-8', 'replace')}'")


def _resolve_name(name: bytes, snapshot: Snapshot) -> bytes | None:
    for prefix in (b"", b"refs/", b"refs/tags/", b"refs/heads/"):
        oid = snapshot.table.resolve(prefix + name)
        if oid is not None:
            return oid
    return None


def _entry_at(oid: bytes, path: bytes, snapshot: Snapshot) -> bytes | None:
    """Return the oid at a path below a commit, tag or tree."""
    store, algo = snapshot.store, snapshot.algo
    number = store.find(oid)
    if number < 0:
        return None
    _tags, number, type_number = follow_tags(store, number)
    if type_number == COMMIT:
        oid = parse_commit_links(store.read(number)[1], algo).tree
    elif type_number == TREE:
        oid = store.oid_of(number)
    for name in path.strip(b"/").split(b"/"):
        type_number, content = store.read_oid(oid)
        found = None
        if type_number == TREE:
            found = next((entry for entry in parse_tree(content, algo) if entry.name == name), None)
        if found is None:
            return None
        oid = found.oid
    return oid
