"""`python -m bench.reads [NAME=PATH ...]`: reads through the library beside libgit2 (pygit2), dulwich and git.

Rows 12 and 13 of the table. All contenders ask the same repository in this process, in turn, and are charged their
process's CPU time; git is a program, charged with its children's. "First" rows open the repository anew for each sample
(the page cache is warm for everybody); the others repeat the question until a tenth of a second is full.

    libgit2         as it comes: 256 MiB of cache, in which blobs are not kept, and every object read is hashed again
    libgit2 tuned   64 MiB of cache for objects of any kind up to 4 MiB, no hashing: what its options allow
    govc            the default budget of 64 MiB; every call validates by stat unless a row says "held"
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygit2
from dulwich.repo import Repo as DulwichRepo
from pygit2.enums import SortMode

from bench import generate, policies, report
from bench.lines import DIRECT, Goal, Line, Times, format_number, format_samples
from bench.path_log import log_of_path
from compat.gitclient import Git, client_environment
from govc import Repository

RESULTS = Path(__file__).with_name("READS.md")
LIBGIT2, TUNED, DULWICH, GIT = "libgit2", "libgit2 tuned", "dulwich", "git"
CONTENDERS = (DIRECT, LIBGIT2, TUNED, DULWICH, GIT)

SAMPLE_SECONDS = 0.1
CLOCK_SECONDS = 0.001
"""The clock itself takes half a microsecond: what is shorter than this is done several times between two looks."""

CASE_SECONDS_MAX = 12.0
READS = 2000
ZIPF_READS = 20_000
DULWICH_COMMITS_MAX = 20_000
FEW_REFS = 1000
"""A listing of so few is less than what its validation costs: shown, and held against no goal."""
CACHE_BYTES = 64 << 20
CACHED_BYTES = 16 << 20
"""What is called cached fits into everybody's cache."""

AT_ONCE = "in one call"

Work = Callable[[], object]
Makers = dict[str, Callable[[], Work]]


@dataclass(frozen=True)
class Case:
    """One question. `makers`: by contender, what prepares it (not timed) and returns the work and its count."""

    row: int
    what: str
    unit: str
    goal: Goal | None
    makers: Makers
    count: int = 1
    is_first: bool = False


@contextmanager
def tuned(on: bool) -> Iterator[None]:
    """Set libgit2's options, which hold for the process, and set them back."""
    limits = {pygit2.enums.ObjectType.BLOB: 0, pygit2.enums.ObjectType.TREE: 4096}
    limits |= {pygit2.enums.ObjectType.COMMIT: 4096, pygit2.enums.ObjectType.TAG: 4096}
    try:
        if on:
            pygit2.option(pygit2.GIT_OPT_SET_CACHE_MAX_SIZE, CACHE_BYTES)
            pygit2.option(pygit2.GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, False)
            for kind in limits:
                pygit2.option(pygit2.GIT_OPT_SET_CACHE_OBJECT_LIMIT, kind, 4 << 20)
        yield
    finally:
        pygit2.option(pygit2.GIT_OPT_SET_CACHE_MAX_SIZE, 256 << 20)
        pygit2.option(pygit2.GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, True)
        for kind, limit in limits.items():
            pygit2.option(pygit2.GIT_OPT_SET_CACHE_OBJECT_LIMIT, kind, limit)


def cpu_of(work: Work, name: str) -> float:
    """CPU seconds of one run."""
    if name == GIT:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    began = time.process_time()
    work()
    return time.process_time() - began


SCALE = {"ns": 1e9, "µs": 1e6, "ms": 1e3}


def measure(case: Case, on: str, rounds: int, say: Callable[[str], None]) -> Line:
    """Fill a line: rounds in which the contenders take turns."""
    line = Line(case.row, case.what, on, case.unit, case.goal)
    ready: dict[str, Work] = {}
    spent = dict.fromkeys(case.makers, 0.0)
    for number in range(rounds):
        for name, make in case.makers.items():
            if name in line.failures or (number and spent[name] > CASE_SECONDS_MAX):
                continue
            began = time.monotonic()
            try:
                with tuned(name == TUNED):
                    line.add(name, _sample(case, name, make, ready) * SCALE[case.unit] / case.count)
            except (pygit2.GitError, OSError, KeyError, subprocess.SubprocessError) as error:
                line.failures[name] = f"{type(error).__name__}: {error}"
            spent[name] += time.monotonic() - began
    say(f"{on}: {case.what}: " + ", ".join(f"{name} {format_samples(line, name)}" for name in case.makers))
    return line


