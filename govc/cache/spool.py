"""How a body is written to its spool: cut where the page cache's large pieces end.

The kernel keeps what one write brought in folios as large as the write and its alignment allow, and what it costs to
hand a file to a socket later grows with their number. So writes end at multiples of WRITE_BYTES. Larger ones gain
nothing: what is written has left the processor's cache by then, and still larger folios are harder to find.

    write_cut       bytes in memory
    copy_packets    bytes of another file, cut into packets (`FramedSpan`): read behind headers that are there already,
                    one read and one write for many packets, and no copy in between; looked at by the span's `check`

Both wait for the kernel, so a thread calls them. Raises OSError.
"""

import errno
import os
from collections.abc import Sequence

from govc.cache.span import FramedSpan

WRITE_BYTES = 512 << 10
STAY_BYTES = 4 << 20
"""What is copied in one stay in a thread, a few milliseconds; then it is published."""


def write_cut(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write what there is room for; return how many bytes that was. Raises OSError when it is none."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        at = offset + done
        try:
            done += os.pwrite(descriptor, view[done : done + WRITE_BYTES - at % WRITE_BYTES], at)
        except OSError:
            if not done:
                raise
            break  # the next write tells why
    return done


def copy_packets(span: FramedSpan, offset: int, target: int, at: int, buffer: bytearray) -> tuple[int, int]:
    """Write the packets from `offset` of the span's file on to position `at` of the target, about STAY_BYTES of them.

    Return what is behind them: (offset, position). `buffer`: WRITE_BYTES. Raises OSError; nothing tells then how much
    was written. Raises what the span's check raises.
    """
    size = span.payload_max
    stop = min(offset + max(STAY_BYTES // size, 1) * size, span.end)
    full, last = span.header(size), span.header((stop - offset) % size or size)
    row = len(full) + size
    packets = -(-(stop - offset) // size)
    total = stop - offset + (packets - 1) * len(full) + len(last)
    view = memoryview(buffer)
    done = 0
    while done < total:
        end = min(done + WRITE_BYTES - (at + done) % WRITE_BYTES, total)
        wanted: list[memoryview] = []
        filled, read_at = 0, -1
        while done < end:
            packet, inside = divmod(done, row)
            header = full if packet < packets - 1 else last
            if inside < len(header):
                part = header[inside : inside + end - done]
                count = len(part)
                view[filled : filled + count] = part
            else:
                start = offset + packet * size + inside - len(header)
                count = min(offset + (packet + 1) * size, stop) - start
                count = min(count, end - done)
                wanted.append(view[filled : filled + count])
                read_at = start if read_at < 0 else read_at
            filled += count
            done += count
        _read_all(span.descriptor, wanted, read_at)
        if span.check is not None and wanted:
            span.check(read_at, wanted)
        written = 0
        while written < filled:
            written += os.pwrite(target, view[written:filled], at + end - filled + written)
    return stop, at + total


def _read_all(descriptor: int, wanted: Sequence[memoryview], offset: int) -> None:
    """Fill the buffers one after the other. OSError when the file ends before."""
    missing = sum(map(len, wanted))
    if missing and os.preadv(descriptor, wanted, offset) == missing:
        return
    for view in wanted:  # as good as never
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, (view[done:],), offset)
            if not count:
                raise OSError(errno.EIO, f"a file that is sent ends before byte {offset + len(view) - done}")
            done += count
            offset += count
