"""Giving memory back to the system: what the C library's allocator keeps of what was freed.

glibc keeps freed memory for later, in one heap for each of many threads, and learns from the first large block that is
freed to take the next one from those heaps, where a small neighbour that lives on pins it. For a worker whose largest
request needs tens of megabytes for a second, and whose usual one needs kilobytes, that is memory lost for good.

    bound_heaps   once, in the process that the others are forked from: few heaps, and what is large comes from the
                  system and goes back to it
    trim          after something large: whole free pages inside the heaps go back (some milliseconds, without the GIL)

Neither changes a result, and where the C library has no such calls (musl, macOS) neither does anything.

Source: mallopt(3), malloc_trim(3).
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
"""Threads mostly wait for the GIL, so they don't wait for each other's heap."""

_LARGE_BYTES = 2 << 20
"""What is mapped for itself: an array with a few bytes for each object of a large repository, not a piece of an answer,
of which thousands are made, and whose pages had to be cleared each time."""

_FREE_BYTES = 4 << 20
"""So much free memory at the end of the heap is kept: less, and it would shrink and grow with each piece."""


_libc = ctypes.CDLL(None)
_mallopt, _malloc_trim = getattr(_libc, "mallopt", None), getattr(_libc, "malloc_trim", None)


def bound_heaps() -> None:
    """Set the allocator's limits for this process and those that are forked from it."""
    if _mallopt is not None:
        for parameter, value in (
            (_M_ARENA_MAX, _ARENAS),
            (_M_MMAP_THRESHOLD, _LARGE_BYTES),
            (_M_TRIM_THRESHOLD, _FREE_BYTES),
        ):
            _mallopt(parameter, value)


def trim() -> None:
    """Give free pages back."""
    if _malloc_trim is not None:
        _malloc_trim(ctypes.c_size_t(0))
