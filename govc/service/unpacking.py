"""Taking in the pack of a push: into quarantine as it comes, then indexing and the connectivity check.

What makes the whole pack unusable is raised as `NotUnpacked`, with git's texts; what concerns single refs (a tip that
isn't whole) is in the result.

Source: gitprotocol-pack "Pushing Data To a Server"; git's builtin/receive-pack.c (unpack, set_connectivity_errors);
rows RP-25..RP-33, RP-38, RP-45, RP-51, RP-100.
"""

import os
import posix  # see govc.watch
from collections.abc import Callable, Generator, Set
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from govc.errors import GovcError, LimitExceeded
from govc.kernels.indexing import find_compiled
from govc.odb.lone_pack import LonePack
from govc.odb.quarantine import Quarantine
from govc.odb.store import ObjectStore
from govc.pack.compiled import Call, call_here
from govc.pack.format import PACK_HEADER_SIZE
from govc.pack.limits import IndexLimits
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.sideband import KEEPALIVE
from govc.refs.values import RefValues, sort_values
from govc.repo.fsck_push import checks_pushed_objects
from govc.repo.helper import Job, Progress, run_helper
from govc.repo.receiving import (
    INLINE_LIMITS,
    POOL_LIMITS,
    POOL_OBJECTS_MAX,
    Look,
    ReceiveResult,
    ReceiveTask,
    receive_pack_file,
)
from govc.repo.runtime import Breather
from govc.repo.snapshot import Snapshot
from govc.service.pacing import paced
from govc.service.policy import ReceivePolicy
from govc.service.push_limits import PushRoom, text_of_size
from govc.service.push_state import PushState
from govc.service.receive_tools import ReceiveTools

READ_BYTES = 128 << 10
UNPACK_LIMIT = 100
"""git's default; here it only chooses the word for what failed: packs stay packs unless the configuration says so."""

DIRECT_BYTES_MAX = 64 << 10
"""Indexing so small a pack takes less time than going to another thread and back, a few times."""


class BodyReader(Protocol):
    """A request body, decoded."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, b"" at the end. A body cut short raises RemoteProtocolError."""


class ReadAhead:
    """A body whose beginning is read before it is asked for; what goes wrong there is raised where it is met."""

    def __init__(self, first: bytes, body: BodyReader) -> None:
        """`first`: what was read of it, and not used."""
        self._pieces = [first] if first else []
        self._body = body
        self._error: RemoteProtocolError | None = None
        self.has_ended = False

    def fill(self, size: int) -> None:
        """Read until `size` bytes are here, or there are no more (`has_ended`). May switch."""
        size -= sum(map(len, self._pieces))
        try:
            while size > 0:
                data = self._body.read(size)
                if not data:
                    self.has_ended = True
                    return
                self._pieces.append(data)
                size -= len(data)
        except RemoteProtocolError as error:
            self._error = error

    def read(self, size: int, /) -> bytes:
        """Read on; as `BodyReader`."""
        if self._pieces:
            return self._pieces.pop(0)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return b"" if self.has_ended else self._body.read(size)


