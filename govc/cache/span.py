"""Bytes of a file that need not pass through this program: who sends them may let the kernel, or nginx, do it.

A page that is not in memory makes the reader wait for the disk, and under gevent everybody else with him. So each
piece is asked for first (`make_ready`): a read that may not wait (RWF_NOWAIT) tells whether its pages are there, at a
microsecond for each 128 KiB, and only when they are not a thread reads them in.
"""

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

READ_BYTES = 1 << 20
"""One read, and one chunk of a body: below that the work per chunk shows, above it nothing is gained."""

_PROBE_BYTES = 128 << 10
_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

CallBlocking = Callable[..., Any]
"""Runs a call that waits for the kernel where it makes nobody else wait: `call_blocking(function, *arguments)`."""


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
        if not _is_resident(self.descriptor, offset, length):
            self._call_blocking(_read_in, self.descriptor, offset, length)

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


def _is_resident(descriptor: int, offset: int, length: int) -> bool:
    """Say whether one byte in each probed stretch can be read without waiting; yes where nobody can tell."""
    if not _RWF_NOWAIT:
        return True
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
