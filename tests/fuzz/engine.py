"""Runs inputs against parsers and watches what they do: exceptions, time, memory, the life of the process.

A `Target` knows how to make an input from a `Draw` and what to do with it. What may come out is a value or an exception
that the parser documents. A finding is anything else:

    exception     one that isn't documented, an AssertionError of the target (two parsers that disagree) among them
    slow          more than `seconds_max` of CPU for one input
    memory        more than `bytes_max` that the process grew by during one input
    death         the process died: a signal, a sanitizer's report

Each target runs in a process of its own, which notes the number of the input before it begins with it, so a death is
told with the input that caused it. Any input is made again from its seed, target and number (`python -m tests.fuzz
--target NAME --seed S --number N`).
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

from tests.fuzz.draw import Draw

HANG_SECONDS = 20.0
FINDINGS_MAX = 20
ADDRESS_SPACE_BYTES = 4 << 30

_NUMBER = struct.Struct("<Q")


class Hang(BaseException):
    """An input that didn't come to an end; not an Exception, so that nothing swallows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser, or a few that belong together.

    `covers`: the modules that it reaches, each "module" or "module:name,name" (functions and classes of it). `weight`:
    its share of the inputs of a long run; cheap parsers take more.
    """

    name: str
    covers: tuple[str, ...]
    make: Callable[[Draw], Any]
    run: Callable[[Any], object]
    allowed: tuple[type[BaseException], ...] = ()
    seconds_max: float = 2.0
    bytes_max: int = 256 << 20
    weight: float = 1.0
    kernels: bool = False
    tidy: Callable[[], None] | None = None


@dataclass(slots=True)
class Finding:
    """What went wrong with one input."""

    target: str
    seed: int
    number: int
    kind: str
    text: str


@dataclass(slots=True)
class Result:
    """What became of some inputs of one target."""

    target: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    slowest_number: int = -1
    findings: list[Finding] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)


def make_input(target: Target, seed: int, number: int) -> Any:
    """The input of that number."""
    return target.make(Draw(f"{seed}/{target.name}/{number}"))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _raise_hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang


@contextmanager
def _watchdog() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _raise_hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _signature(error: BaseException) -> str:
    """The place of an exception, to tell findings apart: what was raised, and by which line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {os.path.basename(last.filename)}:{last.lineno}"


def run_inputs(
    target: Target,
    seed: int,
    first: int,
    count: int,
    *,
    until: float = float("inf"),
    note: Callable[[int], None] = lambda _: None,
) -> Result:
    """Run the inputs first, first + 1, ..., in this process; stop early when the clock passes `until` (monotonic)."""
    result = Result(target.name)
    make, run, allowed, name = target.make, target.run, target.allowed, target.name
    cpu = time.thread_time
    peak = _peak_bytes()
    with _watchdog():
        for number in range(first, first + count):
            if not number & 63:
                signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
                if time.monotonic() > until:
                    break
            note(number)
            trouble: BaseException | None = None
            began = cpu()
            try:
                data = make(Draw(f"{seed}/{name}/{number}"))
                began = cpu()
                run(data)
            except allowed:
                result.refused += 1
            except Hang as error:
                trouble = error
                signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                trouble = error
            spent = cpu() - began
            result.inputs += 1
            result.seconds += spent
            if spent > result.slowest_seconds:
                result.slowest_seconds, result.slowest_number = spent, number
            if isinstance(trouble, Hang):
                _keep(result, Finding(name, seed, number, "slow", f"no end after {HANG_SECONDS} s"), "hang")
            elif trouble is not None:
                text = "".join(traceback.format_exception(trouble, limit=-8))
                _keep(result, Finding(name, seed, number, "exception", text[-4000:]), _signature(trouble))
            elif spent > target.seconds_max:
                _keep(result, Finding(name, seed, number, "slow", f"{spent:.2f} s"), "slow")
            now = _peak_bytes()
            if now > peak:
                if now - peak > target.bytes_max and trouble is None:
                    _keep(result, Finding(name, seed, number, "memory", f"{(now - peak) >> 20} MiB"), "memory")
                peak = now
    if target.tidy is not None:
        target.tidy()
    return result


def _keep(result: Result, finding: Finding, signature: str) -> None:
    """Keep the first of each kind, count the others."""
    seen = result.kinds.get(signature, 0)
    result.kinds[signature] = seen + 1
    if not seen and len(result.findings) < FINDINGS_MAX:
        result.findings.append(finding)


def run_apart(
    target: Target, seed: int, first: int, count: int, *, until: float = float("inf"), limit_memory: bool = True
) -> Result:
    """Run the inputs in a process of their own; go on behind one that kills it."""
    total = Result(target.name)
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    end = first + count
    while first < end:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(target, seed, first, end - first, until, shared, writing, limit_memory)
        os.close(writing)
        with open(reading, "rb") as file:
            said = file.read()
        _, status = os.waitpid(child, 0)
        if status == 0 and said:
            values = json.loads(said)
            values["findings"] = [Finding(**finding) for finding in values["findings"]]
            _add(total, Result(**values))
            break
        (number,) = _NUMBER.unpack_from(shared)
        total.inputs += number - first + 1
        code = os.waitstatus_to_exitcode(status)
        _keep(total, Finding(target.name, seed, number, "death", f"exit status {code}"), f"death {code}")
        first = number + 1
        if sum(n for kind, n in total.kinds.items() if kind.startswith("death")) >= FINDINGS_MAX:
            break
    shared.close()
    return total


def _child(
    target: Target,
    seed: int,
    first: int,
    count: int,
    until: float,
    shared: mmap.mmap,
    writing: int,
    limit_memory: bool,
) -> None:
    """What the process does; never returns."""
    status = 1
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        if limit_memory:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        result = run_inputs(
            target, seed, first, count, until=until, note=lambda number: _NUMBER.pack_into(shared, 0, number)
        )
        with open(writing, "wb") as file:
            file.write(json.dumps(asdict(result)).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _add(total: Result, part: Result) -> None:
    total.inputs += part.inputs
    total.refused += part.refused
    total.seconds += part.seconds
    if part.slowest_seconds > total.slowest_seconds:
        total.slowest_seconds, total.slowest_number = part.slowest_seconds, part.slowest_number
    total.findings += part.findings
    for kind, number in part.kinds.items():
        total.kinds[kind] = total.kinds.get(kind, 0) + number