class NotUnpacked(GovcError):
    """The pack can't be taken: `reason` for the report's first line, `detail` for band 2."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class OnOld(NamedTuple):
    """A push that may stand on the old value of its only ref, and on nothing else: what is true of that value as long
    as it is the ref's, which the lock of the ref will tell, needs no look at other refs and packs.
    """

    value: bytes
    look: Callable[[], Snapshot]
    """Takes the snapshot that is needed all the same when the push turns out to stand on more."""


class Unpacker:
    """Takes in the pack of one push."""

    def __init__(self, state: PushState, policy: ReceivePolicy, tools: ReceiveTools, room: PushRoom) -> None:
        self._state = state
        self._room = room
        self._policy = policy
        self._tools = tools

    def store_pack(self, quarantine: Quarantine, body: BodyReader) -> tuple[str, int, int]:
        """Write the pack into quarantine as it comes; return its path, size in bytes and stated object count."""
        size_max = self._policy.pack_bytes_max
        try:
            descriptor, path = quarantine.create_pack_file()
        except OSError as error:
            raise NotUnpacked("unable to create temporary object directory", error.strerror or "") from error
        try:
            header = b""
            while len(header) < PACK_HEADER_SIZE:
                data = body.read(READ_BYTES)
                if not data:
                    raise NotUnpacked("eof before pack header was fully read")
                header += data
            count = _check_pack_header(header)
            size = 0
            data = header
            breathe = Breather(self._tools.runtime)
            while data:
                breathe()
                size += len(data)
                if size_max and size > size_max:
                    self._tools.push_limits.watch.refused("receive.maxInputSize")
                    raise NotUnpacked(self._unpacker(count), f"fatal: {text_of_size(size_max)}")
                problem = self._room.check_pack(size)
                if problem is not None:
                    raise NotUnpacked(self._unpacker(count), f"fatal: {problem}")
                _write_all(descriptor, data)
                data = body.read(READ_BYTES)
            return path, size, count
        except RemoteProtocolError as error:
            raise NotUnpacked(self._unpacker(0), f"fatal: early EOF: {error.text}") from error
        except OSError as error:
            raise NotUnpacked(self._unpacker(0), f"fatal: write error: {error.strerror}") from error
        finally:
            posix.close(descriptor)

    def check_pack(
        self,
        snapshot: Snapshot,
        quarantine: Quarantine,
        pack_path: str,
        size: int,
        count: int,
        on_old: OnOld | None = None,
    ) -> Generator[bytes, None, ReceiveResult]:
        """Index the pack and check that the new tips are whole. Yields progress and keepalives.

        `on_old`: the snapshot is one that was, and the push is whole by it if it stands on that alone.

        Where received objects are checked, what isn't whole isn't unpacked either (FK-07): git's unpackers see to that.
        A tip that isn't there at all is no link of a received object.
        """
        result = yield from self._index_and_connect(snapshot, quarantine, pack_path, size, count, on_old)
        if isinstance(quarantine, LonePack):
            quarantine.checksum = result.pack_checksum
        links = [problem for problem in result.broken_tips.values() if problem.needed_by]
        if count and links and checks_pushed_objects(snapshot.config):
            problem = links[0]
            raise NotUnpacked(self._unpacker(count), f"fatal: did not receive expected object {problem.oid.hex()}")
        return result

    def _unpacker(self, count: int) -> str:
        """Return what git says when the program that it would have started gave up (RP-27)."""
        return f"{'unpack-objects' if self._is_unpacked_by_git(count) else 'index-pack'} abnormal exit"

    def _is_unpacked_by_git(self, count: int) -> bool:
        return count < (UNPACK_LIMIT if self._policy.unpack_limit is None else self._policy.unpack_limit)

    def _index_and_connect(
        self,
        snapshot: Snapshot,
        quarantine: Quarantine,
        pack_path: str,
        size: int,
        count: int,
        on_old: OnOld | None,
    ) -> Generator[bytes, None, ReceiveResult]:
        request = self._state.request
        limits = self._inline_limits(snapshot, size, count)
        if on_old is not None and limits is None:
            snapshot, on_old = on_old.look(), None
        take_task = partial(self._make_task, quarantine, pack_path, count, limits or self._tools.limits)
        look = partial(_look_again, on_old.look, take_task) if on_old is not None else None
        task = take_task(snapshot, on_old)
        try:
            if limits is not None:
                call = self._tools.runtime.call_cpu if size > DIRECT_BYTES_MAX else call_here
                result = self._check_inline(task, snapshot, call, look)
                if result is not None:
                    yield from self._state.drain()
                    return result
                if look is not None:
                    task, _ = look()
                task = replace(task, limits=self._tools.limits)
            assert self._tools.slots is not None
            keepalive = self._policy.keepalive_seconds
            work = run_helper(
                Job("receive", task),
                slots=self._tools.slots,
                quiet_seconds=float(keepalive) if keepalive > 0 else 3600.0,
            )
            while True:
                try:
                    item = next(work)
                except StopIteration as stop:
                    outcome: ReceiveResult = stop.value
                    return outcome
                if isinstance(item, Progress):
                    self._state.say_raw(item.text)
                    yield from self._state.drain()
                elif not isinstance(item, bytes) and request.side_band and keepalive > 0:
                    yield KEEPALIVE
        except NotUnpacked:
            raise
        except GovcError as error:
            if error.limit_name:
                self._tools.push_limits.watch.refused(error.limit_name)
            raise NotUnpacked(self._unpacker(count), f"fatal: {error.public_text}") from error
        except OSError as error:
            raise NotUnpacked(self._unpacker(count), f"fatal: {error.strerror}") from error

    def _make_task(
        self,
        quarantine: Quarantine,
        pack_path: str,
        count: int,
        limits: IndexLimits,
        snapshot: Snapshot,
        on_old: OnOld | None = None,
    ) -> ReceiveTask:
        request = self._state.request
        return ReceiveTask.of(
            snapshot,
            quarantine_dir=quarantine.path,
            pack_path=pack_path,
            new_tips=tuple(dict.fromkeys(c.new for c in self._state.commands if any(c.new))),
            ref_tips=self._ref_tips(snapshot) if on_old is None else frozenset((on_old.value,)),
            client_shallow=frozenset(request.shallows) - snapshot.shallow,
            limits=limits,
            detects=self._tools.detects,
            threads=self._tools.threads,
            progress=request.side_band and not request.quiet,
            unpacks=count < (self._policy.unpack_limit or 0),
            is_lone=isinstance(quarantine, LonePack),
            git_unpacks=self._is_unpacked_by_git(count),
        )

    def _inline_limits(self, snapshot: Snapshot, size: int, count: int) -> IndexLimits | None:
        """Return what the pack may ask for when it is checked here, None when a helper checks it from the start.

        Raises BadConfigValue.
        """
        limits = self._tools.limits
        if self._tools.slots is None:
            return limits
        if size <= self._tools.inline_bytes_max:
            return INLINE_LIMITS.within(limits)
        is_small = count <= POOL_OBJECTS_MAX and size <= POOL_LIMITS.object_bytes_max
        is_pooled = find_compiled(snapshot.algo.name) is not None and not checks_pushed_objects(snapshot.config)
        return POOL_LIMITS.within(limits) if is_small and is_pooled else None

    def _check_inline(
        self, task: ReceiveTask, snapshot: Snapshot, call: Call, look: Look | None
    ) -> ReceiveResult | None:
        """Do it here; None when the pack turns out to be more than this process should take on."""
        said: list[str] = []
        try:
            return receive_pack_file(
                task,
                lambda item: said.append(item.text) if isinstance(item, Progress) else None,
                Breather(self._tools.runtime),
                reuse=snapshot.store,
                call=call,
                look=look,
            )
        except LimitExceeded:
            if self._tools.slots is None:
                raise
            said.clear()
            return None
        finally:
            for text in said:
                self._state.say_raw(text)

    def _ref_tips(self, snapshot: Snapshot) -> Set[bytes]:
        """Return what refs name, alternates' included, as far as it exists."""
        table, store = snapshot.table, snapshot.store
        packed, size = table.packed, snapshot.algo.oid_size
        kept = snapshot.lasting.get("packed values")
        if kept is None:
            oids = b"".join(map(packed.oid_at, paced(range(packed.count), self._tools.runtime.pause)))
            kept = snapshot.lasting["packed values"] = sort_values(oids, size)
        return RefValues(table, kept, lambda oid: store.find(oid, rescan=False) >= 0, snapshot.alternate_tips)


def _look_again(
    take: Callable[[], Snapshot], make_task: Callable[[Snapshot], ReceiveTask]
) -> tuple[ReceiveTask, ObjectStore]:
    snapshot = take()
    return make_task(snapshot), snapshot.store


def _check_pack_header(header: bytes) -> int:
    """Return the stated number of objects. Raises NotUnpacked with receive-pack's texts (RP-26)."""
    if header[:4] != b"PACK":
        raise NotUnpacked("protocol error (pack signature mismatch detected)")
    if int.from_bytes(header[4:8], "big") not in (2, 3):
        raise NotUnpacked("protocol error (pack version unsupported)")
    return int.from_bytes(header[8:12], "big")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
