"""The torture program: real clients at work while the server is killed again and again, with plain git beside it.

    python -m compat.torture [--seconds N] [--seed N] [--pushers N] [--keep]

What goes on at once, over one repository that `govc serve` serves with two workers:

    pushers    git push, each to refs of its own: one ref, two refs with --atomic, tags that come and go (of a commit
               that stays reachable: git gc takes the rest from under whoever was told of it a moment ago)
    observers  git ls-remote, git fetch, git clone
    plain git  in the repository itself: update-ref, pack-refs, repack -adb, gc --prune=now, one after the other
    the killer SIGKILL for one worker, or for the whole server, which is then started again

What must hold, at every moment and at the end:

- A push that was acknowledged (its line of `git push --porcelain`) is there, whole, for whoever asks afterwards.
- A push that was not acknowledged is there wholly or not at all; one that was refused is not there. (When a kill cuts
  a kept connection, git's HTTP library sends the push again, unasked: "the ref isn't what it was" may then be said of
  what the first one has done, and leaves in doubt whether it did.)
- No ref ever goes backwards: whoever asks sees at least what anybody saw or was promised before he asked.
- Nobody fails while nothing was killed, except for a lock that plain git held for a moment.
- At the end fsck is content, no lock, no .keep is left, plain git can write, a fresh clone agrees.

The choices are seeded; the times at which processes run are not, so a seed gives a similar run, not the same.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compat.frontends import server_environment
from compat.gitclient import Git
from compat.repos import Stream
from compat.torture_ledger import Finding, Ledger
from compat.torture_server import AnyServer, KilledServer

COMMITS_EACH = 1000
LARGE_EVERY = 25
LARGE_BYTES = 400_000
"""Now and then a pack that is too large for a log record."""
SETTLE_SECONDS = 120
REPOSITORY = "r.git"
NOT_AS_IT_WAS = ("(reference does not exist)", "(reference already exists)", "(incorrect old value provided)")
"""How a push is refused whose ref has another value than it was told."""


Actor = tuple[Callable[[], None], tuple[float, float]]
"""A step that is done again and again, and the pause between."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of it."""

    seconds: float = 120
    seed: int = 1
    pushers: int = 3
    observers: int = 1
    kill_pause_seconds: tuple[float, float] = (0.3, 4.0)
    server_kill_share: float = 0.35
    uses_plain_git: bool = True


@dataclass
class Report:
    """What happened."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        lines = [", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))]
        lines += [f"{len(self.findings)} findings"] + [f"  {finding}" for finding in self.findings[:40]]
        return "\n".join(lines)


def passed_on() -> dict[str, str]:
    """The settings of govc that the caller has in its environment: they are the server's, too."""
    return {name: value for name, value in os.environ.items() if name.startswith("GOVC_")}


