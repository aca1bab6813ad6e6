"""Running a program that isn't ours (a hook, gpg, ssh-keygen) without ever waiting for it blindly.

A program runs in a session of its own, so that it and all that it starts can be ended together. What it writes arrives
in pieces as it writes it; silences are reported, for keepalives; its input is fed as fast as it takes it, and it may
leave it unread. It is over when its output is closed (a background child that holds it open counts, as in git) and it
has ended.

    events = run(["hooks/update", name], cwd=gitdir, environ=..., stdin=lines, quiet_seconds=5, seconds_max=0)
    while ...: next(events)     b"..." output | QUIET;  the generator returns the exit status

Closing the generator, or an exception thrown into it (a worker that shuts down), ends the whole process group: SIGTERM,
and SIGKILL when that wasn't heard. A program that ended by itself leaves its background children alone: detaching one
is how hooks start long work.

Waiting is done in `poll` and `sleep`, which gevent replaces by cooperative ones; under a CGI program they simply wait.

Source: githooks; git's run-command.c; rows RP-82, RP-86, RP-87; storage.md 8.
"""

import errno
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from govc.repo.helper import QUIET, Quiet

log = logging.getLogger(__name__)

READ_BYTES = 1 << 16
TERM_SECONDS = 0.5
"""How long an abandoned program gets to tidy up. Whoever ends us is patient for a second or three in all."""

STATUS_NOT_STARTED = 127
STATUS_TIMED_OUT = 124

_WAIT_SECONDS = 0.02


class Channel(Enum):
    """Where something came from."""

    OUTPUT = 1
    REPLY = 2


class Heard(NamedTuple):
    """What a program wrote; no data: that channel is closed."""

    channel: Channel
    data: bytes