def _sample(case: Case, name: str, make: Callable[[], Work], ready: dict[str, Work]) -> float:
    """CPU seconds of one run of the work."""
    if case.is_first or name == GIT:
        work = make()
        gc.collect()
        return cpu_of(work, name)
    if name not in ready:
        ready[name] = make()
        ready[name]()
    work = ready[name]
    gc.collect()
    total, times, batch = 0.0, 0, 1
    while total < SAMPLE_SECONDS:
        taken = cpu_of(work if batch == 1 else _repeated(work, batch), name)
        total += taken
        times += batch
        if taken < CLOCK_SECONDS:
            batch *= 2
    return total / times


def _repeated(work: Work, times: int) -> Work:
    def run() -> None:
        for _ in itertools.repeat(None, times):
            work()

    return run


@dataclass
class Site:
    """One repository, and the contenders that have it open. `plain`: a copy that no server of ours has met."""

    path: Path
    seed: int = 1
    plain: Path | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    def fresh(self, name: str) -> Any:
        """Open it anew."""
        path = str(self.path)
        if name == "plain" and self.plain is not None:
            return Repository(self.plain)
        return Repository(path) if name == DIRECT else DulwichRepo(path) if name == DULWICH else pygit2.Repository(path)

    def open(self, name: str) -> Any:
        """What stays open."""
        if name not in self.cache:
            self.cache[name] = self.fresh(name)
        return self.cache[name]

    def git(self, *words: str) -> Callable[[], Work]:
        """Make the work of a git command."""
        command = ["git", "-C", str(self.path), *words]
        environ = client_environment(Path(tempfile.gettempdir()) / "govc-bench-home")
        return lambda: lambda: subprocess.run(command, env=environ, check=True, capture_output=True)

    @property
    def repository(self) -> Repository:
        """Ours, that stays open."""
        found: Repository = self.open(DIRECT)
        return found


def object_cases(site: Site) -> list[Case]:
    """Contents: again, first, and more of them than fit."""
    everything = list(site.repository.objects)
    rng = random.Random(site.seed)
    sizes = {
        oid: site.repository.objects.header(oid)[1] for oid in rng.sample(everything, min(60_000, len(everything)))
    }
    oids = rng.sample(sorted(sizes), min(READS, len(sizes)))
    cached = [oid for oid in oids if sizes[oid] < CACHED_BYTES // len(oids) * 2]
    ranked = rng.sample(sorted(sizes), len(sizes))
    zipf = policies.zipf_trace(ranked, ZIPF_READS, rng)
    total = sum(sizes.values()) / (1 << 20)

    def reads(name: str, names: Sequence[bytes], *, again: bool, at_once: bool) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name) if again else site.fresh(name)
            if name == DIRECT:
                objects = opened.objects
                if at_once:
                    return lambda: list(objects.read_many(names))
                return lambda: [objects[oid] for oid in names]
            if name == DULWICH:
                read = opened.object_store.get_raw
                digits = [oid.hex().encode() for oid in names]
                return lambda: [read(oid) for oid in digits]
            read = opened.odb.read
            ids = [pygit2.Oid(raw=oid) for oid in names]
            return lambda: [read(oid) for oid in ids]

        return make

    def all_of(names: Sequence[bytes], *, again: bool, at_once: bool = False, more: Sequence[str] = ()) -> Makers:
        return {name: reads(name, names, again=again, at_once=at_once) for name in (DIRECT, LIBGIT2, TUNED, *more)}

    kind = "kind and bytes"
    some = f"Zipf over {len(ranked):,} objects of {total:,.0f} MiB"
    first = f"first read of {len(oids):,} objects"
    # libgit2's binding has no call for many: it is asked one by one on every line.
    return [
        Case(12, f"cached objects ({kind})", "ns", Times(50), all_of(cached, again=True, more=[DULWICH]), len(cached)),
        Case(12, f"cached objects, {AT_ONCE}", "ns", Times(50), all_of(cached, again=True, at_once=True), len(cached)),
        Case(12, f"{some} ({kind})", "µs", Times(50), all_of(zipf, again=True), len(zipf)),
        Case(12, f"{some}, {AT_ONCE}", "µs", Times(50), all_of(zipf, again=True, at_once=True), len(zipf)),
        Case(
            13,
            f"{first} ({kind})",
            "µs",
            Times(4),
            all_of(oids, again=False, more=[DULWICH]),
            len(oids),
            is_first=True,
        ),
        Case(
            13,
            f"{first}, {AT_ONCE}",
            "µs",
            Times(4),
            all_of(oids, again=False, at_once=True),
            len(oids),
            is_first=True,
        ),
    ]


