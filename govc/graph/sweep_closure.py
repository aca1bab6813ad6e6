"""The closure of a fetch as sweeps over a view: the same answer as `closure.find_closure`, without reading a tree.

It serves where the view knows every wanted commit and nothing cuts or replaces history but the client's own shallow
lines and the boundary of this request. Commits that those cut have their trees listed (`trees`), since what their
ancestors introduced comes along with nobody. Filters that ask for paths, and whatever else isn't understood here,
return None: `find_closure` answers then.

Exact: what the client's commits introduced is not sent, wherever it lies.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import Any, NamedTuple, Protocol, TypeVar

from govc.errors import ObjectMissing
from govc.graph.closure import COMPLETE_ROOTS_HALF, Closure, ClosureRequest, Peeled, peel_haves, peel_wants
from govc.graph.commits import History
from govc.graph.filter import ALL, ObjectSelection
from govc.graph.interface import Ticker, Work
from govc.graph.trees import TreeCache, entry_kind
from govc.graph.view import View
from govc.kernels import treewalk
from govc.kernels.packread import PackReader, PackTable
from govc.kernels.sweep import ELSEWHERE, IN_RANGE, NO_LIMIT, UNKNOWN, NumberFinder, Painting
from govc.objects.errors import MalformedObject
from govc.objects.tag import parse_tag_links
from govc.objects.types import BLOB, COMMIT, TAG, TREE

_T = TypeVar("_T")

TREES_CACHE_BYTES = 8 << 20
TREE_BYTES_MAX = 256 << 20
"""For listing whole trees: bases of deltas that are kept, and the largest tree."""

FEW_TARGETS = 16
"""Tags that name no commit, up to so many, have their targets looked for one by one, too."""

FEW_BLOBS = 4
"""Wanted blobs (a tag may name one) up to so many are looked for among all that are sent one by one."""


class HasNumber(Protocol):
    """The client's objects, by object number."""

    def __contains__(self, number: object, /) -> bool:
        """Tell whether the client has it for sure."""


class ClientHas:
    """What the have side introduced, looked up one by one."""

    def __init__(self, history: History, painting: Painting, listed: frozenset[int]) -> None:
        self._oid_of = history.reader.oid_of
        self._painting = painting
        self._listed = listed

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number in self._listed or self._painting.has_name(self._oid_of(number))

    def of_packed(self, table: PackTable) -> Callable[[int], bool]:
        """Return the same of packed objects as a function, which kernels ask."""
        return self._painting.peer_of(table, self._listed)


class Swept(NamedTuple):
    """The closure, the marks it came from, and the trees and blobs that the sweep found, by vid and by number."""

    closure: Closure
    painting: Painting
    vids: "array[int]"
    numbers: "array[int]"


def call(function: Callable[..., _T], /, *arguments: Any) -> _T:
    """Call it here and now: the `run` of those who have nobody waiting."""
    return function(*arguments)


