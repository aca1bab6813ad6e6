"""The conversation with a proc-receive hook, which takes some commands of a push out of our hands.

    we    version=1 [NUL push-options atomic] LF, flush
    hook  version=1 [NUL push-options] LF, flush
    we    OLD SP NEW SP refname LF ..., flush
          [push option ..., flush]                when both sides named push-options
    hook  ok SP refname
          ng SP refname SP reason
          option SP key [SP value]                of the `ok` before it: refname, old-oid, new-oid, forced-update,
          ..., flush                              fall-through (the server is to do it after all)

Several `ok` for one command, each with its options, are several results of it.

Which commands go to the hook is said by `receive.procReceiveRefs`: `[adm!:]prefix`; a, d, m: only creations, deletions,
modifications; "!": everything that doesn't match the prefix.

The conversation is a machine without I/O: what the hook wrote goes in, what is to be written to it comes out. An error
of the hook's is a value (`problem`), for band 2: what it said about other commands before still counts.

Source: githooks "proc-receive"; git-config "receive.procReceiveRefs"; git's builtin/receive-pack.c; rows RP-21, RP-80,
RP-81.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.oid import HashAlgorithm, to_hex
from govc.protocol.pktline import FLUSH, NEED_DATA, Control, PktLineDecoder, encode, encode_text, strip_lf
from govc.protocol.receive_pack import Command, RefReport
from govc.protocol.text import quote_line

FAILED_TO_RUN = "fail to run proc-receive hook"
FAILED_TO_REPORT = "proc-receive failed to report status"
RESULTS_MAX = 1_000_000
PROBLEMS_MAX = 100


class RefPattern(NamedTuple):
    """One value of receive.procReceiveRefs."""

    prefix: bytes
    adds: bool
    deletes: bool
    modifies: bool
    is_negated: bool

    def matches(self, command: Command) -> bool:
        """Say whether the command is one for the hook."""
        is_creation, is_deletion = not any(command.old), not any(command.new)
        if is_creation and not self.adds:
            return False
        if is_deletion and not self.deletes:
            return False
        if not is_creation and not is_deletion and not self.modifies:
            return False
        rest = command.refname.removeprefix(self.prefix)
        is_below = command.refname.startswith(self.prefix) and (not rest or rest.startswith(b"/"))
        return is_below != self.is_negated


def parse_pattern(value: bytes) -> RefPattern:
    """Parse one value of receive.procReceiveRefs; letters that mean nothing are passed over, as git does."""
    letters, colon, prefix = value.partition(b":")
    if not colon:
        return RefPattern(value.rstrip(b"/"), True, True, True, False)
    return RefPattern(prefix.rstrip(b"/"), b"a" in letters, b"d" in letters, b"m" in letters, b"!" in letters)


def matches_any(patterns: Iterable[RefPattern], command: Command) -> bool:
    """Say whether some pattern hands the command to the hook."""
    return any(pattern.matches(command) for pattern in patterns)


@dataclass(slots=True)
class Outcome:
    """What the hook made of one command: `error` the reason why not, `falls_through`: the server is to do it."""

    is_reported: bool = False
    error: str | None = None
    falls_through: bool = False
    reports: list[RefReport] = field(default_factory=list)


class _State(Enum):
    VERSION = "version"
    RESULTS = "results"
    OVER = "over"


class ProcReceive:
    """One conversation. `next_bytes` is what to write first; after that feed what the hook writes to `receive_data`.

    `outcomes` has one entry per command, in order. `problem` collects what went wrong, for the user.
    """

    def __init__(
        self,
        algo: HashAlgorithm,
        commands: Sequence[Command],
        *,
        push_options: tuple[bytes, ...] | None,
        atomic: bool,
        other_names: Collection[bytes] = (),
    ) -> None:
        """`push_options` None: not agreed with the client. `other_names`: refs of commands that aren't the hook's."""
        self._algo = algo
        self._commands = commands
        self._push_options = push_options
        self._atomic = atomic
        self._other_names = frozenset(other_names)
        self._decoder = PktLineDecoder()
        self._state = _State.VERSION
        self._hook_takes_options = False
        self._version = 0
        self._by_name: dict[bytes, list[int]] = {}
        for index, command in enumerate(commands):
            self._by_name.setdefault(command.refname, []).append(index)
        self._current: Outcome | None = None
        self._takes_option_lines = False
        self._begins_report = False
        self._has_answered = False
        self._result_count = 0
        self._problems: list[str] = []
        self._is_failed = False
        self._has_complained = False
        self.outcomes = [Outcome() for _ in commands]

    def first_bytes(self) -> bytes:
        """Return what to say first."""
        words = [name for name, on in ((b"atomic", self._atomic), (b"push-options", self._takes_options())) if on]
        return encode_text(b"version=1" + (b"\0" + b" ".join(words) if words else b"")) + FLUSH

    def _takes_options(self) -> bool:
        return self._push_options is not None

    @property
    def is_over(self) -> bool:
        """True once the hook has nothing more to say."""
        return self._state is _State.OVER

    @property
    def is_failed(self) -> bool:
        """True when the hook must count as failed, whatever its exit status."""
        return self._is_failed

    @property
    def problem(self) -> str:
        """What went wrong, in lines; "" for nothing."""
        return "\n".join(self._problems)

    def receive_data(self, data: bytes) -> bytes:
        """Take what the hook wrote; return what to write to it."""
        answer = b""
        try:
            self._decoder.receive_data(data)
            while not self.is_over:
                packet = self._decoder.next_event()
                if packet is NEED_DATA:
                    break
                assert isinstance(packet, bytes | Control)
                answer += self._take(packet)
        except RemoteProtocolError as error:
            self._end(str(error))
        return answer

    def close(self) -> None:
        """Say that the hook's output has ended."""
        if self._state is _State.VERSION:
            self._end("fail to negotiate version with proc-receive hook")
        elif self._state is _State.RESULTS:
            if not self._has_answered:
                self._end("proc-receive exited abnormally")
            else:
                self._finish()

    def _take(self, packet: bytes | Control) -> bytes:
        if self._state is _State.VERSION:
            if isinstance(packet, bytes):
                self._take_version(packet)
                return b""
            if self._version not in (0, 1):
                self._end(f"proc-receive version '{self._version}' is not supported")
                return b""
            self._state = _State.RESULTS
            return self._encode_commands()
        if isinstance(packet, bytes):
            self._has_answered = True
            self._take_result(strip_lf(packet))
        elif not self._has_answered and packet is not Control.FLUSH:
            self._end("proc-receive exited abnormally")
        else:
            self._finish()
        return b""

    def _take_version(self, packet: bytes) -> None:
        line, _, words = strip_lf(packet).partition(b"\0")
        if not line.startswith(b"version="):
            return
        digits = line[8:16]
        self._version = int(digits) if digits.isdigit() else 0
        self._hook_takes_options = b"push-options" in words.split()

    def _encode_commands(self) -> bytes:
        pieces = [
            encode(b"%b %b %b" % (to_hex(command.old), to_hex(command.new), command.refname))
            for command in self._commands
        ]
        pieces.append(FLUSH)
        if self._hook_takes_options:
            pieces.extend(encode(option) for option in self._push_options or ())
            pieces.append(FLUSH)
        return b"".join(pieces)

    def _take_result(self, line: bytes) -> None:
        self._result_count += 1
        if self._result_count > RESULTS_MAX:
            self._end(f"proc-receive reported more than {RESULTS_MAX} lines")
            return
        word, blank, rest = line.partition(b" ")
        if not blank:
            self._complain(f"proc-receive reported incomplete status line: '{quote_line(line)}'")
        elif word == b"option":
            self._take_option(rest)
        else:
            self._take_status(word, rest)

    def _take_option(self, text: bytes) -> None:
        outcome = self._current
        if outcome is None or not self._takes_option_lines:
            if not self._has_complained:
                self._complain("proc-receive reported 'option' without a matching 'ok/ng' directive")
            self._has_complained = self._is_failed = True
            return
        if self._begins_report:
            outcome.reports.append(RefReport())
            self._begins_report = False
        key, _, value = text.partition(b" ")
        if key == b"fall-through":
            outcome.falls_through = True
        else:
            outcome.reports[-1] = self._change_report(outcome.reports[-1], key, value)

    def _change_report(self, report: RefReport, key: bytes, value: bytes) -> RefReport:
        """Return the report with one option more; unknown keys and values that are no oid are passed over."""
        if key == b"refname":
            return replace(report, refname=value)
        if key == b"forced-update":
            return replace(report, forced=True)
        oid = self._algo.parse_hex(value[: self._algo.hex_size])
        if oid is None:
            return report
        if key == b"old-oid":
            return replace(report, old=oid)
        return replace(report, new=oid) if key == b"new-oid" else report

    def _take_status(self, word: bytes, rest: bytes) -> None:
        self._begins_report = self._takes_option_lines = False
        refname, blank, reason = rest.partition(b" ")
        if word not in (b"ok", b"ng"):
            self._complain(f"proc-receive reported bad status '{quote_line(word)}' on ref '{quote_line(refname)}'")
            return
        indexes = self._by_name.get(refname)
        if indexes is None:
            self._current = None
            what = "unexpected" if refname in self._other_names else "unknown"
            self._complain(f"proc-receive reported status on {what} ref: {quote_line(refname)}")
            return
        outcome = self.outcomes[indexes[0]]
        self._current = outcome
        if outcome.falls_through:
            self._complain(f"proc-receive reported status on unexpected ref: {quote_line(refname)}")
            return
        outcome.is_reported = True
        if word == b"ng":
            outcome.error = reason.decode("utf-8", "surrogateescape") if blank else "failed"
            self._is_failed = True
        else:
            self._begins_report = self._takes_option_lines = True

    def _complain(self, text: str) -> None:
        self._is_failed = True
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(text)

    def _finish(self) -> None:
        self._state = _State.OVER
        for outcome in self.outcomes:
            if not outcome.is_reported and outcome.error is None:
                outcome.error = FAILED_TO_REPORT
                self._is_failed = True

    def _end(self, problem: str) -> None:
        self._state = _State.OVER
        self._complain(problem)
