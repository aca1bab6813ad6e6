"""The child's side of `helper`: read one job, do it, answer in frames.

Run as `python -m govc.repo.helper_main`; it imports no gevent, no web and no settings. A job is a function
`(argument, emit) -> result`: it emits bytes of its product and `Progress` texts, and its result is pickled.

A helper whose answer nobody reads any more ends, whatever it is at: also one whose parent was killed and can't kill it.
"""

import gc
import importlib
import os
import pickle
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from govc import phases
from govc.errors import GovcError
from govc.repo.helper import (
    FRAME_BYTES_MAX,
    FRAME_HEADER,
    KIND_DATA,
    KIND_ERROR,
    KIND_PHASES,
    KIND_PROGRESS,
    KIND_RESULT,
    Emit,
    Job,
    Progress,
)

JobFunction = Callable[[Any, Emit], Any]

JOB_PLACES = {
    "archive": ("govc.repo.archiving", "archive_job"),
    "checkout": ("govc.repo.checkout", "checkout_job"),
    "checkpoint": ("govc.repo.checkpoint_schedule", "checkpoint_job"),
    "late hooks": ("govc.repo.late_hooks", "late_hooks_job"),
    "maintain": ("govc.repo.maintenance", "maintain_job"),
    "introduce": ("govc.repo.introducing", "introduce_job"),
    "pack": ("govc.repo.packing", "pack_job"),
    "receive": ("govc.repo.receiving", "receive_job"),
}
"""Module and function of each job."""


def _make_job(module_name: str, function_name: str) -> JobFunction:
    """Return the job that is imported when it is done: to import what the others need takes longer than most jobs."""

    def job(argument: Any, emit: Emit) -> Any:
        function: JobFunction = getattr(importlib.import_module(module_name), function_name)
        gc.freeze()  # what is imported stays: nobody looks through it for garbage
        gc.enable()
        return function(argument, emit)

    return job


JOBS: dict[str, JobFunction] = {name: _make_job(*place) for name, place in JOB_PLACES.items()}


def write_frame(descriptor: int, kind: bytes, payload: bytes) -> None:
    """Write one frame whole. Blocks: the pipe's bound is the back pressure of a slow client."""
    header = FRAME_HEADER.pack(kind, len(payload))
    written = os.writev(descriptor, [header, payload])
    if written < len(header) + len(payload):
        rest = memoryview(header + payload)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def make_emitter(descriptor: int) -> Emit:
    """Return the function by which a job says something."""

    def emit(item: bytes | Progress) -> None:
        if isinstance(item, Progress):
            write_frame(descriptor, KIND_PROGRESS, item.text.encode("utf-8"))
            return
        for start in range(0, len(item), FRAME_BYTES_MAX):
            write_frame(descriptor, KIND_DATA, item[start : start + FRAME_BYTES_MAX])

    return emit


def serve_one(job_bytes: bytes, descriptor: int) -> None:
    """Do the pickled job and write its frames to `descriptor`."""
    try:
        job = pickle.loads(job_bytes)
    except (EOFError, pickle.UnpicklingError):
        return  # whoever started us has died before it had told us what for
    assert isinstance(job, Job)
    noted = phases.PhaseList()
    phases.CURRENT.set(noted)

    def say_phases() -> None:
        if noted.phases:
            write_frame(descriptor, KIND_PHASES, pickle.dumps(noted.phases, protocol=pickle.HIGHEST_PROTOCOL))

    try:
        result = JOBS[job.name](job.argument, make_emitter(descriptor))
        say_phases()
        write_frame(descriptor, KIND_RESULT, pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL))
    except GovcError as error:
        answer = (error.public_text, f"{type(error).__name__}: {error}", error.http_status, error.limit_name)
        say_phases()
        write_frame(descriptor, KIND_ERROR, pickle.dumps(answer))
    except MemoryError:
        write_frame(descriptor, KIND_ERROR, pickle.dumps(("out of memory", "MemoryError in a helper", 500)))
    except BrokenPipeError:
        return  # nobody wants the answer any more
    except OSError as error:
        text = os.strerror(error.errno or 0)
        write_frame(descriptor, KIND_ERROR, pickle.dumps((text, f"OSError in a helper: {error}", 500)))


def _end_with_reader(descriptor: int) -> None:
    """End this process as soon as the other end of a pipe is closed. One that nobody reads on purpose is no pipe."""
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return
    poller = select.poll()
    poller.register(descriptor, 0)  # an error is told unasked

    def watch() -> None:
        poller.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> NoReturn:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's to act on
    _end_with_reader(sys.stdout.fileno())
    gc.disable()  # until everything is imported
    serve_one(sys.stdin.buffer.read(), sys.stdout.fileno())
    sys.stderr.flush()
    os._exit(0)  # taking the interpreter apart, and what it holds, takes as long as many a job


if __name__ == "__main__":
    main()
