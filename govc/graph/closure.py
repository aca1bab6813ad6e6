"""The objects to send: reachable from the wants and not from the haves.

1. Wants and haves are peeled. Wanted tags, trees and blobs go in by themselves, whatever a filter says.
2. Commits: a date-ordered walk paints the range (`walk.find_range`).
3. Trees and blobs: each commit of the range is compared with its parents (`trees.Introductions`).
4. Annotated tags whose target is sent ride along (include-tag).

Both sides see history as the client will: cut at the client's shallow commits and at the new boundary. A
commit that the cut leaves without parents has its whole tree sent. The result never lacks an object that the
client needs; it may hold a few that the client has (content that came back after being gone, wrong clocks),
as git's own does.

When a shallow client is deepened, `shallow.ShallowUpdate` says what to add: the parents of unshallowed
commits are wants, and those commits themselves haves.

Source: git's upload-pack.c (create_pack_file), list-objects.c, builtin/pack-objects.c (add_ref_tag).
"""

from array import array
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from govc.errors import ObjectMissing
from govc.graph.commits import History, find_numbers, follow_tags
from govc.graph.filter import ALL, ObjectSelection
from govc.graph.interface import Ticker, Work
from govc.graph.path_walk import PathWalk
from govc.graph.trees import (
    ABSENT,
    HAD,
    TREE_DEPTH_MAX,
    Introductions,
    parents_first,
    walk_commits,
)
from govc.graph.walk import CommitRange, find_range
from govc.objects.types import BLOB, COMMIT, TREE

COMPLETE_ROOTS_HALF = 2
"""The trees of this many newest and oldest haves are marked: more of them save little and cost time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosureRequest:
    """What one fetch asks for; all are raw oids.

    `client_shallow`: commits whose parents the client lacks. `boundary`: commits whose parents are not to be
    sent. `include_tags`: tag oid to the oid it peels to, candidates to ride along. Haves and shallow oids
    that the store lacks are ignored; a want that it lacks raises ObjectMissing.
    """

    wants: tuple[bytes, ...]
    haves: tuple[bytes, ...] = ()
    client_shallow: frozenset[bytes] = frozenset()
    boundary: frozenset[bytes] = frozenset()
    selection: ObjectSelection = ALL
    include_tags: Mapping[bytes, bytes] = field(default_factory=dict)
    tree_depth_max: int = TREE_DEPTH_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The objects to send, as object numbers: commits (newest first), tags, trees, blobs, in this order.

    `client_has` tells by number which objects are known to be at the client, fit as bases of thin deltas; it may not
    be all that the client has, and is empty under a filter (a partial clone may lack what its history names).
    """

    numbers: "array[int]"
    client_has: Container[int]
    commit_count: int
    tag_count: int
    tree_count: int
    blob_count: int


@dataclass(slots=True)
class Peeled:
    """Wants or haves by type, as numbers."""

    commits: list[int] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)
    trees: list[int] = field(default_factory=list)
    blobs: list[int] = field(default_factory=list)

    def add(self, tags: list[int], number: int, type_number: int) -> None:
        """Note what `follow_tags` returned."""
        self.tags += tags
        if number >= 0:
            {COMMIT: self.commits, TREE: self.trees, BLOB: self.blobs}[type_number].append(number)

    def extend(self, more: "Peeled") -> None:
        """Note what others were peeled to."""
        self.commits += more.commits
        self.tags += more.tags
        self.trees += more.trees
        self.blobs += more.blobs


def find_closure(history: History, request: ClosureRequest) -> Work[Closure]:
    """Return the objects to send for `request`. Raises ObjectMissing, Corrupt, LimitExceeded."""
    reader = history.reader
    history = history.cut(find_numbers(reader, request.client_shallow | request.boundary))
    wants = yield from peel_wants(history, request.wants)
    haves = yield from peel_haves(history, request.haves)
    commits = yield from find_range(history, wants.commits, haves.commits)
    selection = request.selection
    if selection.depends_on_path:
        trees, blobs, had = yield from _walk_paths(history, request, wants, haves, commits)
    else:
        trees, blobs, had = yield from _walk_differences(history, request, wants, haves, commits)
    had_tags = set(haves.tags)
    chosen = list(dict.fromkeys(n for n in wants.tags if n not in had_tags))
    sent_commits: Sequence[int] = commits.commits
    if COMMIT not in selection.types:
        wanted = set(wants.commits)
        sent_commits = [number for number in sent_commits if number in wanted]
    ride = yield from riding_tags(history, request.include_tags, [sent_commits, chosen, trees, blobs])
    taken = had_tags.union(chosen)
    tags = chosen + [number for number in ride if number not in taken]
    numbers = array("Q", sent_commits)
    for part in (tags, trees, blobs):
        numbers.extend(part)
    at_client: frozenset[int] = frozenset()
    if selection == ALL:
        at_client = frozenset(commits.have).union(had, had_tags)
    return Closure(
        numbers=numbers,
        client_has=at_client,
        commit_count=len(sent_commits),
        tag_count=len(tags),
        tree_count=len(trees),
        blob_count=len(blobs),
    )


def peel_wants(history: History, oids: Iterable[bytes]) -> Work[Peeled]:
    """Peel what the client asks for. Raises ObjectMissing."""
    peeled = Peeled()
    reader = history.reader
    ticker = Ticker()
    for oid in dict.fromkeys(oids):
        number = reader.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        peeled.add(*follow_tags(reader, number, history.may_be_missing))
        if ticker.due():
            yield
            ticker.restart()
    return peeled


