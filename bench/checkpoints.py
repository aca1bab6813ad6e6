"""What a checkpoint costs, and how long writers wait for it: by the number of refs in packed-refs.

    python -m bench.checkpoints

For each number of refs: one commit is pushed, then a checkpoint is made (in a process of its own, as the server does),
some times; then packed-refs is rewritten by plain git, and one more is made, which compares all refs. Meanwhile this
process takes the log's append lock again and again, as a writer does, and notes the longest it had to wait.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.repo.logged import ZERO, Logged, git

SIZES = (1_000, 47_000, 1_000_000)
ROUNDS = 5
SETTLE_SECONDS = 0.1
CHECKPOINT = "import sys; from govc.repo.checkpoint_schedule import checkpoint_path; checkpoint_path(sys.argv[1])"
NOTHING = "import sys; from govc.repo.checkpoint_schedule import checkpoint_path"


def child_cpu_ms(code: str, path: str) -> float:
    """CPU of one child process in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, path], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Writer(threading.Thread):
    """Takes the append lock every half millisecond; `longest` is in milliseconds."""

    def __init__(self, world: Logged) -> None:
        super().__init__(daemon=True)
        self.log = world.repository.journal(world.options).log
        self.longest = 0.0
        self.is_over = False

    def run(self) -> None:
        """Until `is_over`."""
        while not self.is_over:
            begun = time.perf_counter()
            with self.log.append_lock():
                waited = time.perf_counter() - begun
            self.longest = max(self.longest, 1000 * waited)
            time.sleep(0.0005)


def measure(refs: int, place: Path) -> str:
    """One row."""
    world = Logged(place)
    oid = world.commit()
    world.push((b"refs/heads/main", ZERO, oid))
    names = sorted(f"refs/tags/v{number}" for number in range(refs))
    with open(f"{world.path}/packed-refs", "w", encoding="ascii") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted \n")
        file.writelines(f"{oid.hex()} {name}\n" for name in names)
    time.sleep(SETTLE_SECONDS)
    subprocess.run([sys.executable, "-c", CHECKPOINT, world.path], check=True)  # observes all of them
    start = statistics.median(child_cpu_ms(NOTHING, world.path) for _ in range(ROUNDS))
    writer = Writer(world)
    writer.start()
    costs = []
    for _ in range(ROUNDS):
        new = world.commit(oid)
        world.push((b"refs/heads/main", oid, new))
        oid = new
        costs.append(child_cpu_ms(CHECKPOINT, world.path) - start)
    waited, writer.longest = writer.longest, 0.0
    git(world.path, "pack-refs", "--all")
    time.sleep(SETTLE_SECONDS)
    new = world.commit(oid)
    world.push((b"refs/heads/main", oid, new))
    whole = child_cpu_ms(CHECKPOINT, world.path) - start
    whole_waited = writer.longest
    writer.is_over = True
    writer.join()
    world.repository.close()
    return (
        f"| {refs:,} | {statistics.median(costs):.0f} ({min(costs):.0f} to {max(costs):.0f}) | {waited:.1f} | "
        f"{whole:.0f} | {whole_waited:.1f} |"
    )


def rows(sizes: Sequence[int] = SIZES) -> list[str]:
    """The table, a line at a time."""
    lines = [
        "| refs | checkpoint after a push, CPU ms | longest wait of a writer, ms | after `git pack-refs`, CPU ms "
        "| wait, ms |",
        "|---|---|---|---|---|",
    ]
    for refs in sizes:
        with tempfile.TemporaryDirectory(prefix="govc-checkpoints-") as place:
            lines.append(measure(refs, Path(place)))
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    os.environ.setdefault("GIT_CONFIG_NOSYSTEM", "1")
    print("\n".join(rows()))
