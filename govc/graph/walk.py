"""Walks over the commit graph: ranges, reachability, ancestry.

All of them are driven by a heap ordered by committer time, newest first, and paint commits with the sides
that reach them, as git's limit_list and paint_down_to_common do. Times may be wrong (clocks are): no walk
relies on them for the truth of what it claims, only for where it looks first and when it stops looking for
savings. A commit is painted HAVE only along real parent links, so a range never leaves out a commit that the
other side lacks; with wrong times it may hold some that the other side has.
"""

from array import array
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from govc.graph.commits import History
from govc.graph.interface import Ticker, Work
from govc.graph.marks import NumberMarks

_WANT = 1
_HAVE = 2
_BOTH = 3

_SLOP = 128
"""Commits of the have side looked at beyond the oldest commit of the range, in case times are wrong."""


class CommitRange(NamedTuple):
    """Commits reachable from wants and not from haves, newest first; commits known to be on the have side."""

    commits: Sequence[int]
    have: set[int]


def find_range(history: History, wants: Iterable[int], haves: Iterable[int]) -> Work[CommitRange]:
    """Return the commits reachable from `wants` and not from `haves` (commit numbers).

    Raises ObjectMissing when a parent of a commit in the range is absent; on the have side that is no error.
    """
    time_of = history.time
    flags = NumberMarks()
    have: set[int] = set()
    pending: set[int] = set()  # commits in the heap that only the wants reach, so far
    heap: list[tuple[int, int]] = []
    ticker = Ticker()
    for number in haves:
        if number not in have:
            have.add(number)
            flags.set(number, _HAVE)
            heappush(heap, (-time_of(number), number))
        if ticker.due():
            yield
            ticker.restart()
    for number in wants:
        if not flags.get(number):
            flags.set(number, _WANT)
            pending.add(number)
            heappush(heap, (-time_of(number), number))
    order = array("Q")
    oldest = 1 << 63
    slop = _SLOP
    while heap:
        negative_time, number = heappop(heap)
        if not pending:
            # Only the have side is left: look on while it may still reach into the range.
            if not order:
                break
            if -negative_time < oldest:
                slop -= 1
                if slop < 0:
                    break
        flag = flags.get(number)
        if flag == _WANT:
            pending.discard(number)
            order.append(number)
            oldest = min(oldest, -negative_time)
            for parent in history.parents(number):
                if not flags.get(parent):
                    flags.set(parent, _WANT)
                    pending.add(parent)
                    heappush(heap, (-time_of(parent), parent))
        else:
            for parent in history.known_parents(number):
                old = flags.get(parent)
                if old & _HAVE == 0:
                    flags.set(parent, old | _HAVE)
                    have.add(parent)
                    if old:
                        pending.discard(parent)
                        slop = _SLOP
                    heappush(heap, (-time_of(parent), parent))
        if ticker.due():
            yield
            ticker.restart()
    return CommitRange(array("Q", (number for number in order if flags.get(number) == _WANT)), have)


def is_ancestor(history: History, old: int, new: int) -> Work[bool]:
    """Return whether commit `old` can be reached from commit `new` (or is it). Exact, whatever the times say.

    This is the fast-forward check: `new` may replace `old` when the answer is True.
    """
    if old == new:
        return True
    time_of = history.time
    flags = {new: _WANT, old: _HAVE}
    heap = sorted([(-time_of(new), new), (-time_of(old), old)])
    lonely = {new}  # queued, reached from `new` and not known to be an ancestor of `old`
    ticker = Ticker()
    while heap and lonely:
        number = heappop(heap)[1]
        lonely.discard(number)
        flag = flags[number]
        parents = history.parents(number) if flag & _WANT else history.known_parents(number)
        for parent in parents:
            if parent == old and flag & _WANT:
                return True
            before = flags.get(parent, 0)
            after = before | flag
            if after == before:
                continue
            flags[parent] = after
            if after == _WANT:
                lonely.add(parent)
            else:
                lonely.discard(parent)
            heappush(heap, (-time_of(parent), parent))
        if ticker.due():
            yield
            ticker.restart()
    # What is left is an ancestor of `old` too: it can't lead to `old` unless the graph had a cycle.
    return False


def find_unreachable(history: History, wanted: Iterable[int], tips: Iterable[int]) -> Work[list[int]]:
    """Return those of the `wanted` commits that none of the `tips` reaches. Exact, whatever the times say."""
    looked_for = list(dict.fromkeys(wanted))
    left = set(looked_for)
    time_of = history.time
    heap: list[tuple[int, int]] = []
    seen: set[int] = set()
    ticker = Ticker()
    for tip in tips:
        if tip not in seen:
            seen.add(tip)
            heappush(heap, (-time_of(tip), tip))
            left.discard(tip)
            if ticker.due():
                yield
                ticker.restart()
    while heap and left:
        number = heappop(heap)[1]
        for parent in history.known_parents(number):
            if parent not in seen:
                seen.add(parent)
                heappush(heap, (-time_of(parent), parent))
                left.discard(parent)
        if ticker.due():
            yield
            ticker.restart()
    return [number for number in looked_for if number in left]


def all_reach(
    history: History, starts: Iterable[int], goals: Collection[int], oldest: int, known: set[int]
) -> Work[bool]:
    """Return whether every start commit reaches (or is) one in `goals`, through none older than `oldest`.

    The starts themselves may be older (a merge with a wrong clock).
    `known` holds commits found before to reach a goal, and is added to: goals only grow during a negotiation.
    Source: git's can_all_from_reach_with_flag.
    """
    fruitless: set[int] = set()
    ticker = Ticker()
    for start in starts:
        path = [(start, iter(history.known_parents(start)))]
        reached = start in goals or start in known
        while path and not reached:
            parents = path[-1][1]
            for parent in parents:
                if parent in goals or parent in known:
                    reached = True
                    break
                if parent not in fruitless and history.time(parent) >= oldest:
                    fruitless.add(parent)
                    path.append((parent, iter(history.known_parents(parent))))
                    break
            else:
                path.pop()
            if ticker.due():
                yield
                ticker.restart()
        if not reached:
            return False
        known.update(number for number, _parents in path)
        fruitless.difference_update(number for number, _parents in path)
    return True
