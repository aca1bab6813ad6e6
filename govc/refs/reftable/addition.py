"""One new table on top of a stack: locked, written beside it, then published by two renames.

    lock → put_ref, put_log ... → stage → publish | abandon

Whoever holds the lock of the list is the only writer. `stage` does all that can fail for space or permission: the table
is complete under a temporary name, and the new list in the lock file. `publish` gives the table its name, then the list
its place.

Source: git's technical/reftable "Update transactions".
"""

from govc import disk
from govc.refs.lock import FileModes, LockFile, LockOwner, Sleep, remove_file, sync_folder
from govc.refs.reftable.compaction import temporary_path, write_table
from govc.refs.reftable.format import LogRecord, RefRecord
from govc.refs.reftable.stack import Stack, StackState, encode_tables_list, new_table_name
from govc.refs.reftable.writer import ReftableOptions, encode_table


class Addition:
    """A table to be. Ends by `publish` or `abandon`; what was put in last counts."""

    __slots__ = ("_fsync", "_logs", "_modes", "_options", "_refs", "_temporary", "lock", "name", "stack", "state")

    def __init__(
        self,
        stack: Stack,
        previous: StackState | None,
        *,
        options: ReftableOptions,
        sleep: Sleep,
        modes: FileModes,
        fsync: bool,
        owner: LockOwner | None,
    ) -> None:
        """Take the lock and read the stack. Raises LockFailed, CorruptRefs, OSError."""
        self._options = options
        self._modes = modes
        self._fsync = fsync
        self._refs: dict[bytes, RefRecord] = {}
        self._logs: dict[tuple[bytes, int], LogRecord] = {}
        self._temporary = ""
        self.stack = stack
        self.name = ""
        self.lock: LockFile | None = stack.lock(
            timeout_ms=options.lock_timeout_ms,
            queue_ms=options.lock_queue_ms,
            sleep=sleep,
            modes=modes,
            owner=owner,
        )
        try:
            self.state = stack.load(previous)
        except BaseException:
            self.abandon()
            raise

    @property
    def update_index(self) -> int:
        """The update index of everything in the new table but tombstones of reflog entries."""
        return self.state.next_update_index

    def put_ref(self, record: RefRecord) -> None:
        """Put a ref, or its tombstone, into the table."""
        self._refs[record.name] = record

    def put_log(self, record: LogRecord) -> None:
        """Put a reflog entry, or the tombstone of one, into the table."""
        self._logs[record.name, record.update_index] = record

    def stage(self) -> None:
        """Write the table and the list; nothing when nothing was put in. Raises OSError, EntryTooLarge."""
        if not self._refs and not self._logs:
            return
        index = self.update_index
        name = new_table_name(index, index)
        self._temporary = temporary_path(self.stack.folder, name)
        chunks = encode_table(
            [self._refs[refname] for refname in sorted(self._refs)],
            [self._logs[key] for key in sorted(self._logs, key=lambda key: (key[0], -key[1]))],
            min_update_index=index,
            max_update_index=index,
            algo=self.stack.algo,
            options=self._options,
        )
        write_table(self._temporary, chunks, self._modes, fsync=self._fsync)
        names = [table.name for table in self.state.tables]
        assert self.lock is not None
        self.lock.write(encode_tables_list([*names, name]), self._modes, fsync=self._fsync)
        self.name = name

    def publish(self) -> None:
        """Make the staged table part of the stack, and let go of the lock. OSError: nothing has changed."""
        if not self.name or self.lock is None:
            self.abandon()
            return
        path = f"{self.stack.folder}/{self.name}"
        disk.rename(self._temporary, path)
        self._temporary = path  # for `abandon`, should the next step fail
        self.lock.commit()
        self._temporary, self.lock = "", None
        if self._fsync:
            sync_folder(self.stack.folder)

    def abandon(self) -> None:
        """Let go of the lock; what wasn't published never was. Harmless after `publish`."""
        if self._temporary:
            remove_file(self._temporary)
            self._temporary = ""
        if self.lock is not None:
            self.lock.release()
            self.lock = None
