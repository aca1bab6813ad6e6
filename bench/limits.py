"""`python -m bench.limits`: what no server can do faster on this machine; writes LIMITS.md.

Copying memory, SHA-1, deflate, a socket, and what `git clone` does with a pack that it has received. Everything is CPU
time (user and system) of whoever does the work, the least of some rounds; gigabytes are 10^9 bytes. The bytes of SHA-1
and the socket are noise, those of deflate the text of this project's own files.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path

from bench import generate, indexing, report
from compat.gitclient import Git
from govc.kernels.indexing import describe
from govc.kernels.sha1 import Sha1, hash_many

RESULTS = Path(__file__).with_name("LIMITS.md")
ROUNDS = 5
LARGE_BYTES = 256 << 20
SMALL_BYTES = 1 << 10
SOCKET_BYTES = 1 << 30
SEND_BYTES = 1 << 20


def least(work: Callable[[], object], *, clock: Callable[[], float] = time.process_time) -> float:
    """The least seconds of some rounds."""
    found = []
    for _ in range(ROUNDS):
        before = clock()
        work()
        found.append(clock() - before)
    return min(found)


def send_seconds(path: Path) -> float:
    """CPU seconds of the sender of a gigabyte, by sendfile from the page cache to a loopback socket that is read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read() -> None:
            buffer = bytearray(SEND_BYTES)
            with socket.create_connection(listener.getsockname()) as client:
                while client.recv_into(buffer):
                    pass

        reader = threading.Thread(target=read)
        reader.start()
        connection, _ = listener.accept()
        with connection, path.open("rb") as file:
            before = time.thread_time()
            offset = 0
            while sent := os.sendfile(connection.fileno(), file.fileno(), offset, SEND_BYTES):
                offset += sent
            spent = time.thread_time() - before
        reader.join()
    return spent


def children_seconds() -> float:
    """CPU seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(place: Path) -> list[tuple[str, str]]:
    """What is limited by what, and how fast that is here."""
    noise = os.urandom(LARGE_BYTES)
    target = bytearray(LARGE_BYTES)
    small = [noise[start : start + SMALL_BYTES] for start in range(0, 16 << 20, SMALL_BYTES)]
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    packed = zlib.compress(text, 1)

    def copy() -> None:
        target[:] = noise

    def rate(count: int, seconds: float, unit: float = 1e9) -> str:
        return f"{count / seconds / unit:.2f} GB/s" if unit == 1e9 else f"{count / seconds / unit:.0f} MB/s"

    found = [
        ("copying memory", rate(LARGE_BYTES, least(copy))),
        ("SHA-1 of much, OpenSSL", rate(LARGE_BYTES, least(lambda: sha1(noise, usedforsecurity=False).digest()))),
        ("SHA-1 of much, with detection of attacks", rate(LARGE_BYTES, least(lambda: Sha1(noise).digest()))),
        (f"SHA-1 of objects of {SMALL_BYTES:,} bytes, with detection", rate(16 << 20, least(lambda: hash_many(small)))),
        ("deflate, level 1, zlib", rate(len(text), least(lambda: zlib.compress(text, 1)), 1e6)),
        ("inflate, zlib", rate(len(text), least(lambda: zlib.decompress(packed)), 1e6)),
    ]
    file = place / "gigabyte"
    with file.open("wb") as output:
        for _ in range(SOCKET_BYTES // LARGE_BYTES):
            output.write(noise)
    spent = min(send_seconds(file) for _ in range(ROUNDS))
    found.append(("sendfile to a loopback socket, the sender's CPU", f"{spent / SOCKET_BYTES * 1e9:.3f} s/GB"))
    return found


def client_rows(title: str, pack: Path, place: Path) -> list[tuple[str, str]]:
    """What a client's index-pack costs."""
    index = place / "client.idx"
    with pack.open("rb") as file:
        count = int.from_bytes(file.read(12)[8:], "big")

    def run() -> None:
        subprocess.run(["git", "index-pack", "--threads=1", "-o", index, pack], check=True, capture_output=True)

    spent = least(run, clock=children_seconds)
    size = pack.stat().st_size
    what = f"a client's own index-pack, {title} ({count:,} objects, {size / 1e6:.0f} MB)"
    return [(what, f"{spent:.2f} s, {spent / size * 1e9:.0f} s/GB")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("packs", nargs="*", metavar="NAME=PACK-OR-REPOSITORY")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="govc-limits-") as folder:
        place = Path(folder)
        found = rows(place)
        history = generate.build_history(Git(place / "home", place), place / "history.git", generate.COMMITS)
        packs = [("generated", indexing.find_pack(history))]
        packs += [(name, indexing.find_pack(Path(path))) for name, _, path in (x.partition("=") for x in options.packs)]
        for title, pack in packs:
            found += client_rows(title, pack, place)
    lines = [
        "# What no server does faster here\n",
        f"Written by `python -m bench.limits` on {time.strftime('%Y-%m-%d', time.gmtime())}: the least of {ROUNDS} "
        "rounds, CPU time of one thread.\n",
        f"- Machine: {report.machine()}; {report.format_loads(before, os.getloadavg())}. "
        f"Hashing and inflating: {describe()}.\n",
        "| work | |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in found),
        "",
    ]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
