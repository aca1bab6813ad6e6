"""The repository's own `shallow` file: commits at which its history ends.

Written under git's lock, whole or not at all, sorted by oid.

Source: gitrepository-layout "shallow", git's shallow.c (setup_alternate_shallow); rows FS-50, RP-53.
"""

from govc.refs.lock import FileModes, LockOwner, Sleep, acquire_lock
from govc.repo.layout import RepositoryLayout

LOCK_TIMEOUT_MS = 1000


def add_shallow(
    layout: RepositoryLayout, oids: frozenset[bytes], sleep: Sleep, modes: FileModes, *, owner: LockOwner
) -> None:
    """Add commits to the file. `owner` makes the lock recognisable after a crash. Raises LockFailed, OSError."""
    path = f"{layout.commondir}/shallow"
    lock = acquire_lock(path, "shallow", timeout_ms=LOCK_TIMEOUT_MS, sleep=sleep, modes=modes, owner=owner)
    try:
        try:
            with open(path, "rb") as file:
                known = {line.strip() for line in file}
        except FileNotFoundError:
            known = set()
        known.update(oid.hex().encode("ascii") for oid in oids)
        lock.write(b"".join(line + b"\n" for line in sorted(known - {b""})), modes, fsync=True)
        lock.commit()
    except BaseException:
        lock.release()
        raise