class Torture:
    """One run in one scratch folder. `root` is what is served; `server` takes the place of the one that is killed."""

    def __init__(self, plan: Plan, scratch: Path, *, root: Path | None = None, server: AnyServer | None = None) -> None:
        self.plan = plan
        self.root = root or scratch / "served"
        self.work = scratch / "clients"
        self.root.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True)
        self.path = self.root / REPOSITORY
        self.git = Git(scratch / "client-home", self.work)
        self.ledger = Ledger()
        env = server_environment(scratch / "home", {"GIT_HTTP_EXPORT_ALL": "1"} | passed_on())
        self.server = server or KilledServer(self.root, scratch, env)
        self._chance = random.Random(plan.seed)
        self._end = threading.Event()

    # Before

    def build(self) -> None:
        """The served repository, and a chain of commits for each pusher."""
        self.git("init", "-q", "--bare", self.path)
        self.git("config", "http.receivepack", "true", cwd=self.path)
        self.git("config", "core.logAllRefUpdates", "true", cwd=self.path)
        stream = Stream()
        stream.commit("refs/heads/main", {"README": b"torture\n"})
        stream.load(self.git, self.path)
        base = self.git.rev(self.path, "main")
        for number in range(self.plan.pushers):
            place = self.work / f"pusher{number}.git"
            self.git("clone", "-q", "--bare", self.path, place)
            chain = Stream()
            for step in range(COMMITS_EACH):
                files = {f"c{number}/f{step % 50}": b"%d %d\n" % (number, step) * 20}
                if step % LARGE_EVERY == LARGE_EVERY // 2:
                    files[f"c{number}/large"] = self._chance.randbytes(LARGE_BYTES)
                chain.commit(
                    "refs/heads/chain",
                    files,
                    parents=[base] if step == 0 else None,
                )
            chain.load(self.git, place)
            oids = self.git("rev-list", "--reverse", f"{base}..chain", cwd=place).stdout.split()
            self.ledger.number_commits(oids)

    # Who is at work

    def _loop(self, step: Callable[[], None], pause: tuple[float, float], chance: random.Random) -> None:
        while not self._end.is_set():
            try:
                step()
            except Exception as error:
                self.ledger.find("the torture program itself failed", f"{type(error).__name__}: {error}")
                return
            self._end.wait(chance.uniform(*pause))

    def run(self) -> Report:
        """All of it; the findings are empty when everything held."""
        self.build()
        pushers = self.pushers()
        actors: list[Actor] = [(pusher.step, (0.0, 0.05)) for pusher in pushers]
        for number in range(self.plan.observers):
            actors.append((Observer(self, number, self._fork_chance()).step, (0.0, 0.1)))
        if self.plan.uses_plain_git:
            actors.append((PlainGit(self, self._fork_chance()).step, (0.0, 0.3)))
        assert isinstance(self.server, KilledServer)
        self.server.start()
        try:
            actors.append((self._kill_one, self.plan.kill_pause_seconds))
            self.work_for(self.plan.seconds, actors)
            self.server.ensure_up()
            for pusher in pushers:
                pusher.settle()
            Observer(self, 99, self._fork_chance()).check_clone()
        finally:
            self.server.stop()
        self.check_at_the_end()
        return Report(self.ledger.counts | self.server.counts, self.ledger.findings)

    def work_for(self, seconds: float, actors: Sequence[Actor], at_the_end: Callable[[], None] | None = None) -> None:
        """Let the actors work for that long; `at_the_end` is called while they still do."""
        self._end.clear()
        threads = [
            threading.Thread(target=self._loop, args=(step, pause, self._fork_chance())) for step, pause in actors
        ]
        for thread in threads:
            thread.start()
        self._end.wait(seconds)
        if at_the_end is not None:
            at_the_end()
        self._end.set()
        for thread in threads:
            thread.join()

    def pushers(self) -> list[Pusher]:
        """The clients that push."""
        return [Pusher(self, number, self._fork_chance()) for number in range(self.plan.pushers)]

    def _fork_chance(self) -> random.Random:
        return random.Random(self._chance.random())

    def _kill_one(self) -> None:
        assert isinstance(self.server, KilledServer)
        if self._chance.random() < self.plan.server_kill_share:
            self.server.kill_all()
            self.server.start()
        else:
            self.server.kill_worker(self._chance)

    # Afterwards

    def check_at_the_end(self) -> None:
        """Look at the repository with plain git, once nobody serves it."""
        self.ledger.check_final(self.git.refs(self.path))
        fsck = self.git("fsck", "--full", "--strict", "--no-dangling", cwd=self.path, check=False)
        if fsck.code or fsck.stderr.strip():
            self.ledger.find("fsck is not content", fsck.stderr + fsck.stdout)
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if name.endswith((".lock", ".keep", "packed-refs.new")) and not name.startswith("govc/"):
                self.ledger.find("left behind", name)
        for words in (("pack-refs", "--all", "--prune"), ("gc", "-q", "--prune=now"), ("update-server-info",)):
            result = self.git(*words, cwd=self.path, check=False)
            if result.code:
                self.ledger.find(f"plain git can't {words[0]} afterwards", result.stderr)
        self.ledger.check_final(self.git.refs(self.path))


class Client:
    """What pushers and observers share: running git and judging whether it may fail."""

    def __init__(self, torture: Torture, name: str, chance: random.Random) -> None:
        self.torture = torture
        self.ledger = torture.ledger
        self.server = torture.server
        self.chance = chance
        self.name = name

    @property
    def url(self) -> str:
        """The repository's URL."""
        return f"{self.server.url}/{REPOSITORY}"

    def git(self, *words: str | Path, cwd: Path | None = None) -> tuple[int, str, str, bool]:
        """Run git; return status, stdout, stderr, and whether something was killed or down meanwhile."""
        before = self.server.disturbances
        result = self.torture.git(*words, cwd=cwd, check=False, env={"GIT_FLUSH": "1"})
        return result.code, result.stdout, result.stderr, self.server.was_disturbed(before)