def sweep_closure(
    history: History,
    view: View,
    request: ClosureRequest,
    finder: NumberFinder,
    run: "Callable[..., Any]" = call,
) -> Work[Swept | None]:
    """Return what is to be sent, None when it takes `find_closure`. Raises ObjectMissing, Corrupt.

    `finder` knows the numbers of packed objects; the others are asked for one by one. `run(f, *args)` calls the
    kernels, which touch nothing but the view and need no GIL: in a thread where they take long.
    """
    selection = request.selection
    if selection.depends_on_path or not _limit_is_plain(selection):
        return None
    reader = history.reader
    wants = yield from _peel_wants(history, view, request, finder)
    haves = yield from _peel_haves(history, view, request, finder)
    sweep = view.sweep
    want_cids = view.cids(_commit_names(reader.oid_of, request.wants, wants))
    if len(want_cids) != len(wants.commits):
        return None
    have_cids = view.cids(_commit_names(reader.oid_of, request.haves, haves))
    cuts = view.cids(request.client_shallow | request.boundary)
    painting: Painting = run(sweep.paint, want_cids, have_cids, cuts)
    yield
    table = finder if isinstance(finder, PackTable) and not have_cids else None
    lists = _Lists(history, view, painting, table, run)
    for number in haves.trees:
        yield from lists.note_had_tree(number)
    lists.had.update(haves.blobs)
    if painting.cut and haves.commits and selection.needs_trees:
        for number in _complete_roots(history, haves.commits):
            yield from lists.note_had_tree(number)
    limit = NO_LIMIT if selection.blob_limit is None else selection.blob_limit
    with_trees = selection.needs_trees and TREE in selection.types
    vids, blob_vids = run(painting.collect, with_trees, selection.needs_blobs, limit)
    tree_count = len(vids)
    vids.extend(blob_vids)
    yield
    try:
        found = _numbers(run(sweep.object_numbers, vids, finder), vids, sweep.object_oid, history, "object")
        ids = painting.range
        sent = _numbers(run(sweep.commit_numbers, ids, finder), ids, sweep.commit_oid, history, "commit")
    except ObjectMissing:
        return None  # the other way says what exactly is wrong
    trees, blobs = found[:tree_count], found[tree_count:]
    yield
    if lists.had:
        trees, blobs = lists.without_had(trees), lists.without_had(blobs)
    if selection == ALL and len(wants.blobs) <= FEW_BLOBS and not painting.cut and not wants.trees:
        # What no commit introduced is cheap to tell; a look at all numbers keeps everybody waiting.
        knows, oid_of = sweep.vid_of, reader.oid_of
        blobs.extend([n for n in wants.blobs if n not in lists.had and (knows(oid_of(n)) < 0 or n not in blobs)])
    elif painting.cut or wants.trees or wants.blobs:
        extra = yield from lists.find_more(painting.cut, wants, selection, trees, blobs, sent)
        trees, blobs = extra
    had_tags = set(haves.tags)
    tags = list(dict.fromkeys(n for n in wants.tags if n not in had_tags))
    if COMMIT not in selection.types:
        wanted = set(wants.commits)
        sent = array("q", [number for number in sent if number in wanted])
    ride = yield from _riding_tags(
        history, _unwanted_tags(request), view.target_cids, selection, painting, sent, trees, blobs
    )
    taken = had_tags.union(tags)
    tags += [number for number in ride if number not in taken]
    numbers = array("Q", sent.tobytes())
    numbers.extend(tags)
    numbers.frombytes(trees.tobytes())
    numbers.frombytes(blobs.tobytes())
    at_client: HasNumber = frozenset()
    if selection == ALL and (have_cids or lists.had):
        at_client = ClientHas(history, painting, frozenset(lists.had).union(had_tags))
    closure = Closure(
        numbers=numbers,
        client_has=at_client,
        commit_count=len(sent),
        tag_count=len(tags),
        tree_count=len(trees),
        blob_count=len(blobs),
    )
    return Swept(closure, painting, vids, found)


def _peel_wants(history: History, view: View, request: ClosureRequest, finder: NumberFinder) -> Work[Peeled]:
    """Peel what the client asks for. Where the view knows what something is, no pack is asked: not for hundreds of
    blobs, and of a tag only for its content. Raises ObjectMissing.
    """
    if not isinstance(finder, PackTable):
        return (yield from peel_wants(history, request.wants))
    peeled = Peeled()
    names = list(dict.fromkeys(request.wants))
    row = b"".join(names)
    kinds, numbers = view.sweep.kinds_of(row), memoryview(finder.find_many(row, False)).cast("q")
    lists = {COMMIT: peeled.commits, TREE: peeled.trees, BLOB: peeled.blobs}
    others = []
    ticker = Ticker()
    for oid, kind, number in zip(names, kinds, numbers, strict=True):
        if kind and number >= 0:
            lists[kind].append(number)
        elif number < 0 or oid not in request.include_tags or not _peel_tag(history, view, finder, number, peeled):
            others.append(oid)
        if ticker.due():
            yield
            ticker.restart()
    if others:
        peeled.extend((yield from peel_wants(history, others)))
    return peeled


def _peel_haves(history: History, view: View, request: ClosureRequest, finder: NumberFinder) -> Work[Peeled]:
    """Peel what the client has, in the same way."""
    if not isinstance(finder, PackTable) or not request.haves:
        return (yield from peel_haves(history, request.haves))
    peeled = Peeled()
    names = list(dict.fromkeys(request.haves))
    row = b"".join(names)
    kinds, numbers = view.sweep.kinds_of(row), memoryview(finder.find_many(row, False)).cast("q")
    others = []
    for oid, kind, number in zip(names, kinds, numbers, strict=True):
        if kind == COMMIT and number >= 0:
            peeled.commits.append(number)
        else:
            others.append(oid)
    if others:
        peeled.extend((yield from peel_haves(history, others)))
    return peeled


def _commit_names(oid_of: Callable[[int], bytes], names: Sequence[bytes], peeled: Peeled) -> Iterable[bytes]:
    """Return the names of the commits that `names` were peeled to: themselves, mostly."""
    if len(peeled.commits) == len(names) and not (peeled.tags or peeled.trees or peeled.blobs):
        return names
    return map(oid_of, peeled.commits)


def _peel_tag(history: History, view: View, table: PackTable, number: int, peeled: Peeled) -> bool:
    """Note a tag and what it names, when that is something that the view knows; False when it takes more than that."""
    reader = history.reader
    type_number, content = reader.read(number)
    if type_number != TAG:
        return False
    try:
        target = parse_tag_links(content, reader.algo).oid
    except MalformedObject:
        return False  # the other way says so
    kind, found = view.sweep.kinds_of(target)[0], table.find(target)
    if not kind or found < 0:
        return False
    peeled.add([number], found, kind)
    return True


