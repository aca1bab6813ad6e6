"""What has become of each command of a push so far, and what is to be said to the pusher.

A command stands until it is failed; the first reason counts. What is said waits here until the conversation can send
it.

Some kilobytes of a request may unfold to millions of commands, so whatever looks at all of them lets others run.
"""

from collections.abc import Callable, Iterator

from govc.protocol.pktline import FLUSH
from govc.protocol.receive_pack import Command, CommandStatus, PushRequest, RefReport, encode_report
from govc.protocol.sideband import Band, frame
from govc.service.pacing import paced_runs

ATOMIC_FAILURE = "atomic push failure"


class PushState:
    """One push. Commands go by their index."""

    def __init__(self, request: PushRequest, pause: Callable[[], None]) -> None:
        """`pause` lets others run."""
        self._pause = pause
        self.request = request
        self.commands: tuple[Command, ...] = request.commands
        self.errors: dict[int, str] = {}
        self.given_away: set[int] = set()
        """Commands that a proc-receive hook carries out."""
        self.absent: set[int] = set()
        """Deletions of refs that aren't there: fine, but hooks aren't told of them."""
        self.done_elsewhere: set[int] = set()
        """Commands for symbolic refs whose target another command changes in the same way."""
        self.reports: dict[int, list[RefReport]] = {}
        """What a proc-receive hook did instead."""
        self.unpack = "ok"
        self._said: list[bytes] = []

    def fail(self, index: int, reason: str) -> None:
        """Refuse one command, unless it was refused before."""
        self.errors.setdefault(index, reason)

    def fail_all(self, reason: str) -> None:
        """Refuse whatever still stands. May switch."""
        for index in paced_runs(range(len(self.commands)), self._pause):
            self.fail(index, reason)

    def fail_rest_if_atomic(self) -> None:
        """In an atomic push one refusal refuses all. May switch."""
        if self.request.atomic and self.errors:
            self.fail_all(ATOMIC_FAILURE)

    def stands(self, index: int) -> bool:
        """Say whether a command has not been refused."""
        return index not in self.errors

    def iter_standing(self) -> Iterator[tuple[int, Command]]:
        """Yield the commands that stand, with their indexes. May switch."""
        return ((index, command) for index, command in self.iter_all() if index not in self.errors)

    def iter_all(self) -> Iterator[tuple[int, Command]]:
        """Yield all commands, with their indexes. May switch."""
        return ((index, self.commands[index]) for index in paced_runs(range(len(self.commands)), self._pause))

    @property
    def is_lost(self) -> bool:
        """True when nothing stands, or, in an atomic push, not everything."""
        return len(self.errors) == len(self.commands) or bool(self.request.atomic and self.errors)

    def done(self) -> tuple[list[Command], list[bytes]]:
        """Return what was done, as hooks are told, and the names that it was asked for by."""
        done: list[Command] = []
        names: list[bytes] = []
        for index, command in self.iter_standing():
            if index not in self.absent:
                names.append(command.refname)
                done.extend(report.command_for(command) for report in self.reports.get(index) or (RefReport(),))
        return done, names

    def say(self, text: str) -> None:
        """Say a line on band 2."""
        self._said.append(text.encode("utf-8", "surrogateescape") + b"\n")

    def say_raw(self, text: str) -> None:
        """Say a text on band 2 that has its own CR or LF."""
        self._said.append(text.encode("utf-8", "surrogateescape"))

    def drain(self) -> Iterator[bytes]:
        """Yield what is to be said, framed; without a side band there is nowhere to say it."""
        said, self._said = self._said, []
        if self.request.side_band:
            for text in said:
                yield frame(Band.PROGRESS, text)

    def iter_report(self) -> Iterator[bytes]:
        """Yield the report, if one was asked for. May switch."""
        if not self.request.report:
            return
        statuses = (
            CommandStatus(
                refname=command.refname, error=self.errors.get(index), options=tuple(self.reports.get(index, ()))
            )
            for index, command in self.iter_all()
        )
        report = encode_report(self.unpack, statuses, self.request.report)
        yield frame(Band.DATA, report) if self.request.side_band else report

    def iter_end(self) -> Iterator[bytes]:
        """Yield what ends the answer."""
        if self.request.side_band:
            yield FLUSH