def peel_haves(history: History, oids: Iterable[bytes]) -> Work[Peeled]:
    """Peel what the client has, or what refs name; what can't be followed is left out."""
    peeled = Peeled()
    reader = history.reader
    ticker = Ticker()
    for oid in dict.fromkeys(oids):
        number = reader.find(oid)
        try:
            if number >= 0:
                peeled.add(*follow_tags(reader, number))
        except ObjectMissing:
            peeled.tags.append(number)
        if ticker.due():
            yield
            ticker.restart()
    return peeled


def _walk_differences(
    history: History, request: ClosureRequest, wants: Peeled, haves: Peeled, commits: CommitRange
) -> Work[tuple[Sequence[int], Sequence[int], Sequence[int]]]:
    """Return (trees, blobs, numbers known to be at the client) under filters that don't ask for paths."""
    reader = history.reader
    selection = request.selection
    found = Introductions(
        reader,
        with_blobs=selection.needs_blobs,
        note_old=bool(commits.have or haves.trees),
        may_be_missing=history.may_be_missing,
        tree_depth_max=request.tree_depth_max,
    )
    for number in haves.trees:
        yield from found.add_had_tree(reader.oid_of(number))
    for number in haves.blobs:
        found.mark_had(number)
    wanted_trees = [number for number in wants.trees if found.marks.get(number) != HAD]
    wanted_blobs = [number for number in wants.blobs if found.marks.get(number) != HAD]
    for number in wanted_blobs:
        if found.marks.get(number) == ABSENT:
            found.marks.set(number, BLOB)
            found.blobs.append(number)
    if selection.needs_trees:
        for number in wanted_trees:
            yield from found.add_tree(reader.oid_of(number), number)
        order = yield from parents_first(history, commits.commits)
        if haves.commits and any(not history.known_parents(number) for number in order):
            # A commit without parents has nothing to be compared with: a deepened boundary would bring its whole tree
            # again, though the client has most of it. As git, mark what some of its commits hold.
            for root in _complete_roots(history, haves.commits):
                yield from found.add_had_tree(root)
        yield from walk_commits(history, order, found)
    trees: Sequence[int] = found.trees
    if not selection.needs_trees or TREE not in selection.types:
        trees = list(dict.fromkeys(_wanted_by_themselves(history, commits.commits, wanted_trees)))
    blobs: Sequence[int] = found.blobs
    if selection.blob_limit is not None:
        blobs = yield from _small_blobs(history, selection, blobs, frozenset(wanted_blobs))
    return trees, blobs, found.had


def _wanted_by_themselves(history: History, commits: Sequence[int], wanted_trees: list[int]) -> list[int]:
    """Leave out root trees of commits that are sent: git filters those though they are wanted by name, too."""
    if not wanted_trees:
        return []
    find = history.reader.find
    roots = {find(history.tree_oid(commit)) for commit in commits}
    return [number for number in wanted_trees if number not in roots]


def _complete_roots(history: History, haves: list[int]) -> tuple[bytes, ...]:
    """Return the root trees of some commits that the client has: the newest and the oldest of them."""
    by_time = sorted(dict.fromkeys(haves), key=history.time)
    chosen = dict.fromkeys((*by_time[:COMPLETE_ROOTS_HALF], *by_time[-COMPLETE_ROOTS_HALF:]))
    return tuple(dict.fromkeys(history.tree_oid(number) for number in chosen))


def _small_blobs(
    history: History, selection: ObjectSelection, blobs: Sequence[int], wanted: frozenset[int]
) -> Work[list[int]]:
    kept = []
    ticker = Ticker()
    for number in blobs:
        if number in wanted or selection.passes_blob(history.reader, number):
            kept.append(number)
        if ticker.due():
            yield
            ticker.restart()
    return kept


def _walk_paths(
    history: History, request: ClosureRequest, wants: Peeled, haves: Peeled, commits: CommitRange
) -> Work[tuple[Sequence[int], Sequence[int], Sequence[int]]]:
    """Return (trees, blobs, nothing known to be at the client) under filters that ask for paths."""
    had = frozenset(haves.trees + haves.blobs)
    walk = PathWalk(
        history,
        request.selection,
        had=had,
        may_be_missing=history.may_be_missing,
        tree_depth_max=request.tree_depth_max,
    )
    order = yield from parents_first(history, commits.commits)
    for number in order:
        yield from walk.add_commit(number)
    for number in _wanted_by_themselves(history, commits.commits, wants.trees):
        if number not in had:
            yield from walk.add_tree(history.reader.oid_of(number))
            walk.trees[number] = None
    walk.blobs.update(dict.fromkeys(number for number in wants.blobs if number not in had))
    return list(walk.trees), list(walk.blobs), []


def riding_tags(history: History, include_tags: Mapping[bytes, bytes], sent: list[Sequence[int]]) -> Work[list[int]]:
    """Return the tags, whole chains, among the candidates whose target is sent."""
    if not include_tags:
        return []
    reader = history.reader
    ticker = Ticker()
    if sum(map(len, sent)) < len(include_tags):
        names: set[bytes] = set()
        for part in sent:
            for number in part:
                names.add(reader.oid_of(number))
                if ticker.due():
                    yield
                    ticker.restart()
        chosen = [tag for tag, target in include_tags.items() if target in names]
    else:
        by_target: dict[int, list[bytes]] = {}
        for tag, target in include_tags.items():
            by_target.setdefault(reader.find(target), []).append(tag)
            if ticker.due():
                yield
                ticker.restart()
        # The other way round would be a set of everything that is sent.
        chosen = [tag for part in sent for number in part if number in by_target for tag in by_target.pop(number)]
    riding: dict[int, None] = {}
    for tag in chosen:
        number = reader.find(tag)
        if number < 0:
            raise ObjectMissing(tag, "tag")
        riding.update(dict.fromkeys(history.tags_passed(number)))
        if ticker.due():
            yield
            ticker.restart()
    return list(riding)
