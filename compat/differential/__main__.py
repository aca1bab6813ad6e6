"""The long run: `python -m compat.differential [--minutes M | --inputs N] [--seed S] [--number N] [--newer GIT]`.

Exits with 1 when an answer differs in a way that isn't judged. Each finding names its seed and number; `--number` sends
the requests from the last reset up to that one again, and shows both answers.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from compat.differential.answers import look_at
from compat.differential.differences import TWICE, is_of_newer_git, judge, names_twice
from compat.differential.requests import make_request
from compat.differential.world import Request, World
from tests.fuzz.draw import Draw

RESET_EVERY = 100
SHOWN_MAX = 50


def make(world: World, seed: int, number: int) -> Request:
    """The request of that number; what it is also depends on what the pushes since the last reset have done."""
    return make_request(Draw(f"{seed}/http/{number}"), world)


def check(world: World, request: Request) -> tuple[str | None, str]:
    """Ask both; return the verdict (see `judge`) and, for None, what to show.

    A difference that is said to be newer git's is asked of it, where there is one.
    """
    before = world.copy_theirs() if world.newer and request.kind == "push" and names_twice(request) else world.theirs
    mine, other = world.ask_ours(request), world.ask_theirs(request)
    if world.has_crashed:
        world.reset()
        return "git crashes", ""
    ours, theirs = look_at(request, mine), look_at(request, other)
    verdict = judge(request, ours, theirs)
    if world.newer and verdict and is_of_newer_git(verdict):
        newest = look_at(request, world.ask_newer(request, before))
        agreed = judge(request, ours, newest)
        if agreed is None or is_of_newer_git(agreed):
            return None, f"{verdict}: newer git says otherwise\nours   {shown(ours)}\nnewer  {shown(newest)}"
    name = request.repository
    if verdict == TWICE:
        world.reset()
    elif verdict is not None and request.kind == "push" and name:
        refs = world.refs_of(world.ours, name), world.refs_of(world.theirs, name)
        if refs[0] != refs[1] and names_twice(request):
            world.reset()
            return TWICE, ""
        if refs[0] != refs[1]:
            return None, f"refs differ: {dict(refs[0].items() ^ refs[1].items())}\nours {ours}\ntheirs {theirs}"
    return verdict, "" if verdict is not None else f"ours   {shown(ours)}\ntheirs {shown(theirs)}"


def shown(value: object) -> str:
    return repr(value)[:1500]


def run(world: World, seed: int, first: int, count: int, until: float) -> tuple[int, Counter[str], list[str]]:
    """Send requests; return how many, the verdicts, and the findings."""
    verdicts: Counter[str] = Counter()
    findings: list[str] = []
    done = 0
    for number in range(first, first + count):
        if time.monotonic() > until:
            break
        if number % RESET_EVERY == 0:
            world.reset()
        request = make(world, seed, number)
        verdict, text = check(world, request)
        done += 1
        verdicts[f"{request.kind}: {'agree' if verdict == '' else verdict if verdict else 'UNEXPLAINED'}"] += 1
        if verdict is None:
            world.reset()
            if len(findings) < SHOWN_MAX:
                variables = {k: v for k, v in request.variables.items() if k.isupper()}
                findings.append(f"--seed {seed} --number {number}\n{variables}\n{shown(request.body)}\n{text}")
    return done, verdicts, findings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m compat.differential")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, default=None)
    parser.add_argument("--newer", help="the program of a newer git, asked where we are said to answer as newer ones")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    seed = given.seed or int(time.time())
    folder = Path(tempfile.mkdtemp(prefix="govc-differential-"))
    world = World(folder / "world", given.newer)
    try:
        if given.number is not None:
            first = given.number - given.number % RESET_EVERY
            done, verdicts, findings = run(world, seed, first, given.number - first + 1, float("inf"))
        else:
            until = float("inf") if given.inputs else time.monotonic() + 60 * given.minutes
            done, verdicts, findings = run(world, seed, 0, given.inputs or 1 << 40, until)
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)
    for finding in findings:
        print(finding, end="\n\n")
    for name, number in sorted(verdicts.items()):
        print(f"{number:>8}  {name}")
    unexplained = sum(number for name, number in verdicts.items() if name.endswith("UNEXPLAINED"))
    print(f"{done:,} requests, seed {seed}, {unexplained} unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
