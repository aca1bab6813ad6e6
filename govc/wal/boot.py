"""Has this machine been restarted since? The kernel's boot id tells: what a killed process left in the page cache is
true as long as it is the same, and nothing that wasn't synced is certain once it is another.

Source: random(4), /proc/sys/kernel/random/boot_id.
"""

import uuid

_PATH = "/proc/sys/kernel/random/boot_id"
_fallback = uuid.uuid4().bytes


def boot_id() -> bytes:
    """Return 16 bytes that are the same until the machine restarts.

    Where the kernel tells none, they are this process's own: then each start is taken for one after a power cut, which
    costs time and is never wrong.
    """
    try:
        with open(_PATH, "rb") as file:
            return uuid.UUID(file.read(64).decode("ascii").strip()).bytes
    except (OSError, ValueError):
        return _fallback
