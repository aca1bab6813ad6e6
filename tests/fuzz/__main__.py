"""The long run: `python -m tests.fuzz --minutes 10`, which is `make fuzz MINUTES=10`.

    --minutes M | --inputs N   how long, or how many inputs over all targets (by their weights)
    --seed S                   another one gives other inputs; the same one gives the same
    --target NAME ...          only these
    --number N                 one input of one target, shown and run: what a finding names
    --coverage N               measure branches with N inputs per target (times its weight), in this process
    --sanitized                only the kernels' targets, with AddressSanitizer and UndefinedBehaviorSanitizer

Exits with 1 when there are findings, or when a parser's branches are reached to less than 90 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

BRANCHES_MIN = 0.9


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every parser.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", nargs="*", default=[])
    parser.add_argument("--number", type=int, default=None)
    parser.add_argument("--coverage", type=int, default=0)
    parser.add_argument("--sanitized", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse_arguments(arguments)
    seed = given.seed or int(time.time())
    if given.sanitized:
        from tests.fuzz import sanitized

        sanitized.enter()
    if given.coverage:
        from tests.fuzz import coverage_of

        return report_coverage(coverage_of.begin(), given, seed)
    from tests.fuzz import engine, registry

    targets = [t for t in registry.find(tuple(given.target)) if t.kernels or not given.sanitized]
    if given.number is not None:
        return show_one(targets[0], seed, given.number)
    print(f"seed {seed}", flush=True)
    results = []
    weights = sum(target.weight for target in targets)
    for target in targets:
        until = float("inf")
        count = round(given.inputs * target.weight / weights) if given.inputs else 1 << 40
        if not given.inputs:
            until = time.monotonic() + 60 * given.minutes / len(targets)
        result = engine.run_apart(target, seed, 0, count, until=until, limit_memory=not given.sanitized)
        results.append(result)
        print_result(result)
    return print_summary(results)


def show_one(target: Any, seed: int, number: int) -> int:
    """Make and run one input; an exception shows itself."""
    from tests.fuzz import engine

    data = engine.make_input(target, seed, number)
    print(repr(data)[:20_000])
    try:
        target.run(data)
    except target.allowed as error:
        print(f"refused: {type(error).__name__}: {error}")
    else:
        print("fine")
    return 0


def print_result(result: Any) -> None:
    rate = result.inputs / result.seconds if result.seconds else 0
    kinds = f"  {dict(result.kinds)}" if result.kinds else ""
    print(
        f"{result.target:18} {result.inputs:>10,} inputs  {result.refused / max(result.inputs, 1):4.0%} refused"
        f"  {rate:>9,.0f}/s  slowest {result.slowest_seconds * 1000:7.1f} ms{kinds}",
        flush=True,
    )
    for finding in result.findings:
        print(f"    {finding.kind}: --target {finding.target} --seed {finding.seed} --number {finding.number}")
        print("        " + finding.text.strip().replace("\n", "\n        ")[-2500:], flush=True)


def print_summary(results: list[Any]) -> int:
    inputs = sum(result.inputs for result in results)
    findings = sum(sum(result.kinds.values()) for result in results)
    print(f"{inputs:,} inputs over {len(results)} targets, {findings} findings")
    return 1 if findings else 0


def report_coverage(measured: Any, given: argparse.Namespace, seed: int) -> int:
    import logging

    from tests.fuzz import coverage_of, registry

    logging.disable(logging.CRITICAL)
    targets = registry.find(tuple(given.target))
    results = coverage_of.run_measured(targets, seed, given.coverage)
    measured.stop()
    for result in results:
        if result.findings:
            print_result(result)
    modules = coverage_of.judge(measured, targets)
    for module in modules:
        missing = " ".join(module.missing)
        print(
            f"{module.share:6.1%} {module.taken:>4}/{module.total:<4} {module.module:40} {module.names[:60]}  {missing}"
        )
    total, taken = sum(m.total for m in modules), sum(m.taken for m in modules)
    print(
        f"{taken / total:.1%} of {total} branches in {len(modules)} modules, {sum(r.inputs for r in results):,} inputs"
    )
    few = [module.module for module in modules if module.share < BRANCHES_MIN]
    for name in few:
        print(f"below {BRANCHES_MIN:.0%}: {name}")
    return 1 if few or any(result.findings for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
