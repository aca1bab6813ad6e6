"""The number by which followers in other processes say how far the fastest of them is, and which several write."""

import os
import threading

from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import Notice
from govc.cache.folder import CacheFolder
from govc.cache.record import read_fastest
from tests.cache.readers import ChunkReader, as_bytes
from tests.waiting import wait_until

KEY = b"k" * 20
HEAD = b"head|"
BIG = bytes(range(256)) * 4096  # 1 MiB
FASTEST_AT = 128


def test_who_has_read_all_says_so_again_when_a_slower_one_has_put_it_back(tmp_path):
    """One who was held up between looking at the number and writing his own undoes what others have said since; the
    producer waited for them then, and they for him."""
    folder = CacheFolder(str(tmp_path / "cache"), 64 << 20)
    here = BodyCache(folder, ahead_bytes_max=2 * len(BIG))
    there = BodyCache(CacheFolder(folder.cache_dir, 64 << 20))
    permits = threading.Semaphore(0)

    def produce():
        yield Notice(HEAD)
        for _ in range(8):
            while not permits.acquire(timeout=0.01):
                yield None
            yield BIG

    wish = BodyRequest(key=KEY, produce=produce, head=HEAD, expected_bytes=1, keepalive=b"", quiet_seconds=0.02)
    beginner = here.serve(wish)
    assert as_bytes(next(beginner)) == HEAD
    reader = ChunkReader(there.serve(wish))
    wait_until(lambda: len(reader.seen) == len(HEAD))
    beginner.close()
    permits.release(4)
    wait_until(lambda: len(reader.seen) == len(HEAD) + 4 * len(BIG))
    record = os.open(f"{folder.path}/{KEY.hex()}.flight", os.O_RDWR)
    wait_until(lambda: read_fastest(record) == len(HEAD) + 4 * len(BIG))
    os.pwrite(record, bytes(8), FASTEST_AT)
    os.close(record)
    permits.release(4)
    wait_until(lambda: len(reader.seen) == len(HEAD) + 8 * len(BIG))
    assert reader.result() == HEAD + 8 * BIG
    wait_until(lambda: KEY.hex() not in here._flights)
