"""Where a shallow clone's history ends: the `shallow` and `unshallow` lines of a deepening fetch.

Three ways to say where: a depth counted from the wants, a depth counted from where the client's history ends
now (deepen-relative), or a range (deepen-since, deepen-not). Each yields the commits that are *inside* (their
parents come too) and those on the *boundary* (they come, their parents don't).

    shallow     boundary commits that are not among the client's shallow commits
    unshallow   client's shallow commits that are inside now

A boundary commit needs no parents to be one: at depth 1 a root commit is told as shallow too, as git does.

Source: gitprotocol-pack "Reference Discovery"/"shallow", git's shallow.c (get_shallow_commits,
get_shallow_commits_by_rev_list) and upload-pack.c (deepen, send_shallow, send_unshallow).
"""

from collections.abc import Collection, Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from govc.errors import GovcError, ObjectMissing
from govc.graph.closure import peel_haves
from govc.graph.commits import History, follow_tags
from govc.graph.interface import ObjectReader, Ticker, Work
from govc.graph.walk import find_unreachable
from govc.objects.types import COMMIT

INFINITE_DEPTH = 0x7FFFFFFF
"""The depth that means "all there is"."""


_SLOP = 5
"""How many hidden commits are looked at that seem too old to matter, as in git's limit_list."""


class NoCommitsSelected(GovcError):
    """deepen-since or deepen-not leave nothing. The text is git's."""

    http_status = 200

    def __init__(self) -> None:
        super().__init__("no commits selected for shallow requests")

    @property
    def public_text(self) -> str:
        """Git's own words."""
        return str(self)


class ShallowUpdate(NamedTuple):
    """What to tell the client, and what the closure needs to know; raw oids.

    The closure gets `boundary` = shallow, `client_shallow` = all that the client said, `more_wants` added to
    the wants and `more_haves` added to the haves: a commit that is unshallowed is at the client, its parents
    are not.
    """

    shallow: list[bytes]
    unshallow: list[bytes]
    more_wants: list[bytes]
    more_haves: list[bytes]


class _Cut(NamedTuple):
    boundary: list[int]
    inside: set[int]


def deepen(
    history: History, wants: Iterable[bytes], depth: int, client_shallow: Iterable[bytes]
) -> Work[ShallowUpdate]:
    """Answer `deepen N`: `depth` commits of history from each want, tags peeled; INFINITE_DEPTH for all."""
    reader = history.reader
    client = _client_numbers(reader, client_shallow)
    if depth == INFINITE_DEPTH and not history.shallow:
        return _update(history, _Cut([], set(client)), client)
    starts = _commits_of(reader, wants)
    cut = yield from _cut_at_depth(history, starts, depth)
    return _update(history, cut, client)


def deepen_relative(
    history: History, tips: Iterable[bytes], depth: int, client_shallow: Iterable[bytes]
) -> Work[ShallowUpdate]:
    """Answer `deepen N` with `deepen-relative`: N more below the client's shallow commits that refs reach."""
    reader = history.reader
    client = _client_numbers(reader, client_shallow)
    if depth == INFINITE_DEPTH and not history.shallow:
        return _update(history, _Cut([], set(client)), client)
    # Whether a ref reaches a commit is a question to our own history.
    # A ref whose tag leads nowhere reaches nothing, as with git.
    peeled = yield from peel_haves(history, tips)
    lost = yield from find_unreachable(history, client, peeled.commits)
    gone = set(lost)
    starts = [number for number in client if number not in gone]
    cut = yield from _cut_at_depth(history, starts, min(depth + 1, INFINITE_DEPTH))
    return _update(history, cut, client)


def deepen_by_range(
    history: History,
    wants: Iterable[bytes],
    client_shallow: Iterable[bytes],
    *,
    since: int | None = None,
    exclude: Iterable[bytes] = (),
) -> Work[ShallowUpdate]:
    """Answer `deepen-since` (seconds since 1970) and `deepen-not` (oids). Raises NoCommitsSelected."""
    reader = history.reader
    client = _client_numbers(reader, client_shallow)
    starts = _commits_of(reader, wants)
    chosen = yield from _select(history, starts, _commits_of(reader, exclude), since)
    if not chosen:
        raise NoCommitsSelected
    boundary = [
        number
        for number in chosen
        if number in history.shallow or any(p not in chosen for p in history.known_parents(number))
    ]
    return _update(history, _Cut(boundary, set(chosen).difference(boundary)), client)