class ProgramNotStarted(Exception):
    """The program can't be executed; `reason` is the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Startup:
    """Puts off leaving while a program is being started: one that nobody knows yet would be left behind.

    For a process that leaves by an exception out of a signal's handler, as a CGI program does, whose main thread is the
    one that starts programs.
    """

    def __init__(self) -> None:
        self._is_under_way = False
        self._postponed: Callable[[], object] | None = None

    def leave(self, raises: Callable[[], object]) -> None:
        """Leave by what this raises: now, or once the program that is just being started can be ended."""
        if self._is_under_way:
            self._postponed = raises
        else:
            raises()

    def begin(self) -> None:
        """A program is about to be started."""
        self._is_under_way = True

    def end(self) -> None:
        """Whoever started one takes care of it now."""
        self._is_under_way = False
        raises, self._postponed = self._postponed, None
        if raises is not None:
            raises()


startup = Startup()


class Conversation:
    """One running program. Use it in a `with` block: leaving it ends what still runs.

    `splits_output`: standard output is a channel of its own (REPLY), else it is OUTPUT like the error output.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: str,
        environ: Mapping[str, str],
        splits_output: bool = False,
        has_input: bool = True,
        seconds_max: float = 0,
    ) -> None:
        """Start it. Raises ProgramNotStarted."""
        startup.begin()  # until it is waited for
        try:
            self._process = _start(arguments, cwd, environ, splits_output, has_input)
        except ProgramNotStarted:
            startup.end()
            raise
        self._deadline = time.monotonic() + seconds_max if seconds_max else None
        self._sources: list[Iterator[bytes]] = []
        self._piece = memoryview(b"")
        self._is_closing_input = False
        self._input = -1
        self._channels: dict[int, Channel] = {}
        self.has_timed_out = False
        streams = ((self._process.stdout, Channel.REPLY), (self._process.stderr, Channel.OUTPUT))
        for stream, channel in streams:
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._channels[stream.fileno()] = channel if splits_output else Channel.OUTPUT
        if self._process.stdin is not None:
            self._input = self._process.stdin.fileno()
            os.set_blocking(self._input, False)

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Say something; it goes out while `wait` waits. What the program doesn't read is dropped."""
        if self._input >= 0:
            self._sources.append(iter(pieces))

    def close_input(self) -> None:
        """Say no more, once what was written is out."""
        self._is_closing_input = True
        if not self.has_input_pending:
            self._shut_input()

    @property
    def has_input_pending(self) -> bool:
        """True while something that was written isn't out yet."""
        while not self._piece and self._sources:
            piece = next(self._sources[0], None)
            if piece is None:
                del self._sources[0]
            else:
                self._piece = memoryview(piece)
        return bool(self._piece)

    @property
    def is_open(self) -> bool:
        """True while there is something to hear, or to say."""
        return bool(self._channels) or self.has_input_pending

    def wait(self, quiet_seconds: float) -> Heard | Quiet:
        """Return what is heard next, or QUIET after a while, or when nothing more will come. May switch.

        At the time limit the group is ended, and the channels close.
        """
        startup.end()
        started = time.monotonic()
        while self.is_open:
            self._check_deadline()
            now = time.monotonic()
            left = started + quiet_seconds - now
            if left <= 0:
                break
            heard = self._poll(left if self._deadline is None else max(0.0, min(left, self._deadline - now)))
            if heard is not None:
                return heard
        return QUIET

    def _poll(self, seconds: float) -> Heard | None:
        poller = select.poll()
        for descriptor in self._channels:
            poller.register(descriptor, select.POLLIN | select.POLLHUP)
        if self.has_input_pending:
            poller.register(self._input, select.POLLOUT | select.POLLERR)
        for descriptor, _ in poller.poll(seconds * 1000):
            if descriptor in self._channels:
                return self._read(descriptor)
            self._feed()
        return None

    def _read(self, descriptor: int) -> Heard | None:
        channel = self._channels[descriptor]
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            log.warning("a program's output can't be read: %s", error)
            data = b""
        if not data:
            del self._channels[descriptor]
        return Heard(channel, data)

    def _feed(self) -> None:
        """Write what the pipe takes. A program may close its input whenever it likes."""
        while self.has_input_pending:
            try:
                count = os.write(self._input, self._piece)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:
                    log.warning("a program's input can't be written: %s", error)
                self._drop_input()
                return
            self._piece = self._piece[count:]
        if self._is_closing_input:
            self._shut_input()

    def _drop_input(self) -> None:
        self._sources.clear()
        self._piece = memoryview(b"")
        self._shut_input()

    def _shut_input(self) -> None:
        if self._input >= 0:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._input = -1

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline and not self.has_timed_out:
            self.has_timed_out = True
            self._end_group()
            self._channels.clear()
            self._drop_input()

    def poll_status(self, quiet_seconds: float) -> int | None:
        """Return the exit status (negative: the signal that ended it), None when it runs on for a while. May switch."""
        startup.end()
        self._check_deadline()
        if self.has_timed_out:
            return STATUS_TIMED_OUT
        left = quiet_seconds if self._deadline is None else min(quiet_seconds, self._deadline - time.monotonic())
        try:
            return self._process.wait(max(left, 0.0))
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End what still runs, and let go of the pipes; again is harmless. May switch."""
        if self._process.poll() is None or self._channels:
            self._end_group()
            self._channels.clear()
        self._shut_input()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()
        startup.end()

    def _end_group(self) -> None:
        """End the program and all that it started and that didn't leave the group."""
        deadline = time.monotonic() + TERM_SECONDS
        if not _signal_group(self._process.pid, signal.SIGTERM):
            return
        while time.monotonic() < deadline:
            self._process.poll()
            if not _signal_group(self._process.pid, 0):
                return
            time.sleep(_WAIT_SECONDS)
        _signal_group(self._process.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; False when there is none any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _start(
    arguments: Sequence[str], cwd: str, environ: Mapping[str, str], splits_output: bool, has_input: bool
) -> "subprocess.Popen[bytes]":
    def start(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if splits_output else subprocess.STDOUT,
            bufsize=0,
            close_fds=True,
            start_new_session=True,
        )

    try:
        try:
            return start(arguments)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return start(["/bin/sh", *arguments])  # a script without #! is a shell's, as execvp has it
    except (OSError, ValueError) as error:
        raise ProgramNotStarted(getattr(error, "strerror", None) or str(error)) from error


def run(
    arguments: Sequence[str],
    *,
    cwd: str,
    environ: Mapping[str, str],
    stdin: Iterable[bytes] | None = None,
    quiet_seconds: float = 5.0,
    seconds_max: float = 0,
) -> Generator[bytes | Quiet, None, int]:
    """Run a program to its end: yield its output and its silences, return its exit status.

    `stdin` None: /dev/null. `seconds_max` 0: no limit; beyond it the group is ended and the status is STATUS_TIMED_OUT.
    Raises ProgramNotStarted. May switch.
    """
    with Conversation(
        arguments, cwd=cwd, environ=environ, has_input=stdin is not None, seconds_max=seconds_max
    ) as talk:
        talk.write(stdin or ())
        talk.close_input()
        while talk.is_open:
            heard = talk.wait(quiet_seconds)
            if isinstance(heard, Quiet):
                if talk.is_open:
                    yield QUIET
            elif heard.data:
                yield heard.data
        while (status := talk.poll_status(quiet_seconds)) is None:
            yield QUIET
        return status
