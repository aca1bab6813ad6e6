"""`bench.policies`: which objects should a cache with a budget keep? Policies beside each other, over traces of reads.

The traces are made of a repository's own objects, with their sizes:

    zipf       some objects are asked for far more often than others, whichever they are
    scans      the same, and after every fifth of it all objects once, as a log or a listing does
    loop       all objects in order, again and again
    uniform    any object

A policy's figure is the share of reads that it answers. What `kernels.objectcache` runs is measured by running it.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from govc import Repository
from govc.kernels.objectcache import ENTRY_BYTES, ObjectCache

OBJECTS_MAX = 20_000
READS = 100_000
OVERHEAD = 160 + ENTRY_BYTES
SHARES = (0.1, 0.3)
"""Of the bytes of all objects: the budgets."""


def zipf_trace(ranked: Sequence[bytes], count: int, rng: random.Random) -> list[bytes]:
    """Reads of which the n-th object gets a share of 1/n."""
    sums = list(accumulate(1 / (rank + 1) for rank in range(len(ranked))))
    return [ranked[bisect_left(sums, rng.random() * sums[-1])] for _ in range(count)]


def traces(oids: Sequence[bytes], rng: random.Random) -> Iterator[tuple[str, list[bytes]]]:
    """The four of them."""
    zipf = zipf_trace(rng.sample(oids, len(oids)), READS, rng)
    yield "zipf", zipf
    part = len(zipf) // 5
    yield "scans", [oid for k in range(5) for oid in (*zipf[k * part : (k + 1) * part], *oids)]
    yield "loop", list(oids) * max(2, READS // len(oids))
    yield "uniform", rng.choices(oids, k=READS)


def lru(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int) -> int:
    """Who was asked for longest ago goes."""
    return _by_age(trace, sizes, budget, is_young_again=True)


def _by_age(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int, *, is_young_again: bool) -> int:
    kept: OrderedDict[bytes, int] = OrderedDict()
    used = hits = 0
    for oid in trace:
        if oid in kept:
            hits += 1
            if is_young_again:
                kept.move_to_end(oid)
            continue
        kept[oid] = sizes[oid]
        used += sizes[oid]
        while used > budget:
            used -= kept.popitem(last=False)[1]
    return hits


def fifo(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int) -> int:
    """Who came first goes."""
    return _by_age(trace, sizes, budget, is_young_again=False)


def clock(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int) -> int:
    """Who came first goes, unless it was asked for since: then it comes again."""
    kept: OrderedDict[bytes, bool] = OrderedDict()
    used = hits = 0
    for oid in trace:
        if oid in kept:
            hits += 1
            kept[oid] = True
            continue
        kept[oid] = False
        used += sizes[oid]
        while used > budget:
            oldest, was_asked = kept.popitem(last=False)
            if was_asked:
                kept[oldest] = False
            else:
                used -= sizes[oldest]
    return hits


def two_queues(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int) -> int:
    """2Q: new ones in a first queue of a quarter, who is asked for again later in an LRU list."""
    first: OrderedDict[bytes, int] = OrderedDict()
    main: OrderedDict[bytes, int] = OrderedDict()
    ghosts: OrderedDict[bytes, None] = OrderedDict()
    in_first = in_main = hits = 0
    for oid in trace:
        if oid in main:
            hits += 1
            main.move_to_end(oid)
            continue
        if oid in first:
            hits += 1
            continue
        if oid in ghosts:
            del ghosts[oid]
            main[oid] = sizes[oid]
            in_main += sizes[oid]
        else:
            first[oid] = sizes[oid]
            in_first += sizes[oid]
        while in_first + in_main > budget:
            if first and (in_first * 4 > budget or not main):
                name, size = first.popitem(last=False)
                in_first -= size
                ghosts[name] = None
                if len(ghosts) > len(sizes) // 2:
                    ghosts.popitem(last=False)
            else:
                in_main -= main.popitem(last=False)[1]
    return hits


def ours(trace: Sequence[bytes], sizes: Mapping[bytes, int], budget: int) -> int:
    """S3-FIFO, as the library runs it."""
    cache = ObjectCache(budget)
    for oid in trace:
        if cache.peek(oid) is None:
            cache.put(oid, oid, sizes[oid] - ENTRY_BYTES)
    return cache.hits


POLICIES = {"FIFO": fifo, "LRU": lru, "clock": clock, "2Q": two_queues, "S3-FIFO (ours)": ours}


def format_policies(path: Path, say: Callable[[str], None]) -> str:
    """Measure, and return a section of READS.md."""
    repository = Repository(path)
    rng = random.Random(7)
    everything = sorted(repository.objects)
    oids = rng.sample(everything, min(OBJECTS_MAX, len(everything)))
    sizes = {oid: repository.objects.header(oid)[1] + OVERHEAD for oid in oids}
    total = sum(sizes.values())
    largest = int(total * min(SHARES)) // 8
    oids = [oid for oid in oids if sizes[oid] < largest]
    kept = sum(sizes[oid] for oid in oids) >> 20
    out = [
        "## Who is dropped: share of reads that the cache answers\n",
        f"{len(oids):,} objects of the last repository above, {kept} MiB with what an entry costs.\n",
        "| trace | budget | " + " | ".join(POLICIES) + " |",
        "|---" * (len(POLICIES) + 2) + "|",
    ]
    for title, trace in traces(oids, rng):
        for share in SHARES:
            shares = [policy(trace, sizes, int(total * share)) / len(trace) for policy in POLICIES.values()]
            out.append(f"| {title} | {share:.0%} of it | " + " | ".join(f"{x:.1%}" for x in shares) + " |")
            say(out[-1])
    return "\n".join(out) + "\n"