def history_cases(site: Site) -> list[Case]:
    """Logs, merge bases, ahead and behind."""
    repository = site.repository
    log = repository.log()
    head = log[0].oid
    oids = random.Random(site.seed).sample(log.oids, min(10, len(log)))
    pairs = list(itertools.pairwise(oids))

    def walk(name: str, *, again: bool) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name) if again else site.fresh(name)
            if name == DIRECT:
                return lambda: [commit.oid for commit in opened.log()]
            if name == DULWICH:
                return lambda: [entry.commit.id for entry in opened.get_walker([head.hex().encode()])]
            start = pygit2.Oid(raw=head)
            return lambda: [commit.id for commit in opened.walk(start, SortMode.TIME)]

        return make

    def topo(name: str) -> Callable[[], Work]:
        def make() -> Work:
            opened, start = site.open(name), pygit2.Oid(raw=head)
            if name == DIRECT:
                return lambda: [commit.oid for commit in opened.log(order="topo")]
            return lambda: [commit.id for commit in opened.walk(start, SortMode.TOPOLOGICAL)]

        return make

    def messages(name: str) -> Callable[[], Work]:
        def make() -> Work:
            opened, start = site.open(name), pygit2.Oid(raw=head)
            if name == DIRECT:
                return lambda: [(c.oid, c.message) for c in opened.log(limit=1000)]
            return lambda: [(c.id, c.raw_message) for c in itertools.islice(opened.walk(start, SortMode.TIME), 1000)]

        return make

    def pairwise(name: str, ours: str, theirs: str) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name)
            if name == DIRECT:
                ask = getattr(opened, ours)
                return lambda: [ask(a, b) for a, b in pairs]
            ask = getattr(opened, theirs)
            ids = [(pygit2.Oid(raw=a), pygit2.Oid(raw=b)) for a, b in pairs]
            return lambda: [ask(a, b) for a, b in ids]

        return make

    both = (DIRECT, LIBGIT2)
    logs = {name: walk(name, again=True) for name in both}
    if len(log) <= DULWICH_COMMITS_MAX:
        logs[DULWICH] = walk(DULWICH, again=True)
    logs[GIT] = site.git("rev-list", "HEAD")
    count = len(log)
    return [
        Case(12, f"full log, {count:,} commits (a commit each, its oid read)", "ms", Times(50), logs),
        Case(
            12,
            "the same in topological order",
            "ms",
            Times(50),
            {**{name: topo(name) for name in both}, GIT: site.git("rev-list", "--topo-order", "HEAD")},
        ),
        Case(12, "newest 1,000 with their messages", "ms", Times(50), {name: messages(name) for name in both}),
        Case(
            12,
            "full log, first question after opening",
            "ms",
            None,
            {name: walk(name, again=False) for name in both},
            is_first=True,
        ),
        Case(
            12,
            "merge base of random pairs",
            "µs",
            Times(50),
            {name: pairwise(name, "merge_base", "merge_base") for name in both},
            len(pairs),
        ),
        Case(
            12,
            "ahead/behind of random pairs",
            "µs",
            Times(50),
            {name: pairwise(name, "ahead_behind", "ahead_behind") for name in both},
            len(pairs),
        ),
    ]


def ref_cases(site: Site) -> list[Case]:
    """Listings and single refs."""
    names = [ref.name for ref in site.repository.refs.list()]
    asked = random.Random(site.seed).sample(names, min(READS, len(names)))

    def listing(name: str, *, again: bool) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name) if again else site.fresh(name)
            if name == DIRECT:
                return lambda: opened.refs.list()
            if name == DULWICH:
                return lambda: opened.refs.as_dict()
            return lambda: [(ref.name, ref.target) for ref in opened.references.objects]

        return make

    def single(name: str, *, held: bool = False) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name)
            if name == DIRECT:
                ref = opened.snapshot().ref if held else opened.ref
                return lambda: [ref(asked_name).oid for asked_name in asked]
            words = [asked_name.decode() for asked_name in asked]
            return lambda: [opened.lookup_reference(word).target for word in words]

        return make

    count = len(names)
    listings = {name: listing(name, again=True) for name in (DIRECT, LIBGIT2, DULWICH)}
    listings[GIT] = site.git("for-each-ref", "--format=%(objectname) %(refname)")
    return [
        Case(
            12,
            f"listing of {count:,} refs (name, oid, peeled)",
            "ms",
            Times(50) if count > FEW_REFS else None,
            listings,
        ),
        Case(
            12,
            "the same, first question after opening",
            "ms",
            None,
            {name: listing(name, again=False) for name in (DIRECT, LIBGIT2)},
            is_first=True,
        ),
        Case(
            13,
            "single ref, held",
            "µs",
            Times(4),
            {DIRECT: single(DIRECT, held=True), LIBGIT2: single(LIBGIT2)},
            len(asked),
        ),
        Case(13, "single ref, validated", "µs", Times(4), {n: single(n) for n in (DIRECT, LIBGIT2)}, len(asked)),
    ]


