"""What the allocator keeps of what was freed, each case in a process of its own: heaps remember everything before."""

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim") or not os.path.exists("/proc/self/status"),
    reason="the C library is not glibc: it has no such calls, and nothing is done",
)

HELD = """
    from govc.memory import bound_heaps, trim

    def held_mib():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024
"""
MANY = """
    before = held_mib()
    blocks = [bytearray(100_000) for _ in range(400)]
    last = blocks.pop()  # at the end of the heap: what is below can't be given back by making the heap shorter
    blocks.clear()
    kept = held_mib() - before
    trim()
    print(kept, held_mib() - before)
"""
LARGE = """
    for _ in range(2):
        large = bytearray(8 << 20)
        large[::4096] = bytes(2048)
        small = [bytearray(100_000) for _ in range(50)]
        before = held_mib()
        del large
    print(before - held_mib())
"""


def run(*parts: str) -> list[float]:
    program = "\n".join(map(textwrap.dedent, (HELD, *parts)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def test_free_pages_inside_the_heap_go_back() -> None:
    kept, left = run(MANY)
    assert kept > 30, "the case is none: freed blocks went back by themselves"
    assert left < 3


def test_what_is_large_goes_back_when_it_is_freed_though_small_blocks_live_on() -> None:
    (freed,) = run(LARGE)
    assert freed < 1, "the case is none: without bounds the second large block is in the heap, below small ones"
    (freed,) = run("bound_heaps()", LARGE)
    assert freed > 7
