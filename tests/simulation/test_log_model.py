"""The log against a model, in any order of events: append, sync, failed sync, kill, power cut, reopen, a bad byte.

What a log gives back is always a beginning of what was appended (with what a reopened log had cut off taken out), never
less than what was durable, never anything else. A byte gone bad among records that are known to have been durable is
damage, told as such.
"""

import os
import random
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from govc import disk as seam
from govc.protocol.oid import SHA1
from govc.wal import boot
from govc.wal.errors import LogDamaged, LogFailed
from govc.wal.log import Appended, Log, LogOptions
from govc.wal.place import LogFolder, LogHome
from govc.wal.reader import LogReader, Position
from govc.wal.record import GENESIS, Draft, Kind, Record, RefChange, encode_record
from tests.simulation.disk import SimulatedDisk
from tests.simulation.model import Model
from tests.simulation.outcomes import killed, materialise, power_cuts
from tests.simulation.trace import Call

SEGMENT_BYTES = 16 << 10
EXAMPLES = 30


class LocalDisk(SimulatedDisk):
    """A simulated disk in this very process: nobody is asked, the model follows. `failing`: the next sync fails."""

    def __init__(self, root: str) -> None:
        super().__init__(root, None, 0)  # type: ignore[arg-type]
        self.model = Model.of_folder(root)
        self.is_failing = False

    def _ask(self, kind: str, path: str, size: int = 0) -> int:
        if kind == "syncdata" and self.is_failing:
            self.is_failing = False
            raise OSError(5, "Input/output error", path)
        return -1

    def _did(self, kind: str, **fields: Any) -> None:
        self.model.apply(Call(kind, 0, **fields))

    def _did_nothing(self) -> None:
        return


class LogMachine(RuleBasedStateMachine):
    """One log on one disk, its processes one after the other."""

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = tempfile.mkdtemp(prefix="govc-model-")
        self.root = f"{self.folder}/r.git"
        os.makedirs(f"{self.root}/govc/locks")
        self.boots = 0
        self.records: list[Record] = []  # everything appended and not cut off
        self.durable = 0  # how many of them are promised
        self.is_damaged = False
        self.last: Appended | None = None
        self.restart()
        self.open(None)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.stop()
            shutil.rmtree(self.folder)

    # Processes and machines

    def restart(self) -> None:
        self.boots += 1
        path = f"{self.folder}/boot-{self.boots}"
        with open(path, "w") as file:
            file.write(f"{uuid.UUID(int=self.boots)}\n")
        boot._PATH = path

    def open(self, after: Position | None) -> None:
        """A process opens the log, as recovery does: to its end, with what is torn cut off."""
        self.disk = LocalDisk(self.root)
        self.using = seam.use(self.disk)
        self.using.__enter__()
        self.log = Log(
            LogFolder(f"{self.root}/govc"),
            LogHome(SHA1, 1),
            LogOptions(segment_bytes_min=SEGMENT_BYTES, segment_bytes_max=SEGMENT_BYTES),
        )
        if self.log.tail() is None:
            reader = LogReader(self.log.folder.segments, after=after)
            found = [located.record for located in reader]
            self.compare(found)
            self.records = found
            self.durable = max(self.durable, 0)
            end = reader.end
            with self.log.append_lock():
                if end is not None:
                    self.log.start(end.position, end.header.log_id, torn_bytes=end.torn_bytes)
                else:
                    self.log.start(Position(0, 0, 0, GENESIS), b"\1" * 16)
        self.last = None

    def stop(self) -> None:
        self.using.__exit__(None, None, None)

    def compare(self, found: list[Record]) -> None:
        """What was read is a beginning of what was appended, and all that is durable."""
        assert [record.checksum for record in found] == [record.checksum for record in self.records[: len(found)]]
        assert len(found) >= self.durable

    # Events

    @precondition(lambda self: not self.is_damaged)
    @rule(count=st.integers(1, 3), size=st.sampled_from([10, 600, 5000]))
    def append(self, count: int, size: int) -> None:
        drafts = [
            Draft(
                kind=Kind.CHANGE,
                refs=(RefChange(b"refs/heads/a", bytes(20), self.chance.randbytes(20)),),
                packs=(self.chance.randbytes(size),),
            )
            for _ in range(count)
        ]
        with self.log.append_lock():
            done = self.log.append(drafts)
        # A rotation has put an end record between, and synced what was before it.
        reader = LogReader(self.log.folder.segments)
        everything = [located.record for located in reader]
        assert [record.checksum for record in everything[-count:]] == [one.record.checksum for one in done]
        assert [record.checksum for record in everything[: len(self.records)]] == [
            record.checksum for record in self.records
        ]
        self.records = everything
        self.last = done[-1]

    @precondition(lambda self: self.last is not None and not self.is_damaged)
    @rule()
    def sync(self) -> None:
        assert self.last is not None
        self.log.make_durable(self.last)
        self.durable = len(self.records)

    @precondition(lambda self: self.last is not None and not self.is_damaged)
    @rule()
    def fail_to_sync(self) -> None:
        """What the failed sync had to cover is refused, and gone for good; what was durable stays."""
        assert self.last is not None
        self.disk.is_failing = True
        try:
            self.log.make_durable(self.last)
        except LogFailed:
            found = [located.record for located in LogReader(self.log.folder.segments)]
            self.compare(found)
            assert self.last.record.checksum not in [record.checksum for record in found]
            self.records = found
        else:
            assert self.disk.is_failing, "a failed sync was taken for a good one"
        self.disk.is_failing = False
        self.last = None

    @precondition(lambda self: not self.is_damaged)
    @rule()
    def kill(self) -> None:
        """The process dies; the page cache stays, and so does the machine."""
        self.stop()
        self.open(None)

    @precondition(lambda self: not self.is_damaged)
    @rule(number=st.integers(0, 5))
    def cut_power(self, number: int) -> None:
        self.stop()
        seed = f"{self.chance.random()}"
        outcomes = list(power_cuts(self.disk.model, seed, 6))
        materialise(outcomes[number % len(outcomes)], self.root)
        os.makedirs(f"{self.root}/govc/locks", exist_ok=True)
        self.restart()
        self.open(None)

    @precondition(lambda self: self.durable > 0 and not self.is_damaged)
    @rule()
    def spoil_a_byte(self) -> None:
        """One byte of a durable record changes: told as damage, unless it can't be told from a torn tail."""
        located = list(LogReader(self.log.folder.segments))
        at = self.chance.randrange(min(self.durable, len(located)))
        victim = located[at]
        path = f"{self.log.folder.segments}/{victim.ordinal:012d}.seg"
        offset = victim.offset + self.chance.randrange(victim.record.size)
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1 << self.chance.randrange(8)]))
        attested = max(
            [one.record.durable for one in located[at + 1 :]]
            + [one.record.sequence - 1 for one in located[at + 1 :] if one.ordinal > victim.ordinal],
            default=0,
        )
        reader = LogReader(self.log.folder.segments)
        found: list[Record] = []
        try:
            found += [one.record for one in reader]
            is_told = False
        except LogDamaged as damage:
            is_told = True
            assert damage.safe_up_to <= victim.record.sequence - 1
        assert [record.checksum for record in found] == [record.checksum for record in self.records[: len(found)]]
        assert len(found) <= at
        assert is_told or attested < victim.record.sequence
        knowing = LogReader(self.log.folder.segments, durable=self.records[self.durable - 1].sequence)
        try:
            list(knowing)
        except LogDamaged:
            pass
        else:
            raise AssertionError("a reader that knows what was durable noticed nothing")
        self.is_damaged = True

    @precondition(lambda self: self.is_damaged)
    @rule()
    def rest(self) -> None:
        """A damaged log is for its administrator."""

    @precondition(lambda self: not self.is_damaged)
    @invariant()
    def reading_gives_what_was_appended(self) -> None:
        if hasattr(self, "log"):
            found = [located.record for located in LogReader(self.log.folder.segments)]
            assert [record.checksum for record in found] == [record.checksum for record in self.records]


