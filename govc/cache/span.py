"""Bytes of a file that need not pass through this program: who sends them may let the kernel, or nginx, do it.

A page that is not in memory makes the reader wait for the disk, and under gevent everybody else with him. So each
piece is asked for first (`make_ready`): a read that may not wait (RWF_NOWAIT) tells whether its pages are there, at a
microsecond for each 128 KiB, and only when they are not a thread reads them in. What was there is taken to be there for
the next RESIDENT_SECONDS: fifty clients who are sent one file ask for the same pages.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

READ_BYTES = 1 << 20
"""One read, and one chunk of a body: below that the work per chunk shows, above it nothing is gained."""

_PROBE_BYTES = 128 << 10
RESIDENT_SECONDS = 2.0
"""What was just read is the last that the kernel lets go of."""
_RESIDENT_MAX = 4096
_resident: dict[tuple[int, int, int], float] = {}
"""When each READ_BYTES of a file (device, inode, which) were found in memory."""

_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

CallBlocking = Callable[..., Any]
"""Runs a call that waits for the kernel where it makes nobody else wait: `call_blocking(function, *arguments)`."""

Check = Callable[[int, Sequence[memoryview]], None]
"""Looks at bytes of a file that are kept, from an offset on, in their order. Raises GovcError for what is damaged."""


class FileSpan:
    """`length` bytes of an open file from `offset` on.

    The descriptor is its maker's, and good until the maker is asked for what comes next. `whole_name` is not empty
    when the span is a whole file that will not change any more: its path relative to the cache's folder.
    """

    __slots__ = ("_call_blocking", "descriptor", "length", "offset", "whole_name")

    def __init__(
        self, descriptor: int, offset: int, length: int, call_blocking: CallBlocking, whole_name: str = ""
    ) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.length = length
        self.whole_name = whole_name
        self._call_blocking = call_blocking

    def make_ready(self, offset: int, length: int) -> None:
        """See to it that these bytes of the file are in memory. May switch."""
        if not _RWF_NOWAIT or not length:
            return
        status, now = os.fstat(self.descriptor), time.monotonic()
        for block in range(offset // READ_BYTES, (offset + length - 1) // READ_BYTES + 1):
            key = status.st_dev, status.st_ino, block
            if now - _resident.get(key, -RESIDENT_SECONDS) >= RESIDENT_SECONDS:
                start = block * READ_BYTES
                size = min(READ_BYTES, status.st_size - start)  # what lies behind the end is nobody's to wait for
                if size > 0 and not _is_resident(self.descriptor, start, size):
                    self._call_blocking(_read_in, self.descriptor, start, size)
                if len(_resident) >= _RESIDENT_MAX:
                    _resident.clear()
                _resident[key] = now

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the bytes. A file that ends early raises OSError: it must never look like a whole one. May switch."""
        offset, end = self.offset, self.offset + self.length
        while offset < end:
            wanted = min(READ_BYTES, end - offset)
            self.make_ready(offset, wanted)
            data = os.pread(self.descriptor, wanted, offset)
            if not data:
                raise OSError(errno.EIO, f"a cached body ends {end - offset} bytes early")
            offset += len(data)
            yield data


class FramedSpan(FileSpan):
    """Bytes of a file cut into packets: before each `payload_max` bytes (fewer before the last) stands `header(size)`.

    `length` is what goes out, headers included. `owner` keeps the descriptor open. `check` is for who keeps the bytes.
    """

    __slots__ = ("check", "end", "header", "owner", "payload_max")

    def __init__(
        self,
        descriptor: int,
        start: int,
        end: int,
        payload_max: int,
        header: Callable[[int], bytes],
        call_blocking: CallBlocking,
        owner: Any,
        check: Check | None = None,
    ) -> None:
        full, rest = divmod(end - start, payload_max)
        length = end - start + full * len(header(payload_max)) + (len(header(rest)) if rest else 0)
        super().__init__(descriptor, start, length, call_blocking)
        self.end = end
        self.payload_max = payload_max
        self.header = header
        self.owner = owner
        self.check = check

    def __len__(self) -> int:
        """Bytes that go out."""
        return self.length

    def rest(self, offset: int) -> "FramedSpan":
        """Return the packets from this offset of the file on, where one begins."""
        return FramedSpan(
            self.descriptor, offset, self.end, self.payload_max, self.header, self._call_blocking, self.owner
        )

    def first_packet(self) -> bytes:
        """Return the first packet. OSError when the file ends early."""
        count = min(self.payload_max, self.end - self.offset)
        data = os.pread(self.descriptor, count, self.offset)
        if len(data) != count:
            raise OSError(errno.EIO, f"a file that is sent ends before byte {self.offset + count}")
        return self.header(count) + data

    def last_packets(self, count: int) -> bytes:
        """Return so many packets, or all. OSError when the file ends early. May switch."""
        first = max(-(-(self.end - self.offset) // self.payload_max) - count, 0)
        return b"".join(self.rest(self.offset + first * self.payload_max).iter_bytes())

    def iter_blocks(self) -> Iterator[list[tuple[bytes, int, int]]]:
        """Yield (header, offset, size) of the packets, some at a time; their pages are in memory then. May switch."""
        size = self.payload_max
        full = self.header(size)
        step = max(READ_BYTES // size, 1) * size
        for start in range(self.offset, self.end, step):
            stop = min(start + step, self.end)
            self.make_ready(start, stop - start)
            block = [(full, offset, size) for offset in range(start, stop - size + 1, size)]
            if rest := (stop - start) % size:
                block.append((self.header(rest), stop - rest, rest))
            yield block

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the packets, some at a time. OSError when the file ends early. May switch."""
        waiting: list[bytes] = []
        waiting_bytes = 0
        for header, offset, count in chain.from_iterable(self.iter_blocks()):
            data = os.pread(self.descriptor, count, offset)
            if len(data) != count:
                raise OSError(errno.EIO, f"a file that is sent ends before byte {offset + count}")
            waiting += (header, data)
            waiting_bytes += count
            if waiting_bytes >= READ_BYTES // 2:
                yield b"".join(waiting)
                waiting.clear()
                waiting_bytes = 0
        if waiting:
            yield b"".join(waiting)


def _is_resident(descriptor: int, offset: int, length: int) -> bool:
    """Say whether one byte in each probed stretch can be read without waiting; yes where nobody can tell."""
    probe = bytearray(1)
    for at in (*range(offset, offset + length, _PROBE_BYTES), offset + length - 1):
        try:
            os.preadv(descriptor, (probe,), at, _RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # a file system that knows no such flag
            return True
    return True


def _read_in(descriptor: int, offset: int, length: int) -> None:
    scratch = bytearray(min(length, READ_BYTES))
    end = offset + length
    while offset < end and (count := os.preadv(descriptor, (scratch,), offset)):
        offset += count