def server_boundary(history: History, wants: Iterable[bytes], client_shallow: Iterable[bytes]) -> Work[ShallowUpdate]:
    """Answer a fetch that doesn't deepen, from a repository that is shallow itself (protocol v2)."""
    return (yield from deepen(history, wants, INFINITE_DEPTH, client_shallow))


def _cut_at_depth(history: History, starts: Iterable[int], depth: int) -> Work[_Cut]:
    """Walk level by level: each commit is met first at its least distance from a start."""
    boundary: list[int] = []
    inside: set[int] = set()
    seen = dict.fromkeys(starts)
    level = list(seen)
    distance = 0
    ticker = Ticker()
    while level:
        distance += 1
        below: list[int] = []
        for number in level:
            if (depth != INFINITE_DEPTH and distance >= depth) or number in history.shallow:
                boundary.append(number)
                continue
            inside.add(number)
            for parent in history.parents(number):
                if parent not in seen:
                    seen[parent] = None
                    below.append(parent)
            if ticker.due():
                yield
                ticker.restart()
        level = below
    return _Cut(boundary, inside)


def _select(
    history: History, starts: Iterable[int], excluded: Collection[int], since: int | None
) -> Work[dict[int, None]]:
    """Return the commits of `rev-list --max-age=since --not excluded --not starts`, newest first.

    A commit that is too old is left out, and so is what only it leads to. When something is excluded, it hides
    everything below it, as in git's limit_list.
    """
    time_of = history.time
    hidden: dict[int, bool] = dict.fromkeys(starts, False)
    hidden.update(dict.fromkeys(excluded, True))
    heap = sorted((-time_of(number), number) for number in hidden)
    open_count = sum(not value for value in hidden.values())
    order: list[int] = []
    popped: set[int] = set()
    ticker = Ticker()
    oldest = 1 << 63
    slop = _SLOP
    while heap:
        negative_time, number = heappop(heap)
        if not open_count and -negative_time < oldest:
            # Only hidden ones are left, older than what was chosen; they may yet lead to it where a clock was wrong.
            slop -= 1
            if slop < 0:
                break
        else:
            slop = _SLOP
        if number not in popped and not hidden[number]:
            open_count -= 1
            if since is not None and -negative_time < since:
                if not excluded:
                    popped.add(number)
                    continue
                hidden[number] = True
            else:
                order.append(number)
                oldest = min(oldest, -negative_time)
        popped.add(number)
        hide = hidden[number]
        parents = history.known_parents(number) if hide else history.parents(number)
        for parent in parents:
            before = hidden.get(parent)
            if before is None:
                hidden[parent] = hide
                open_count += not hide
                heappush(heap, (-time_of(parent), parent))
            elif hide and not before:
                hidden[parent] = True
                open_count -= parent not in popped
                heappush(heap, (-time_of(parent), parent))
        if ticker.due():
            yield
            ticker.restart()
    return dict.fromkeys(number for number in order if not hidden[number])


def _client_numbers(reader: ObjectReader, client_shallow: Iterable[bytes]) -> list[int]:
    """Return the client's shallow commits that we have; the others tell us nothing."""
    numbers = (reader.find(oid) for oid in dict.fromkeys(client_shallow))
    return [number for number in numbers if number >= 0]


def _commits_of(reader: ObjectReader, oids: Iterable[bytes]) -> list[int]:
    """Peel to commits; other objects have no depth."""
    commits: dict[int, None] = {}
    for oid in oids:
        number = reader.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        _tags, target, type_number = follow_tags(reader, number)
        if type_number == COMMIT:
            commits[target] = None
    return list(commits)


def _update(history: History, cut: _Cut, client: Collection[int]) -> ShallowUpdate:
    known = set(client)
    oid_of = history.reader.oid_of
    shallow = [oid_of(n) for n in dict.fromkeys(cut.boundary) if n not in known and n not in cut.inside]
    unshallowed = [n for n in dict.fromkeys(client) if n in cut.inside]
    more_wants = dict.fromkeys(p for n in unshallowed for p in history.parents(n))
    unshallow = [oid_of(n) for n in unshallowed]
    return ShallowUpdate(shallow, unshallow, [oid_of(n) for n in more_wants], unshallow)
