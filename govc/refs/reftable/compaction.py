"""Compaction: some neighbouring tables become one, while writers go on adding new ones.

    lock the list → choose tables → lock each of them → let go of the list
    → write the merged table → lock the list → replace the tables by it → remove them

Each transaction adds a table; they are merged so that sizes stay geometric: each table at least `factor` times as large
as the one after it. Every record is then written a logarithmic number of times. Tombstones are dropped once nothing
older is left that they could hide.

A lock that is taken means that someone else is at it: then there is nothing to do, or less.

Source: git's technical/reftable "Compaction"; the choice of tables is git's (git-config "reftable.geometricFactor").
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from govc import disk
from govc.refs.lock import FileModes, LockFailed, LockFile, LockOwner, Sleep, remove_file, sync_folder
from govc.refs.reftable.format import header_size, version_for
from govc.refs.reftable.merged import merge_logs, merge_refs
from govc.refs.reftable.stack import Stack, encode_tables_list, new_table_name
from govc.refs.reftable.table import Table
from govc.refs.reftable.writer import ReftableOptions, encode_table

log = logging.getLogger(__name__)

LEFTOVER_SECONDS = 24 * 3600
"""A table that isn't listed, or an unfinished one, goes after so long: its writer is dead."""


class Segment(NamedTuple):
    """The tables [first, end) of a stack."""

    first: int
    end: int


def suggest_segment(sizes: Sequence[int], factor: int) -> Segment | None:
    """Return the tables to merge so that the sizes become geometric, None when they are.

    `sizes` oldest first. The end is where the newest violation is; the start goes back as far as a table is smaller
    than `factor` times all that is merged behind it.
    """
    end = len(sizes) - 1
    while end > 0 and sizes[end - 1] >= sizes[end] * factor:
        end -= 1
    if end <= 0:
        return None
    first = end
    total = sizes[end]
    for number in range(end - 1, -1, -1):
        if sizes[number] < total * factor:
            first = number
        total += sizes[number]
    return Segment(first, end + 1)


def choose_segment(tables: Sequence[Table], factor: int, bytes_max: int | None) -> Segment | None:
    """Return the tables to merge, of the newest ones that together have at most `bytes_max` bytes (None: of all)."""
    overhead = header_size(version_for(tables[0].header.algo)) - 1 if tables else 0
    sizes = [table.size - overhead for table in tables]
    skipped = 0
    if bytes_max is not None:
        left = bytes_max
        skipped = len(sizes)
        while skipped and sizes[skipped - 1] <= left:
            skipped -= 1
            left -= sizes[skipped]
    found = suggest_segment(sizes[skipped:], factor)
    return None if found is None else Segment(found.first + skipped, found.end + skipped)


def temporary_path(folder: str, name: str) -> str:
    """Return where a table is written before it has its name."""
    return f"{folder}/{name.removesuffix('.ref')}.temp.{os.urandom(3).hex()}"


