"""`git describe`: the nearest tag of a commit, and how far it is.

The commits are walked by date, newest first. Each tag that is met is a candidate (ten at most); a candidate's distance
is the number of commits that are reachable from the commit and not from the tag. The nearest wins.

    options   tags[=bool]  abbrev=N  match=PATTERN  exclude=PATTERN    separated by commas

Source: git-describe "SEARCH STRATEGY", git-log "%(describe)".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from govc.config.wildmatch import matches
from govc.graph.commits import History

CANDIDATES_MAX = 10


class TagName(NamedTuple):
    """One tag: what it finally names, its name below refs/tags/, whether it is annotated."""

    commit: bytes
    name: bytes
    annotated: bool


@dataclass
class _Candidate:
    name: bytes
    depth: int
    flag: int


@dataclass(frozen=True, slots=True)
class DescribeOptions:
    """What stands behind `describe:`; `digits` None for the usual length."""

    tags: bool = False
    digits: int | None = None
    match: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def parse_describe_options(text: bytes) -> DescribeOptions:
    """Parse the options; unknown ones are passed over."""
    tags, digits, match, exclude = False, None, [], []
    for option in filter(None, text.decode("utf-8", "surrogateescape").split(",")):
        name, equals, value = option.partition("=")
        if name == "tags":
            tags = not equals or value.lower() in ("", "true", "yes", "on", "1")
        elif name == "abbrev" and value.isdigit():
            digits = int(value[:4])
        elif name == "match":
            match.append(value)
        elif name == "exclude":
            exclude.append(value)
    return DescribeOptions(tags, digits, tuple(match), tuple(exclude))


def describe(history: History, commit: int, tags: Iterable[TagName], options: DescribeOptions) -> tuple[bytes, int]:
    """Return (tag, distance); (b"", 0) when no tag is behind the commit."""
    names = _names(tags, options)
    oid_of = history.reader.oid_of
    exact = names.get(oid_of(commit))
    if exact is not None:
        return exact, 0
    flags: dict[int, int] = {commit: 0}
    heap = [(-history.time(commit), 0, commit)]
    candidates: list[_Candidate] = []
    seen = count = 0
    while heap:
        number = heappop(heap)[2]
        name = names.get(oid_of(number))
        if name is not None and len(candidates) == CANDIDATES_MAX:
            heappush(heap, (-history.time(number), -1, number))
            break
        seen += 1
        if name is not None:
            candidates.append(_Candidate(name, seen - 1, 1 << len(candidates)))
            flags[number] |= candidates[-1].flag
        for candidate in candidates:
            if not flags[number] & candidate.flag:
                candidate.depth += 1
        for parent in history.known_parents(number):
            if parent not in flags:
                count += 1
                heappush(heap, (-history.time(parent), count, parent))
            flags[parent] = flags.get(parent, 0) | flags[number]
    if not candidates:
        return b"", 0
    best = min(candidates, key=lambda candidate: (candidate.depth, candidate.flag))
    _finish(history, best, heap, flags)
    return best.name, best.depth


def _finish(history: History, best: _Candidate, heap: list[tuple[int, int, int]], flags: dict[int, int]) -> None:
    """Count what the walk hadn't reached when there were enough candidates."""
    count = 1 << 40
    while heap:
        if all(flags[waiting[2]] & best.flag for waiting in heap):
            return
        number = heappop(heap)[2]
        if not flags[number] & best.flag:
            best.depth += 1
        for parent in history.known_parents(number):
            if parent not in flags:
                count += 1
                heappush(heap, (-history.time(parent), count, parent))
            flags[parent] = flags.get(parent, 0) | flags[number]


def _names(tags: Iterable[TagName], options: DescribeOptions) -> dict[bytes, bytes]:
    found: dict[bytes, TagName] = {}
    for tag in tags:
        text = tag.name.decode("utf-8", "surrogateescape")
        if options.match and not any(matches(pattern, text) for pattern in options.match):
            continue
        if any(matches(pattern, text) for pattern in options.exclude):
            continue
        known = found.get(tag.commit)
        if known is None or (tag.annotated and not known.annotated):
            found[tag.commit] = tag
    return {tag.commit: tag.name for tag in found.values() if options.tags or tag.annotated}