def tree_cases(site: Site) -> list[Case]:
    """The root tree, and all files below it."""
    root = site.repository.resolve("HEAD^{tree}")

    def walk(tree: Any, prefix: str = "") -> Iterator[tuple[int, str, Any]]:
        for entry in tree:
            if entry.type_str == "tree":
                yield from walk(entry, f"{prefix}{entry.name}/")
            else:
                yield entry.filemode, prefix + entry.name, entry.id

    def listing(name: str, *, again: bool, deep: bool) -> Callable[[], Work]:
        def make() -> Work:
            opened = site.open(name) if again else site.fresh(name)
            if name == DIRECT:
                ask = opened.files if deep else opened.tree
                return lambda: ask(root)
            oid = pygit2.Oid(raw=root)
            if deep:
                return lambda: list(walk(opened[oid]))
            return lambda: [(entry.filemode, entry.name, entry.id) for entry in opened[oid]]

        return make

    def both(*, again: bool, deep: bool) -> dict[str, Callable[[], Work]]:
        return {name: listing(name, again=again, deep=deep) for name in (DIRECT, LIBGIT2, TUNED)}

    flat, deep = len(site.repository.tree()), len(site.repository.files())
    return [
        Case(13, f"root tree, {flat} entries (mode, name, oid)", "µs", Times(4), both(again=True, deep=False)),
        Case(13, f"all {deep:,} files (mode, path, oid)", "µs", Times(4), both(again=True, deep=True)),
        Case(13, "all files, first question", "ms", Times(4), both(again=False, deep=True), is_first=True),
    ]