class Compactor:
    """Merges tables of one stack."""

    def __init__(
        self,
        stack: Stack,
        options: ReftableOptions,
        *,
        sleep: Sleep,
        modes: FileModes,
        fsync: bool,
        owner: LockOwner | None = None,
    ) -> None:
        self._stack = stack
        self._options = options
        self._sleep = sleep
        self._modes = modes
        self._fsync = fsync
        self._owner = owner

    def compact(self, *, bytes_max: int | None = None, everything: bool = False) -> int:
        """Merge what makes the sizes geometric, or everything; return how many tables went into one.

        `bytes_max`: leave large tables alone (a server does that in passing). Raises CorruptRefs, OSError; what is
        locked by others is left alone.
        """
        try:
            lock = self._lock()
        except LockFailed:
            return 0
        locks: list[LockFile] = []
        try:
            try:
                all_tables = self._stack.open_tables()
                tables = self._lock_tables(all_tables, bytes_max, everything, locks)
            finally:
                lock.release()
            if len(tables) < 2:
                return 0
            return self._merge(tables, drop_tombstones=tables[0] is all_tables[0])
        finally:
            for table_lock in locks:
                table_lock.release()

    def _lock(self) -> LockFile:
        timeout_ms = self._options.lock_timeout_ms
        return self._stack.lock(timeout_ms=timeout_ms, sleep=self._sleep, modes=self._modes, owner=self._owner)

    def _lock_table(self, name: str) -> LockFile:
        return self._stack.lock(name=name, timeout_ms=0, sleep=self._sleep, modes=self._modes, owner=self._owner)

    def _lock_tables(
        self, tables: tuple[Table, ...], bytes_max: int | None, everything: bool, locks: list[LockFile]
    ) -> tuple[Table, ...]:
        """Lock the tables to merge, newest first; stop at one that someone else is merging."""
        segment: Segment | None = Segment(0, len(tables))
        if not everything:
            segment = choose_segment(tables, self._options.geometric_factor, bytes_max)
        if segment is None:
            return ()
        for number in range(segment.end - 1, segment.first - 1, -1):
            try:
                locks.append(self._lock_table(tables[number].name))
            except LockFailed:
                return tables[number + 1 : segment.end]
        return tables[segment.first : segment.end]

    def _merge(self, tables: tuple[Table, ...], *, drop_tombstones: bool) -> int:
        low, high = tables[0].header.min_update_index, tables[-1].header.max_update_index
        name = new_table_name(low, high)
        temporary = temporary_path(self._stack.folder, name)
        try:
            is_empty = not self._write(temporary, tables, low, high, drop_tombstones)
            replaced = self._replace(tables, temporary, None if is_empty else name)
        finally:
            remove_file(temporary)
        return replaced

    def _write(self, path: str, tables: tuple[Table, ...], low: int, high: int, drop_tombstones: bool) -> bool:
        """Write the merged table; False when nothing is left of its tables."""
        chunks = encode_table(
            merge_refs(tables, drop_tombstones=drop_tombstones),
            merge_logs(tables, drop_tombstones=drop_tombstones),
            min_update_index=low,
            max_update_index=high,
            algo=self._stack.algo,
            options=self._options,
        )
        return write_table(path, chunks, self._modes, fsync=self._fsync)

    def _replace(self, tables: tuple[Table, ...], temporary: str, name: str | None) -> int:
        """Put the new table where the old ones are in the list; return how many."""
        try:
            lock = self._lock()
        except LockFailed:
            return 0
        folder = self._stack.folder
        old = [table.name for table in tables]
        is_done = False
        try:
            names = self._stack.read_names()
            first = names.index(old[0]) if old[0] in names else len(names)
            if names[first : first + len(old)] != old:
                return 0  # someone who didn't respect the locks was faster
            names[first : first + len(old)] = [name] if name is not None else []
            lock.write(encode_tables_list(names), self._modes, fsync=self._fsync)
            if name is not None:
                disk.rename(temporary, f"{folder}/{name}")
            lock.commit()
            is_done = True
        finally:
            if not is_done:
                lock.release()
                if name is not None:
                    remove_file(f"{folder}/{name}")
        if self._fsync:
            sync_folder(folder)
        for table in old:
            remove_file(f"{folder}/{table}")
        return len(old)


def write_table(path: str, chunks: Iterable[bytes], modes: FileModes, *, fsync: bool) -> bool:
    """Write a new file of these chunks; False, and no file, when there is none of them. Raises OSError."""
    is_empty = True
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for chunk in chunks:
            disk.write_all(descriptor, chunk)
            is_empty = False
        if fsync and not is_empty:
            disk.sync(descriptor)
    except BaseException:
        is_empty = True
        raise
    finally:
        disk.close(descriptor)
        if is_empty:
            remove_file(path)
    if not is_empty:
        modes.adjust_file(path)
    return not is_empty


def remove_leftovers(stack: Stack, *, now: float) -> int:
    """Remove what dead processes left: tables that aren't listed, unfinished ones, locks of tables. Return how many."""
    try:
        names = os.listdir(stack.folder)
    except FileNotFoundError:
        return 0
    listed = set(stack.read_names())
    removed = 0
    for name in names:
        path = f"{stack.folder}/{name}"
        is_unlisted = name.endswith((".ref", ".log")) and name not in listed
        is_leftover = is_unlisted or ".temp." in name or name.endswith(".ref.lock")
        if is_leftover and now - _modified(path) > LEFTOVER_SECONDS:
            log.info("%s: removed a leftover", path)
            removed += remove_file(path)
    return removed


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return time.time()
