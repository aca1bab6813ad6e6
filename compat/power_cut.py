"""A disk that loses what was not written: ext4 on a loop device whose backing file is read as it lies.

The loop device writes with direct I/O, so the backing file holds what the file system has really sent to its disk, and
nothing of the page cache. The kernel's periodic write-back leaves data alone until it is `expire_seconds` old, and the
journal commits by itself every COMMIT_SECONDS; whoever is done before that, finds in a copy of the backing file what
was synced, and what happened to be written along with it: what a power cut leaves.

Needs root and a free loop device; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from compat.programs import find_program

COMMIT_SECONDS = 300
IMAGE_BYTES = 384 << 20
UNMOUNT_SECONDS = 60
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class NotPossible(Exception):
    """This machine can't do it; the text says why."""


def run(*command: str | Path) -> str:
    """Run a program of the system's administrator."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run([str(word) for word in command], capture_output=True, env={"PATH": path}, check=False)
    if done.returncode:
        raise NotPossible(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def why_not() -> str | None:
    """What is missing here, None when nothing is."""
    if os.geteuid() != 0:
        return "needs root to mount"
    missing = [name for name in ("losetup", "mkfs.ext4", "mount", "umount", "unshare") if find_program(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    try:
        run("losetup", "--find")
    except (NotPossible, OSError) as error:
        return f"needs a loop device: {error}"
    return None


def expire_seconds() -> float:
    """How old dirty data becomes before the kernel writes it by itself."""
    return int(Path("/proc/sys/vm/dirty_expire_centisecs").read_text()) / 100


def make_image(path: Path) -> Path:
    """An empty ext4 file system, all of its tables written."""
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
    return path


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """The image, mounted at `place`. Raises NotPossible, also when direct I/O is not to be had."""
    place.mkdir(exist_ok=True)
    device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
    try:
        if Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip() != "1":
            raise NotPossible("the loop device does no direct I/O here")
        run("mount", "-o", f"commit={COMMIT_SECONDS}", device, place)
        try:
            yield place
        finally:
            _unmount(place)
    finally:
        run("losetup", "--detach", device)


def _unmount(place: Path) -> None:
    """Unmount, once the helpers of a server that has ended are gone, too: they see only then that nobody listens."""
    deadline = time.monotonic() + UNMOUNT_SECONDS
    while True:
        try:
            run("umount", place)
            return
        except NotPossible as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def sync_all(place: Path) -> None:
    """Everything that lies there now is on the disk."""
    run("sync", "-f", place)


def copy_as_it_lies(image: Path, target: Path) -> Path:
    """What is on the disk at this moment."""
    run("cp", "--sparse=always", image, target)
    return target


def after_restart(scratch: Path, boot: str) -> Sequence[str]:
    """The beginning of a command line for a process that sees another boot id: the machine it runs on was restarted."""
    fake = scratch / f"boot-{boot}"
    fake.write_text(f"{boot}\n")
    script = f'mount --bind "{fake}" {BOOT_ID} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