def _limit_is_plain(selection: ObjectSelection) -> bool:
    """Sizes are stored in 32 bits; beyond that they must be looked up."""
    return selection.blob_limit is None or selection.blob_limit < 1 << 31


def _numbers(numbers: "array[int]", ids: "array[int]", name_of: "_NameOf", history: History, kind: str) -> "array[int]":
    """Fill in what lies in no pack. Raises ObjectMissing."""
    if _has_negative(numbers):
        find = history.reader.find
        for i, number in enumerate(numbers):
            if number < 0:
                found = find(name_of(ids[i]))
                if found < 0:
                    raise ObjectMissing(name_of(ids[i]), kind)
                numbers[i] = found
    return numbers


def _has_negative(numbers: "array[int]") -> bool:
    """Tell whether a number is negative, without a Python object for each: they may be millions, and the GIL is held.

    Object numbers are far below 2**56, so the last byte of each is 0 unless it is negative. (Views exist on
    little-endian machines only.)
    """
    last_bytes = numbers.tobytes()[7::8]
    return last_bytes.count(0) != len(last_bytes)


class _NameOf(Protocol):
    def __call__(self, rank: int, /) -> bytes: ...


def _complete_roots(history: History, haves: list[int]) -> list[int]:
    """Return the root trees of some commits that the client has, by number: the newest and the oldest of them."""
    by_time = sorted(dict.fromkeys(haves), key=history.time)
    chosen = dict.fromkeys((*by_time[:COMPLETE_ROOTS_HALF], *by_time[-COMPLETE_ROOTS_HALF:]))
    found = (history.reader.find(history.tree_oid(number)) for number in chosen)
    return [number for number in dict.fromkeys(found) if number >= 0]


class _Lists:
    """Whole trees, listed: those of cut commits, those that are wanted by name, those that the client has."""

    def __init__(
        self,
        history: History,
        view: View,
        painting: Painting,
        table: PackTable | None,
        run: Callable[..., Any],
    ) -> None:
        """`table` None: the client has commits, so each object is asked for whether it is his."""
        self._table = table
        self._run = run
        self._history = history
        self._reader = history.reader
        self._view = view
        self._painting = painting
        self._cache = TreeCache(history.reader)
        self.had: set[int] = set()

    def without_had(self, numbers: "array[int]") -> "array[int]":
        """Leave out what was noted as the client's."""
        return array("q", [number for number in numbers if number not in self.had])

    def note_had_tree(self, number: int) -> Work[None]:
        """Note a tree and all below it as the client's."""
        yield from self._walk(number, self.had.add, self.had.add, frozenset(), self.had, with_blobs=True)

    def find_more(
        self,
        cut: Iterable[int],
        wants: Peeled,
        selection: ObjectSelection,
        trees: "array[int]",
        blobs: "array[int]",
        sent: Sequence[int],
    ) -> Work[tuple["array[int]", "array[int]"]]:
        """Add the trees of cut commits and what is wanted by name; return trees and blobs, each once."""
        more_trees: dict[int, None] = dict.fromkeys(trees)
        more_blobs: dict[int, None] = dict.fromkeys(blobs)
        known = self.had
        visited: set[int] = set()
        add_tree, add_blob = more_trees.setdefault, more_blobs.setdefault
        if selection.needs_trees:
            roots = list(self._iter_roots(cut))
            listed = self._list_at_once(roots, with_blobs=selection.needs_blobs)
            is_all = not (trees or blobs or wants.trees or wants.blobs) and selection.blob_limit is None
            if listed is not None and is_all and TREE in selection.types:
                return array("q", listed[0]), array("q", listed[1])  # depth 1: each of them once
            if listed is not None:
                more_trees.update(dict.fromkeys(array("q", listed[0])))
                more_blobs.update(dict.fromkeys(array("q", listed[1])))
            else:
                for number in roots:
                    yield from self._walk(number, add_tree, add_blob, known, visited, with_blobs=selection.needs_blobs)
        tops = {self._reader.find(self._history.tree_oid(number)) for number in sent} if wants.trees else set()
        wanted_trees = [n for n in wants.trees if n not in known and n not in more_trees]
        for number in wanted_trees:
            if selection.needs_trees:
                yield from self._walk(number, add_tree, add_blob, known, visited, with_blobs=selection.needs_blobs)
        if TREE not in selection.types or not selection.needs_trees:
            more_trees = dict.fromkeys(n for n in wants.trees if n not in known and n not in tops)
        if selection.blob_limit is not None:
            passes = selection.passes_blob
            more_blobs = dict.fromkeys(n for n in more_blobs if passes(self._reader, n))
        more_blobs.update(dict.fromkeys(n for n in wants.blobs if n not in known))
        return array("q", more_trees), array("q", more_blobs)

    def _iter_roots(self, cut: Iterable[int]) -> Iterator[int]:
        """Yield the root trees of cut commits, unless the client has them. Raises ObjectMissing."""
        for cid in cut:
            commit = self._view.commit(self._view.sweep.commit_oid(cid))
            assert commit is not None
            if self._painting.has_name(commit[1]):
                continue
            number = self._reader.find(commit[1])
            if number < 0:
                raise ObjectMissing(commit[1], "tree")
            yield number

    def _list_at_once(self, roots: Sequence[int], *, with_blobs: bool) -> tuple[bytes, bytes] | None:
        """List whole trees by the kernel; None where it takes more than that: the client has something, or not all of
        it is packed, or something is wrong with it.
        """
        if self._table is None or self.had or not treewalk.AVAILABLE:
            return None
        reader = PackReader(self._table, TREES_CACHE_BYTES, TREE_BYTES_MAX)
        listed: tuple[bytes, bytes] | None = self._run(treewalk.list_trees, reader, array("q", roots), with_blobs)
        return listed

    def _walk(
        self,
        number: int,
        add_tree: "_Add",
        add_blob: "_Add",
        known: "frozenset[int] | set[int]",
        visited: set[int],
        *,
        with_blobs: bool,
    ) -> Work[None]:
        """Add a tree and what is below it. A tree that the sweep found is expanded all the same: what it shares with
        the parent's tree came along with nobody when that parent is cut.
        """
        size = self._reader.algo.oid_size
        find, has_name = self._reader.find, self._painting.has_name
        ticker = Ticker()
        stack = [number]
        while stack:
            number = stack.pop()
            if number in visited or number in known:
                continue
            visited.add(number)
            add_tree(number)
            for entry in self._cache.get(self._reader.oid_of(number), number):
                kind = entry_kind(entry)
                if not kind or (kind == BLOB and not with_blobs):
                    continue
                name = entry[-size:]
                if visited is not self.had and has_name(name):
                    continue
                child = find(name)
                if child < 0:
                    raise ObjectMissing(name, "tree" if kind == TREE else "blob")
                if kind == TREE:
                    stack.append(child)
                elif child not in known:
                    add_blob(child)
            if ticker.due():
                yield
                ticker.restart()