def path_cases(site: Site) -> list[Case]:
    """Histories of paths: the first in a process, another one, the same again."""
    head = site.repository.commit().oid
    files = sorted(site.repository.files(), key=lambda file: file.oid)
    paths = [file.path for file in files[:: max(1, len(files) // 4)]][:4]

    def ours(kind: str) -> Callable[[], Work]:
        others = itertools.cycle(file.path for file in files[1:] if file.path not in paths)

        def make() -> Work:
            repository = site.fresh(DIRECT) if kind == "first" else site.open("plain" if kind == "plain" else DIRECT)
            repository.log()
            path = next(others) if kind in ("another", "plain") else paths[0]
            if kind in ("another", "plain"):
                repository.log(paths=[b"no-such-file"])
            if kind == "again":
                repository.log(paths=[path])
            return lambda: repository.log(paths=[path]).oids

        return make

    def theirs() -> Work:
        opened = site.open(LIBGIT2)
        return lambda: log_of_path(opened, pygit2.Oid(raw=head), paths[0].decode())

    git = site.git("rev-list", "HEAD", "--", paths[0].decode())
    peers: dict[str, Callable[[], Work]] = {LIBGIT2: theirs, GIT: git}
    shown = "history of one path (oids)"
    cases = [
        Case(12, f"{shown}, first path after opening", "ms", None, {DIRECT: ours("first"), **peers}, 1, is_first=True),
        Case(12, f"{shown}, another path", "ms", Times(50), {DIRECT: ours("another"), **peers}, 1, is_first=True),
        Case(12, f"{shown}, again", "ms", Times(50), {DIRECT: ours("again"), **peers}, 1, is_first=True),
    ]
    if site.plain is not None:
        words = f"{shown}, another path, where no server of ours has been"
        cases.append(Case(12, words, "ms", None, {DIRECT: ours("plain"), **peers}, 1, is_first=True))
    return cases


MAKERS = (object_cases, history_cases, ref_cases, tree_cases, path_cases)


def rows(sites: Sequence[tuple[str, Path]], rounds: int, say: Callable[[str], None]) -> list[Line]:
    """Measure everything on every repository; the lines of rows 12 and 13."""
    lines = []
    for title, path in sites:
        site = Site(path)
        for maker in MAKERS:
            for case in maker(site):
                lines.append(measure(case, title, rounds, say))
    return lines


def format_lines(lines: Sequence[Line]) -> str:
    """One Markdown table."""
    out = ["| | on | unit | " + " | ".join(CONTENDERS) + " | of libgit2 | of tuned | goal | |"]
    out.append("|---" * (len(CONTENDERS) + 7) + "|")
    for line in lines:
        ratios = [line.ratio(DIRECT, peer) for peer in (LIBGIT2, TUNED)]
        shown = [f"{format_number(ratio)}x" if ratio is not None else "" for ratio in ratios]
        verdict = ""
        if isinstance(line.goal, Times):
            known = [ratio for ratio in ratios if ratio is not None]
            verdict = "met" if known and min(known) >= line.goal.factor else "short"
            if verdict == "short" and known and max(known) >= line.goal.factor:
                verdict = "met beside the default, short of the tuned"
        cells = [line.what, line.on, line.unit, *(format_samples(line, name) for name in CONTENDERS)]
        out.append("| " + " | ".join([*cells, *shown, str(line.goal or ""), verdict]) + " |")
    return "\n".join(out) + "\n"


CONSISTS = """\
## What a read consists of

- **A cached object.** A read of ours is one look at the address of the name, beside Python's own loop and list: half
  of it is those; with a bare `dict` instead it takes longer. Who asks with a copy of the name needs a look into a
  hash, 6 ns more. libgit2's is one into its cache, a copy of the bytes and a tuple.
- **In one call** (`objects.read_many`) the loop is the kernel's. What isn't in the cache is read in the order in which
  it lies in the packs; it still has to be inflated, which is most of it. libgit2's binding has no such call.
- **A working set larger than the budget.** What isn't in the cache has to be inflated, by us as by libgit2: there the
  ratio is that of first reads, and the share of hits decides about the whole. Which policy it is matters less (below).
- **First reads** are inflating and deltas for everybody. We inflate with libdeflate, each entry once as long as it is
  kept, apply a chain at once, and don't hash. Half of the time is libdeflate's, the rest copying and new pages.
- **Messages**: each commit's content is looked up in the cache, and its message copied out of it.
- **A single ref, validated**: two `stat` calls are three quarters of it, and by themselves a third of what libgit2
  takes. Held, it is a look into a dictionary.
- **First questions** have no goal: they load the graph, or parse packed-refs. Where no server of ours has filled the
  index, a first path reads every root tree of the history once, however short the path's own history is; git and
  libgit2 stop at what they don't need.
"""


def format_report(lines: Sequence[Line], policy_text: str, sites: Sequence[tuple[str, Path]], loads: str) -> str:
    """The whole file."""
    words = []
    for title, path in sites:
        repository = Repository(path)
        words.append(f"{title} ({len(repository.objects):,} objects, {len(repository.log()):,} commits of HEAD)")
    head = f"""\
# Reads through the library

Written by `python -m bench.reads` on {time.strftime("%Y-%m-%d", time.gmtime())}. CPU time (user and system), median
(least to most); ratios are of medians of one run.

- Machine: {report.machine()}; {loads}.
- pygit2 {pygit2.__version__} with libgit2 {pygit2.LIBGIT2_VERSION}. `libgit2` is its default: every object that is read
  is hashed again, blobs are not cached. `libgit2 tuned`: `GIT_OPT_SET_CACHE_MAX_SIZE` 64 MiB,
  `GIT_OPT_SET_CACHE_OBJECT_LIMIT` 4 MiB for all kinds, `GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION` off. govc: 64 MiB in
  all, 16 of them what was inflated. git: its process, started for each question.
- Repositories: {", ".join(words)}. No commit-graph files, nor anything that govc wrote.
- What is yielded: govc a RawObject (kind, bytes), Commits, Refs, TreeEntries; libgit2 (type, bytes), Commits, (name,
  target), what a loop over a Tree makes of it. Both sides make the list that the row names. The history of a path is
  git's default simplification; with libgit2 it is the program in bench/path_log.py, which gives the same commits.

"""
    return head + format_lines(lines) + "\n" + CONSISTS + "\n" + policy_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("repositories", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    before = os.getloadavg()

    def say(text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="govc-reads-") as folder:
        scratch = Path(folder)
        (scratch / "work").mkdir()
        git = Git(scratch / "home", scratch / "work")
        history = generate.build_history(git, scratch / "history.git", generate.COMMITS)
        many = generate.build_refs(git, scratch / "refs.git", history, generate.REFS)
        sites = [("generated", history)]
        sites += [(name, Path(path)) for name, _, path in (text.rpartition("=") for text in options.repositories)]
        lines = rows(sites, options.rounds, say)
        lines += [measure(case, f"{generate.REFS:,} refs", options.rounds, say) for case in ref_cases(Site(many))]
        text = format_report(
            lines, policies.format_policies(sites[-1][1], say), sites, report.format_loads(before, os.getloadavg())
        )
    options.output.write_text(text)


if __name__ == "__main__":
    main()
