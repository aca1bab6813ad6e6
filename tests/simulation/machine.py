"""A machine with one disk and some processes: runs them, decides who goes next and what fails, keeps the trace.

    machine = Machine(root)
    run = machine.run(push_one, push_two)     # two processes, their calls in one order
    run.calls, run.results

A process is a function that gets its `SimulatedDisk` (already in use) and returns something that can be pickled. It
runs in a forked child. The calls of one run have one order: only one process at a time is let go on. Who comes
next is a seeded choice among those that want something; one that waits for another's lock wants nothing, so
after a short grace the others go on without it.

What appears in the folder without a call (a quarantine before it is published, git, memory maps) is found before each
call and becomes part of the trace as unsynced changes of process -1.

`faults` decides about each call: it gets the call's number among the seam calls of this run, its kind, path and
the number of bytes it would make a file grow, and returns a verdict: GO, DIE, Fail(errno), Short(bytes).
"""

import contextlib
import multiprocessing
import os
import random
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from govc import disk as seam
from tests.simulation.disk import SimulatedDisk
from tests.simulation.model import ROOT, Model
from tests.simulation.trace import Call

GRACE_SECONDS = 0.004
STUCK_SECONDS = 120
POLLED_BYTES_MAX = 1 << 16
POLLED_FOLDER = "govc"


class Fail(NamedTuple):
    """The call raises OSError(errno)."""

    errno: int


class Short(NamedTuple):
    """The write stops after that many bytes."""

    byte_count: int


class Die(NamedTuple):
    """The process ends before the call."""


class Go(NamedTuple):
    """The call happens."""


Verdict = Fail | Short | Die | Go
Faults = Callable[[int, str, str, int], Verdict]
Process = Callable[[SimulatedDisk], Any]


class ProcessFailed(AssertionError):
    """A simulated process ended by an exception of its own; the text is its traceback."""


@dataclass
class Run:
    """What happened: all calls in order, what the processes returned (None for one that died), who died."""

    calls: list[Call] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    died: list[bool] = field(default_factory=list)

    @property
    def seam_call_count(self) -> int:
        """How many points there are at which a process can be stopped."""
        return sum(call.is_seam_call for call in self.calls)


def never(number: int, kind: str, path: str, growth: int) -> Verdict:
    """No fault."""
    return Go()