class Pusher(Client):
    """One client with refs of its own, and a chain of commits, each on top of the last."""

    def __init__(self, torture: Torture, number: int, chance: random.Random) -> None:
        super().__init__(torture, f"pusher {number}", chance)
        self.place = torture.work / f"pusher{number}.git"
        self.oids = torture.git("rev-list", "--reverse", "main..chain", cwd=self.place).stdout.split()
        self.next = 0
        self.number = number
        self.base = torture.git.rev(self.place, "main")
        self.tag: str | None = None
        self.tag_count = 0
        self.failing_since: float | None = None

    def step(self) -> None:
        """One push."""
        if self.next >= len(self.oids):
            return
        kind = self.chance.choices(("one", "pair", "tag"), (60, 25, 15))[0]
        oid = self.oids[self.next]
        if kind == "one":
            self._push({f"refs/heads/c{self.number}/main": oid})
        elif kind == "pair":
            self._push({f"refs/heads/c{self.number}/left": oid, f"refs/heads/c{self.number}/right": oid})
        elif self.tag is None:
            self.tag_count += 1
            self.tag = f"refs/tags/c{self.number}/t{self.tag_count}"
            self._push({self.tag: self.base})
        else:
            tag, self.tag = self.tag, None
            self._push({tag: None})

    def settle(self) -> None:
        """Push to every ref of ours once more, which has to succeed when nothing is killed any more."""
        refs = [f"refs/heads/c{self.number}/{name}" for name in ("main", "left", "right")]
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self._push({ref: self.oids[min(self.next, len(self.oids) - 1)] for ref in refs}):
            if time.monotonic() > deadline:
                self.ledger.find("a client can't push any more", self.name)
                return
            time.sleep(0.2)

    def _push(self, wanted: dict[str, str | None]) -> bool:
        """Push; note what was acknowledged, refused, or is in doubt. True when all was acknowledged."""
        options = ["--atomic"] if len(wanted) > 1 else []
        specs = [f"{oid or ''}:{ref}" for ref, oid in wanted.items()]
        self.next += 1
        self.ledger.begin(wanted)
        code, out, error, was_disturbed = self.git("push", "--porcelain", *options, self.url, *specs, cwd=self.place)
        acknowledged, refused = parse_porcelain(out, may_be_sent_twice=was_disturbed)
        self.ledger.end(wanted, acknowledged, refused)
        if code == 0:
            self.failing_since = None
            return True
        lock_held = "failed to update ref" in out or "cannot lock" in out + error or "failed to lock" in out
        if lock_held:
            self.ledger.count("pushes refused for a lock")
        gone = "remote ref does not exist" in error
        if (
            not was_disturbed
            and not lock_held
            and not gone
            and "stale info" not in out
            and "[remote rejected]" not in out
        ):
            self.ledger.find("a push failed though nothing was killed", f"{self.name}: {error}{out}")
        elif not was_disturbed and "[remote rejected]" in out and not lock_held:
            self.ledger.count(f"refused: {out.partition('[remote rejected]')[2].partition(chr(10))[0].strip()}")
        self._note_failure(was_disturbed)
        return False

    def _note_failure(self, was_disturbed: bool) -> None:
        now = time.monotonic()
        self.failing_since = now if was_disturbed else self.failing_since or now
        if now - self.failing_since > SETTLE_SECONDS / 2:
            self.ledger.find("a client gets nothing through for long", self.name)
            self.failing_since = None


