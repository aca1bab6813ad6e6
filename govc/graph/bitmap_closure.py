"""The objects to send, by reachability bitmaps that plain git left: what `closure` finds, without reading old trees.

    wanted = what bitmapped commits below the wants reach
    had    = the same for the haves
    fresh  = commits above those, walked one by one; their trees are compared with their parents'

    to send = wanted - had, and what fresh commits introduce beyond both

A clone of a repository that git has just repacked is a few unions of sets. The answer is exact where the bitmaps lead;
what fresh commits of the client's side have is left out, too.

Not for histories that are cut (shallow, deepened), grafted or partial, nor for filters but `blob:none`: `find` then
returns None, as it does when too much is fresh.

Source: git's pack-bitmap.c (prepare_bitmap_walk, traverse_bitmap_commit_list).
"""

from array import array
from collections.abc import Container, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import compress
from typing import Protocol

from govc.errors import ObjectMissing
from govc.graph.closure import Closure, ClosureRequest, peel_haves, peel_wants, riding_tags
from govc.graph.commits import History
from govc.graph.filter import ALL, NO_BLOBS
from govc.graph.interface import Ticker, Work
from govc.graph.marks import NumberMarks
from govc.graph.trees import Introductions, WrongType, parents_first, walk_commits
from govc.objects.types import BLOB, COMMIT, TAG, TREE

FRESH_MAX = 20_000
"""More commits above the bitmaps than this are as well walked the usual way."""

_DIGITS = bytes.maketrans(b"01", b"\0\1")


class ReachabilityBitmaps(Protocol):
    """Bitmaps over some objects of a store."""

    @property
    def order(self) -> Sequence[int]:
        """The object number of each bit."""

    @property
    def types(self) -> dict[int, int]:
        """The set of each type."""

    def bit_of(self, oid: bytes) -> int:
        """Return an object's bit, -1 for one that has none."""

    def reachable(self, oid: bytes) -> int | None:
        """Return what a commit reaches, None for one without a set of its own. Raises CorruptBitmap."""


class Side:
    """What wants or haves reach: a set, and the fresh commits above it."""

    __slots__ = ("bits", "fresh")

    def __init__(self) -> None:
        self.bits = 0
        self.fresh: list[int] = []


def find_by_bitmaps(history: History, request: ClosureRequest, bitmaps: ReachabilityBitmaps) -> Work[Closure | None]:
    """Return the objects to send, None when that isn't for bitmaps to say. Raises ObjectMissing, Corrupt."""
    selection = request.selection
    is_cut = bool(request.client_shallow or request.boundary) or not history.is_whole
    if is_cut or selection not in (ALL, NO_BLOBS):
        return None
    with_blobs = selection == ALL
    wants = yield from peel_wants(history, request.wants)
    haves = yield from peel_haves(history, request.haves)
    if wants.trees or haves.trees:
        return None
    depth_max = request.tree_depth_max
    try:
        had = yield from reach(history, haves.commits, bitmaps, 0)
        if had is None:
            return None
        old = yield from _introduced(history, had.fresh, with_blobs=with_blobs, tree_depth_max=depth_max)
    except (ObjectMissing, WrongType):  # what no ref reaches was pruned, of a have, too: a walk passes over that
        return None
    wanted = yield from reach(history, wants.commits, bitmaps, had.bits)
    if wanted is None:
        return None
    new = yield from _introduced(history, wanted.fresh, with_blobs=with_blobs, tree_depth_max=depth_max)
    had_here = frozenset((*had.fresh, *old.trees, *old.blobs, *haves.tags, *haves.blobs))
    had_bits = had.bits
    for number in had_here:
        bit = bitmaps.bit_of(history.reader.oid_of(number))
        if bit >= 0:
            had_bits |= 1 << bit
    sent_bits = wanted.bits & ~had_bits
    covered = wanted.bits | had_bits

    def beyond(numbers: Iterable[int]) -> list[int]:
        return [n for n in numbers if n not in had_here and not _is_in(covered, bitmaps, history.reader.oid_of(n))]

    types = bitmaps.types
    commits = array("Q", beyond(wanted.fresh))
    commits.extend(_numbers(sent_bits & types[COMMIT], bitmaps.order))
    chosen = list(dict.fromkeys(n for n in wants.tags if n not in had_here))
    tags_in_sets = sent_bits & types[TAG]
    trees = array("Q", beyond(new.trees))
    trees.extend(_numbers(sent_bits & types[TREE], bitmaps.order))
    sure = covered if with_blobs else had_bits
    oid_of = history.reader.oid_of
    named = dict.fromkeys(n for n in wants.blobs if n not in had_here and not _is_in(sure, bitmaps, oid_of(n)))
    blobs = array("Q", named)
    if with_blobs:
        blobs.extend(number for number in beyond(new.blobs) if number not in named)
        blobs.extend(_numbers(sent_bits & types[BLOB], bitmaps.order))
    tags = list(dict.fromkeys([*chosen, *_numbers(tags_in_sets, bitmaps.order)]))
    ride = yield from riding_tags(history, request.include_tags, [commits, tags, trees, blobs])
    taken = had_here.union(tags)
    tags += beyond(number for number in ride if number not in taken)
    numbers = array("Q", commits)
    for part in (tags, trees, blobs):
        numbers.extend(part)
    at_client: Container[int] = frozenset()
    if selection == ALL and (had_bits or had_here):
        at_client = _Had(_numbers(had_bits, bitmaps.order), had_here)
    return Closure(
        numbers=numbers,
        client_has=at_client,
        commit_count=len(commits),
        tag_count=len(tags),
        tree_count=len(trees),
        blob_count=len(blobs),
    )