class Machine:
    """One watched folder."""

    def __init__(self, root: str, *, seed: int = 0) -> None:
        """Begin with what lies in `root` as durable."""
        self.root = os.path.realpath(root)
        self.model = Model.of_folder(self.root)
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._chance = random.Random(seed)
        self._scan([])

    def run(self, *processes: Process, faults: Faults = never) -> Run:
        """Run the processes to their ends. Raises ProcessFailed."""
        outcome = Run()
        children: dict[Connection, int] = {}
        pids = []
        ends = [multiprocessing.Pipe() for _ in processes]
        for number, process in enumerate(processes):
            outcome.results.append(None)
            outcome.died.append(False)
            pid = os.fork()
            if pid == 0:
                for other, (ours, theirs) in enumerate(ends):
                    ours.close()
                    if other != number:
                        theirs.close()
                _live(process, self.root, ends[number][1], number)
            pids.append(pid)
        for number, (ours, theirs) in enumerate(ends):
            theirs.close()
            children[ours] = number
        try:
            failure = self._serve(children, outcome, faults)
        except BaseException:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        finally:
            for ours, _ in ends:
                ours.close()
            for pid in pids:
                os.waitpid(pid, 0)
        self._scan(outcome.calls)
        if failure is not None:
            raise ProcessFailed(failure)
        return outcome

    def _serve(self, children: dict[Connection, int], run: Run, faults: Faults) -> str | None:
        """Answer the processes until all have ended; the first traceback, if any."""
        waiting: dict[Connection, tuple[str, str, int]] = {}
        failure: str | None = None
        count = 0
        while children:
            quiet = [child for child in children if child not in waiting]
            ready = wait(quiet, GRACE_SECONDS if waiting else STUCK_SECONDS) if quiet else []
            if not ready and not waiting:
                raise ProcessFailed(f"no process did anything for {STUCK_SECONDS} s")
            for child in ready:
                assert isinstance(child, Connection)
                heard = self._hear(child, children, run)
                if isinstance(heard, tuple):
                    waiting[child] = heard
                elif isinstance(heard, str):
                    failure = failure or heard
            if ready or not waiting:
                continue
            child = self._chance.choice(sorted(waiting, key=lambda child: children[child]))
            kind, path, growth = waiting.pop(child)
            self._scan(run.calls)
            verdict = faults(count, kind, path, growth)
            count += 1
            self._grant(child, children, run, verdict)
        return failure

    def _hear(self, child: Connection, children: dict[Connection, int], run: Run) -> Any:
        """Read one message: a wish (tuple), a traceback (str), or something that is noted right away (None)."""
        number = children[child]
        try:
            message = child.recv()
        except (EOFError, ConnectionError):
            run.died[number] = run.results[number] is None
            del children[child]
            return None
        if isinstance(message, Call):
            self._add(run.calls, message)
            return None
        if isinstance(message, tuple):
            return message
        kind, value = message
        if kind == "result":
            run.results[number] = (value,)
            return None
        return str(value)

    def _grant(self, child: Connection, children: dict[Connection, int], run: Run, verdict: Verdict) -> None:
        """Let one process make its call, and hear what came of it."""
        match verdict:
            case Die():
                child.send(("die", 0))
            case Fail(errno):
                child.send(("fail", errno))
                return  # a failed sync tells, which `_hear` reads like any message
            case Short(size):
                child.send(("go", size))
            case Go():
                child.send(("go", -1))
        try:
            done = child.recv()
        except (EOFError, ConnectionError):
            run.died[children.pop(child)] = True
            return
        if done is not None:
            self._add(run.calls, done)

    def _add(self, calls: list[Call], call: Call) -> None:
        self.model.apply(call)
        calls.append(call)

    # What happened without a call

    def _scan(self, calls: list[Call]) -> None:
        """Compare the folder with the model's cached state, and add what differs."""
        self._scan_folder(self.root, "", ROOT, calls)

    def _scan_folder(self, full: str, prefix: str, number: int, calls: list[Call]) -> None:
        known = self.model.folders[number].cached
        try:
            entries = {entry.name: entry for entry in os.scandir(full)}
        except FileNotFoundError:
            return
        for name in [name for name in known if name not in entries]:
            self._forget(f"{prefix}{name}", known[name], calls)
        for name, entry in sorted(entries.items()):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            self._compare(f"{prefix}{name}", entry.path, status, calls)

    def _forget(self, path: str, node: int, calls: list[Call]) -> None:
        if node in self.model.folders:
            for name, child in list(self.model.folders[node].cached.items()):
                self._forget(f"{path}/{name}", child, calls)
            self._add(calls, Call("rmdir", path=path))
        else:
            self._add(calls, Call("unlink", path=path))

    def _compare(self, path: str, full: str, status: os.stat_result, calls: list[Call]) -> None:
        node = self.model.node_at(path)
        expected = self.model.by_inode.get(status.st_ino)
        is_folder = stat.S_ISDIR(status.st_mode)
        if node is None or node != expected or (node in self.model.folders) != is_folder:
            if node is not None:
                self._forget(path, node, calls)
            self._appear(path, full, status, expected, calls)
            node = self.model.node_at(path)
        assert node is not None
        if is_folder:
            self._scan_folder(full, f"{path}/", node, calls)
        elif stat.S_ISREG(status.st_mode):
            self._compare_content(path, full, status, node, calls)

    def _appear(self, path: str, full: str, status: os.stat_result, expected: int | None, calls: list[Call]) -> None:
        mode, inode = status.st_mode & 0o7777, status.st_ino
        if stat.S_ISDIR(status.st_mode):
            self._add(calls, Call("mkdir", path=path, inode=inode, mode=mode))
        elif stat.S_ISLNK(status.st_mode):
            self._add(calls, Call("symlink", path=path, inode=inode, data=os.fsencode(os.readlink(full))))
        elif expected is not None and expected in self.model.files and self._is_named(expected):
            self._add(calls, Call("link", path=path, target=path, inode=inode))
        else:
            self._add(calls, Call("create", path=path, inode=inode, mode=mode, time_ns=status.st_mtime_ns))

    def _is_named(self, node: int) -> bool:
        """Whether a file still has a name; else its inode may have been given away."""
        return any(node in folder.cached.values() for folder in self.model.folders.values())

    def _compare_content(self, path: str, full: str, status: os.stat_result, node: int, calls: list[Call]) -> None:
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        is_polled = path.startswith(f"{POLLED_FOLDER}/") and status.st_size <= POLLED_BYTES_MAX
        if self._stamps.get(path) == stamp and not is_polled:
            return
        try:
            with open(full, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            return
        self._stamps[path] = stamp
        if bytes(self.model.files[node].cached) != data:
            self._add(calls, Call("content", path=path, inode=status.st_ino, data=data, time_ns=status.st_mtime_ns))


def _live(process: Process, root: str, connection: Connection, number: int) -> None:
    """The child: run the function behind the seam, tell what it returned, and end without any cleaning up."""
    code = 0
    simulated = SimulatedDisk(root, connection, number)
    try:
        with seam.use(simulated):
            result = process(simulated)
        connection.send(["result", result])
    except BaseException:
        connection.send(["traceback", traceback.format_exc()])
        code = 1
    sys.stdout.flush()
    connection.close()
    os._exit(code)


def stop_at(number: int, written: int | None = None) -> Faults:
    """Kill whoever wants to make call `number`; `written`: after that many bytes of it, when it is a write."""

    def decide(count: int, kind: str, path: str, growth: int) -> Verdict:
        if written is not None and kind == "write" and count == number:
            return Short(written)
        return Die() if count == number + (written is not None) else Go()

    return decide


def fail_between(first: int, end: int, errno: int) -> Faults:
    """Let the calls from `first` up to but not `end` fail."""

    def faults(at: int, kind: str, path: str, growth: int) -> Verdict:
        return Fail(errno) if first <= at < end else Go()

    return faults


def fail_at(number: int, errno: int) -> Faults:
    """Let call `number` fail, once."""
    return lambda count, kind, path, growth: Fail(errno) if count == number else Go()


def fill_up_at(number: int, errno: int) -> Faults:
    """From call `number` on nothing can be made or grow: a full disk."""
    makes = {"create", "mkdir", "link"}
    return lambda count, kind, path, growth: Fail(errno) if count >= number and (kind in makes or growth) else Go()