class Observer(Client):
    """One client that only reads."""

    def __init__(self, torture: Torture, number: int, chance: random.Random) -> None:
        super().__init__(torture, f"observer {number}", chance)
        self.mirror = torture.work / f"mirror{number}.git"
        torture.git("init", "-q", "--bare", self.mirror)
        self.count = 0

    def step(self) -> None:
        """Ask for the refs, most of the time."""
        self.chance.choices((self.check_refs, self.check_fetch, self.check_clone), (70, 20, 10))[0]()

    def _reading(self, words: Sequence[str | Path], cwd: Path | None = None) -> str | None:
        code, out, error, was_disturbed = self.git(*words, cwd=cwd)
        self.ledger.count(f"{words[0]}s" if code == 0 else f"{words[0]}s cut off")
        if code and not was_disturbed:
            self.ledger.find(f"{words[0]} failed though nothing was killed", error)
        return None if code else out

    def check_refs(self) -> None:
        """ls-remote shows at least what was promised or seen before it was asked."""
        floor = self.ledger.floor()
        out = self._reading(("ls-remote", self.url))
        if out is not None:
            refs = dict(reversed(line.split("\t")) for line in out.splitlines())
            self.ledger.saw(refs, floor, "ls-remote")

    def check_fetch(self) -> None:
        """A mirror that is kept up to date is whole."""
        floor = self.ledger.floor()
        words = ("fetch", "-q", "--prune", self.url, "+refs/*:refs/*")
        if self._reading(words, cwd=self.mirror) is not None:
            self.ledger.saw(self.torture.git.refs(self.mirror), floor, "fetch")

    def check_clone(self) -> None:
        """So is a clone."""
        self.count += 1
        place = self.torture.work / f"clone-{self.name.split()[1]}-{self.count}.git"
        floor = self.ledger.floor()
        if self._reading(("clone", "-q", "--mirror", self.url, place)) is not None:
            self.ledger.saw(self.torture.git.refs(place), floor, "clone")
            result = self.torture.git("fsck", "--connectivity-only", cwd=place, check=False)
            if result.code:
                self.ledger.find("a clone is not whole", result.stderr)
        shutil.rmtree(place, ignore_errors=True)


class PlainGit(Client):
    """An admin's git in the repository itself; one command at a time, since git's own races are not our subject."""

    def __init__(self, torture: Torture, chance: random.Random) -> None:
        super().__init__(torture, "plain git", chance)
        self.value = 0

    def step(self) -> None:
        """One command."""
        path = self.torture.path
        command = self.chance.choices((self._commit, self._pack_refs, self._repack, self._gc), (40, 25, 25, 10))[0]
        words = command()
        result = self.torture.git(*words, cwd=path, check=False)
        if result.code == 0:
            self.ledger.count(f"plain {words[0]}")
        elif ".lock': File exists" in result.stderr or "cannot lock" in result.stderr:
            self.ledger.count(f"plain {words[0]} met a lock")
        else:
            self.ledger.find(f"plain git {words[0]} failed", result.stderr)

    def _commit(self) -> tuple[str, ...]:
        git, path = self.torture.git, self.torture.path
        tree = git.rev(path, "main^{tree}")
        parent = (
            ["-p", "refs/heads/plain"]
            if git("rev-parse", "-q", "--verify", "plain", cwd=path, check=False).code == 0
            else []
        )
        oid = git("commit-tree", tree, *parent, "-m", f"plain {self.value}", cwd=path).stdout.strip()
        self.value += 1
        return ("update-ref", "-m", "plain", "refs/heads/plain", oid)

    def _pack_refs(self) -> tuple[str, ...]:
        return ("pack-refs", "--all", "--prune")

    def _repack(self) -> tuple[str, ...]:
        return ("repack", "-adbq")

    def _gc(self) -> tuple[str, ...]:
        return ("gc", "-q", "--prune=now")


def parse_porcelain(out: str, *, may_be_sent_twice: bool = False) -> tuple[set[str], set[str]]:
    """The refs that were acknowledged, and those that the server refused, from `git push --porcelain`.

    `may_be_sent_twice`: what is refused since the ref isn't what it was is neither; the first one may have changed it.
    """
    acknowledged, refused = set(), set()
    for line in out.splitlines():
        fields = line.split("\t")
        if len(fields) < 3:
            continue
        ref = fields[1].rpartition(":")[2]
        if fields[0] in (" ", "+", "-", "*", "="):
            acknowledged.add(ref)
        elif may_be_sent_twice and fields[2].endswith(NOT_AS_IT_WAS):
            continue
        elif fields[2].startswith("[remote rejected]"):
            refused.add(ref)
    return acknowledged, refused


def torture(plan: Plan, scratch: Path) -> Report:
    """Run it."""
    return Torture(plan, scratch).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; status 1 when there are findings."""
    parser = argparse.ArgumentParser(prog="python -m compat.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pushers", type=int, default=Plan.pushers)
    parser.add_argument("--no-plain-git", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder when there are findings")
    options = parser.parse_args(arguments)
    plan = Plan(
        seconds=options.seconds,
        seed=options.seed,
        pushers=options.pushers,
        uses_plain_git=not options.no_plain_git,
    )
    scratch = Path(tempfile.mkdtemp(prefix="govc-torture-"))
    print(f"seed {plan.seed}, {plan.seconds:.0f} s, in {scratch}", file=sys.stderr, flush=True)
    report = torture(plan, scratch)
    print(report.text())
    if not (options.keep and report.findings):
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    main()