LogMachine.TestCase.settings = settings(
    max_examples=EXAMPLES if os.environ.get("HYPOTHESIS_PROFILE", "default") == "default" else 1000,
    stateful_step_count=20,
    deadline=None,
)


def test_killed_is_the_page_cache_in_this_process_too() -> None:
    """The disk of this file is the one of the other tests, asked by nobody."""
    with tempfile.TemporaryDirectory() as folder:
        local = LocalDisk(folder)
        with seam.use(local):
            seam.write_file(f"{folder}/a", b"abc", fsync=False)
        assert [("a", b"abc")] == [
            (path, bytes(killed(local.model).contents[node])) for path, node in killed(local.model).entries()
        ]


def test_a_record_in_place_of_another_is_noticed(tmp_path: Path) -> None:
    """Right in itself, with the number and the salt of the one whose place it took: only the chain tells."""
    folder = LogFolder(str(tmp_path / "govc"))
    os.makedirs(folder.locks)
    log = Log(folder, LogHome(SHA1, 1), LogOptions(segment_bytes_min=SEGMENT_BYTES, segment_bytes_max=SEGMENT_BYTES))
    with log.append_lock():
        log.start(Position(0, 0, 0, GENESIS), b"\1" * 16)
        log.append([_draft(b"1"), _draft(b"2")])
    first, second = list(LogReader(folder.segments))
    other = encode_record(
        _draft(b"3"),
        sequence=first.record.sequence,
        salt=first.record.salt,
        durable=first.record.durable,
        writer=first.record.writer,
        time_ns=first.record.time_ns,
        previous=first.record.previous,
    )
    assert len(other) == first.record.size
    with open(f"{folder.segments}/{first.ordinal:012d}.seg", "r+b") as file:
        file.seek(first.offset)
        file.write(other)
    found = [located.record.sequence for located in LogReader(folder.segments, strict=False)]
    assert second.record.sequence not in found
    log.close()


def test_a_record_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    """What is missing is zeros, as in a segment that was never written to."""
    folder = LogFolder(str(tmp_path / "govc"))
    os.makedirs(folder.locks)
    log = Log(folder, LogHome(SHA1, 1), LogOptions(segment_bytes_min=SEGMENT_BYTES, segment_bytes_max=SEGMENT_BYTES))
    with log.append_lock():
        log.start(Position(0, 0, 0, GENESIS), b"\1" * 16)
        log.append([_draft(b"1"), _draft(b"2")])
    log.close()
    first, second = list(LogReader(folder.segments))
    path = Path(f"{folder.segments}/{second.ordinal:012d}.seg")
    whole = path.read_bytes()
    for kept in range(second.record.size):
        at = second.offset + kept
        if not any(whole[at : second.offset + second.record.size]):
            continue
        path.write_bytes(whole[:at] + bytes(len(whole) - at))
        reader = LogReader(folder.segments)
        assert [first.record.checksum] == [located.record.checksum for located in reader]
        assert reader.end is not None
        assert first.record.sequence == reader.end.position.sequence


def _draft(message: bytes) -> Draft:
    return Draft(kind=Kind.CHANGE, message=message, refs=(RefChange(b"refs/heads/a", bytes(20), b"\1" * 20),))


TestLogModel = LogMachine.TestCase