class _Had:
    """Objects at the client, by number: a byte each instead of an int."""

    __slots__ = ("_few", "_marks")

    def __init__(self, many: Iterable[int], few: frozenset[int]) -> None:
        self._few = few
        self._marks = NumberMarks()
        for number in many:
            self._marks.set(number, 1)

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number in self._few or self._marks.get(number) == 1


def reach(history: History, starts: Sequence[int], bitmaps: ReachabilityBitmaps, stops: int) -> Work[Side | None]:
    """Walk down to commits that have sets, or that are among `stops`; None when that is too far.

    The newest commits come first: of many tips (old tags) most turn out to be below what another one reaches.
    """
    side = Side()
    oid_of, time = history.reader.oid_of, history.time
    ticker = Ticker()
    seen = set(starts)
    heap = [(-time(number), number) for number in seen]
    heapify(heap)
    while heap:
        _, number = heappop(heap)
        oid = oid_of(number)
        bit = bitmaps.bit_of(oid)
        if bit >= 0 and (side.bits | stops) >> bit & 1:
            continue
        found = bitmaps.reachable(oid) if bit >= 0 else None
        if found is not None:
            side.bits |= found
        else:
            side.fresh.append(number)
            if len(side.fresh) > FRESH_MAX:
                return None
            for parent in history.parents(number):
                if parent not in seen:
                    seen.add(parent)
                    heappush(heap, (-time(parent), parent))
        if ticker.due():
            yield
            ticker.restart()
    # What was fresh when it was met may have turned out to be below a set that came later.
    side.fresh = [n for n in side.fresh if not _is_in(side.bits | stops, bitmaps, oid_of(n))]
    return side


def _introduced(
    history: History, commits: Sequence[int], *, with_blobs: bool, tree_depth_max: int
) -> Work[Introductions]:
    """Return what commits have that their parents don't."""
    found = Introductions(history.reader, with_blobs=with_blobs, note_old=False, tree_depth_max=tree_depth_max)
    if commits:
        order = yield from parents_first(history, commits)
        yield from walk_commits(history, order, found)
    return found


def _is_in(bits: int, bitmaps: ReachabilityBitmaps, oid: bytes) -> bool:
    bit = bitmaps.bit_of(oid)
    return bit >= 0 and bool(bits >> bit & 1)


def _numbers(bits: int, order: Sequence[int]) -> Iterable[int]:
    """Yield the numbers of the bits that are set, in order: at the speed of C."""
    if not bits:
        return ()
    digits = bin(bits)[:1:-1].encode("ascii").translate(_DIGITS)
    return compress(order, digits)
