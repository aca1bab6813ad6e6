"""post-receive and post-update that a kill has cut off after the acknowledgement: found, and run once.

    govc/late/<sequence>-<token>    that record's push has hooks to tell; removed when they were told

The file is made by the pusher's process right after its record was appended, and isn't synced: after a power cut it may
be gone, and the hooks untold. Whoever finds one of a dead process renames it to its own token first, so that no two run
the same hooks; a process that dies while it runs them leaves the file to the next one, and hooks then see the push a
second time.

Source: storage rule 27; githooks(5) "post-receive".
"""

import logging
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace

from govc import disk
from govc.config.loader import load_config
from govc.protocol.receive_pack import Command
from govc.repo.checkpoint_schedule import load_site
from govc.repo.checkpointing import checkpoint_lock
from govc.repo.helper import Emit
from govc.repo.journal import Journal, JournalOptions
from govc.repo.layout import find_commondir
from govc.repo.open_journal import open_journal
from govc.repo.push_hooks import PushHooks, run_late_hooks
from govc.repo.recovery import Site, log_folder
from govc.repo.writing import Origin
from govc.wal.owner import is_alive
from govc.wal.reader import LogReader
from govc.wal.record import Kind, Record

log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9]+)-([0-9a-f]{16})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LateHooksTask:
    """One repository. Picklable. `seconds_max`: how long a hook may take, 0 for ever."""

    gitdir: str
    seconds_max: float = 0


def has_late_hooks(commondir: str) -> bool:
    """Say whether a dead process has left hooks to be told. Raises OSError."""
    return bool(_of_the_dead(commondir))


def _of_the_dead(commondir: str) -> list[tuple[int, str]]:
    """Return (sequence, path) of what dead processes have left, in order."""
    folder = log_folder(commondir)
    try:
        names = os.listdir(folder.late)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None and not is_alive(folder.locks, bytes.fromhex(match[2])):
            found.append((int(match[1]), f"{folder.late}/{name}"))
    return sorted(found)


def late_hooks_job(task: LateHooksTask, _emit: Emit) -> int:
    """The helper's "late hooks" job: run what dead processes have left; return how many pushes that were."""
    site = load_site(task.gitdir)
    journal, _ = open_journal(site, JournalOptions())
    try:
        claimed = _claim(journal)
        records = _read_records(journal, claimed.keys())
        for sequence, path in claimed.items():
            record = records.get(sequence)
            if record is None:
                log.error("%s: hooks of record %d are not told: it is void, or retired", task.gitdir, sequence)
            else:
                _tell(site, record, task.seconds_max)
            with suppress(FileNotFoundError):
                disk.unlink(path)
        return len(claimed)
    finally:
        journal.close()


def _claim(journal: Journal) -> dict[int, str]:
    """Take over what dead processes have left: by a rename, so that only one gets it."""
    token = journal.log.owner.token.hex()
    claimed: dict[int, str] = {}
    for sequence, path in _of_the_dead(journal.layout.commondir):
        mine = f"{journal.folder.late}/{sequence}-{token}"
        with suppress(FileNotFoundError):
            disk.rename(path, mine)
            claimed[sequence] = mine
    return claimed


def _read_records(journal: Journal, sequences: Collection[int]) -> dict[int, Record]:
    """Return the records by number, without those that are void, and of each what was done. Raises LogError, OSError.

    Others may append meanwhile; but no checkpoint may retire what is about to be read, or has just been.
    """
    found: dict[int, Record] = {}
    with checkpoint_lock(journal):
        for located in LogReader(journal.folder.segments):
            record = located.record
            number = record.draft.number
            if record.sequence in sequences:
                found[record.sequence] = record
            elif record.kind is Kind.VOID:
                found.pop(number, None)
            elif record.kind is Kind.OBSERVED and number in found:
                found[number] = _without(found[number], {change.name for change in record.draft.refs})
    return found


def _without(record: Record, given_up: Collection[bytes]) -> Record:
    """Return a record without the refs that could not be published."""
    refs = tuple(change for change in record.draft.refs if change.name not in given_up)
    return replace(record, draft=replace(record.draft, refs=refs))


def _tell(site: Site, record: Record, seconds_max: float) -> None:
    """Run the hooks of one push, as far as the log tells of it."""
    gitdir, draft = site.layout.gitdir, record.draft
    config = load_config(environ=os.environ, gitdir=gitdir, commondir=find_commondir(gitdir)).config
    origin = Origin(
        committer=draft.committer,
        message=draft.message,
        actor=draft.actor,
        address=draft.address,
        request_id=draft.request_id,
        push_options=draft.push_options,
        certificate=draft.certificate,
    )
    hooks = PushHooks.for_record(
        site.layout, config, origin, os.environ, seconds_max=seconds_max, now_seconds=record.time_seconds
    )
    done = [Command(old=change.old, new=change.new, refname=change.name) for change in draft.refs]
    for _ in run_late_hooks(hooks, done):
        continue
    log.warning("%s: record %d: hooks were told", gitdir, record.sequence)
