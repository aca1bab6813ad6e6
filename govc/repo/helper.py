"""Helper processes: long CPU work that must not stall the hub.

A worker's hub serves thousands of connections from one thread, so whatever may take more than a few milliseconds
of CPU runs in a process of its own: indexing a large push, enumerating and writing a large pack, repacking. A helper is
started by exec (never by fork of a patched, threaded process), works on descriptors that it inherits (so a pack that
plain git deletes meanwhile stays readable), talks over its two pipes, and is killed when nobody wants its answer any
more. If it dies (a bus error under a truncated mapping, the OOM killer) only its own request fails.

The conversation: the parent writes one pickled `Job` to the helper's stdin and closes it. The helper answers with
frames on stdout, each `kind (1 byte), length (4 bytes, big-endian), payload`:

    D  bytes of the product        P  a progress text, UTF-8
    R  the pickled result, last    E  a pickled (public text, log text, http status[, limit]), last
    T  the pickled phases that it noted (`govc.phases`), before R or E

Pickle is safe here: both ends are this program, and the pipe is private to them.

This module is the parent's side and the frame format; `helper_main` is the child's side. Reading waits in `poll`, which
gevent replaces by a cooperative one, so the same code serves under gevent, in the CGI program and in tests.
"""

import os
import pickle
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from govc import phases
from govc.errors import GovcError

FRAME_HEADER = struct.Struct(">cI")
FRAME_BYTES_MAX = 1 << 20

KIND_DATA = b"D"
KIND_PROGRESS = b"P"
KIND_RESULT = b"R"
KIND_ERROR = b"E"
KIND_PHASES = b"T"


@dataclass(frozen=True, slots=True)
class Job:
    """What a helper is asked to do: a name in `helper_main.JOBS` and its picklable argument."""

    name: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Progress:
    """A text for the peer's band 2, as git words it, with its own CR or LF."""

    text: str


Emit = Callable[[bytes | Progress], None]
"""By which a job says something: bytes of its product, or progress."""


class Quiet(Enum):
    """Nothing was said within the time asked for: the caller may send a keepalive."""

    QUIET = 0


QUIET = Quiet.QUIET


class HelperFailed(GovcError):
    """The helper reported an error, or died."""

    def __init__(self, public: str, detail: str, http_status: int = 500, limit_name: str = "") -> None:
        super().__init__(detail)
        self._public = public
        self.http_status = http_status
        self.limit_name = limit_name

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return self._public


def _watch_nothing(_busy: int, _waiting: int) -> None:
    """Tell nobody."""


class HelperSlots:
    """How many helpers one worker runs at once. Waiting is cooperative under gevent."""

    def __init__(self, count: int, watch: Callable[[int, int], None] | None = None) -> None:
        """`watch` is told by how much the busy and the waiting have become more."""
        self.count = count
        self._watch = watch or _watch_nothing
        self._semaphore = threading.BoundedSemaphore(count)

    def acquire(self, timeout_seconds: float) -> bool:
        """Take a slot; False when none came free in time. May switch."""
        if self._semaphore.acquire(blocking=False):
            self._watch(1, 0)
            return True
        self._watch(0, 1)
        try:
            taken = self._semaphore.acquire(timeout=timeout_seconds)
        finally:
            self._watch(0, -1)
        if taken:
            self._watch(1, 0)
        return taken

    def release(self) -> None:
        """Give the slot back."""
        self._semaphore.release()
        self._watch(-1, 0)


def run_helper(
    job: Job,
    *,
    descriptors: Sequence[int] = (),
    slots: HelperSlots,
    quiet_seconds: float = 5.0,
) -> Generator[bytes | Progress | Quiet, None, Any]:
    """Run `job` in a helper; yield its product, its progress and its silences; return its result.

    `descriptors` are inherited under the same numbers. Closing the generator kills the helper. May switch.
    Raises HelperFailed.
    """
    while not slots.acquire(quiet_seconds):
        yield QUIET
    try:
        process = _start(descriptors)
        try:
            _send_job(process, job)
            return (yield from _receive(process, quiet_seconds))
        finally:
            _end(process)
    finally:
        slots.release()


def start_detached(job: Job) -> None:
    """Start a helper that outlives us and whose answer nobody reads. Raises OSError."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "govc.repo.helper_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        close_fds=True,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    process.stdin.close()


def drain(events: Iterator[Any]) -> Any:
    """Run a helper (or any generator with a result) to its end, dropping what it yields; return its result."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def _start(descriptors: Sequence[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-S", "-m", "govc.repo.helper_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        close_fds=True,
        pass_fds=tuple(descriptors),
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """PYTHONPATH: the helper must import this very govc, installed or not."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {"PYTHONPATH": os.pathsep.join([package_parent, *filter(None, sys.path)]), "LC_ALL": "C"}


def _send_job(process: "subprocess.Popen[bytes]", job: Job) -> None:
    assert process.stdin is not None
    data = memoryview(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
    try:
        while data:
            data = data[process.stdin.write(data) or 0 :]
        process.stdin.close()
    except BrokenPipeError as error:
        raise HelperFailed("internal server error", "a helper died before it read its job") from error


def _receive(
    process: "subprocess.Popen[bytes]", quiet_seconds: float
) -> Generator[bytes | Progress | Quiet, None, Any]:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN | select.POLLHUP)
    buffer = bytearray()
    while True:
        while not poller.poll(quiet_seconds * 1000):
            yield QUIET
        data = os.read(descriptor, FRAME_BYTES_MAX)
        if not data:
            raise HelperFailed("internal server error", f"a helper died: status {process.wait()}")
        buffer += data
        while len(buffer) >= FRAME_HEADER.size:
            kind, length = FRAME_HEADER.unpack_from(buffer)
            end = FRAME_HEADER.size + length
            if len(buffer) < end:
                break
            payload = bytes(memoryview(buffer)[FRAME_HEADER.size : end])
            del buffer[:end]
            if kind == KIND_DATA:
                yield payload
            elif kind == KIND_PROGRESS:
                yield Progress(payload.decode("utf-8"))
            elif kind == KIND_PHASES:
                _note_phases(pickle.loads(payload))
            elif kind == KIND_RESULT:
                return pickle.loads(payload)
            else:
                raise HelperFailed(*pickle.loads(payload))


def _note_phases(noted: list[phases.Phase]) -> None:
    """What a helper did for a request counts as done in it."""
    recorder = phases.CURRENT.get()
    if recorder is not None:
        for phase in noted:
            recorder.note(phase)


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    if process.poll() is None:
        process.kill()
    process.wait()