class _Add(Protocol):
    def __call__(self, number: int, /) -> object: ...


def _is_in_row(rows: Sequence["array[int]"], number: int) -> bool:
    """Look for a number as bytes: to make a set of all that is sent keeps everybody waiting."""
    needle = array("q", (number,)).tobytes()
    for row in map(array.tobytes, rows):
        at = row.find(needle)
        while at >= 0 and at % len(needle):
            at = row.find(needle, at + 1)
        if at >= 0:
            return True
    return False


def _unwanted_tags(request: ClosureRequest) -> Mapping[bytes, bytes]:
    """Return the candidates that are not sent anyway: a clone wants most tags by name."""
    wanted = set(request.wants)
    if not any(map(request.include_tags.__contains__, wanted)):
        return request.include_tags
    return {tag: target for tag, target in request.include_tags.items() if tag not in wanted}


def _riding_tags(
    history: History,
    include_tags: Mapping[bytes, bytes],
    target_cids: "Callable[[Mapping[bytes, bytes]], array[int]]",
    selection: ObjectSelection,
    painting: Painting,
    *sent: "array[int]",
) -> Work[list[int]]:
    """Return the tags, whole chains, among the candidates whose target is sent."""
    if not include_tags:
        return []
    reader = history.reader
    ticker = Ticker()
    riding: dict[int, None] = {}
    is_sent: Callable[[int], bool] | None = None
    commits_pass = COMMIT in selection.types
    places = painting.place_commits(target_cids(include_tags))
    chosen = (place != ELSEWHERE or not commits_pass for place in places)
    if commits_pass and places.count(ELSEWHERE) == len(places):
        return []
    for (tag, target), place in compress(zip(include_tags.items(), places, strict=True), chosen):
        if place != IN_RANGE or not commits_pass:
            if is_sent is None:
                is_few = commits_pass and places.count(UNKNOWN) <= FEW_TARGETS
                is_sent = partial(_is_in_row, sent) if is_few else set().union(*sent).__contains__
            if not is_sent(reader.find(target)):
                continue
        number = reader.find(tag)
        if number < 0:
            raise ObjectMissing(tag, "tag")
        riding.update(dict.fromkeys(history.tags_passed(number)))
        if ticker.due():
            yield
            ticker.restart()
    return list(riding)
