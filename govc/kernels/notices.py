"""Has the kernel announced a change of what is watched? One system call, whatever is watched (inotify, mountinfo).

A `Notice` watches places of the file system for one purpose. `is_quiet()` is true until something happened to one of
them that it watches for, and false for ever after: what was known has to be looked up again, and a new Notice made.
Events are queued before the system call that caused them returns, so who asks after that is told. Not before: a reader
elsewhere may meet a change that is being made a moment earlier. Watch for what precedes a change (git's lock files)
where that matters.

    notice = Notice()
    notice.watch(folder, FOLDER)            all that happens to the folder and to what is directly in it
    notice.watch(folder, FOLDER, names)     the same, of these names in it only
    notice.watch(file, FILE)                its content, its attributes, its names
    notice.watch(above, ITSELF)             a folder's own name and attributes, not what is in it
    ... look at all of them ...
    notice.is_quiet()                       they are what they were when that look began

Watch first, look afterwards. `watch` returns False where nothing can be promised: no inotify (or no compiler), no
descriptors or watches left, nothing at the path. A Notice that failed to watch is never quiet.

Anything that is mounted or unmounted where this process lives ends all of them, as do events that were lost because
the queue was full, and a fork, in the child: the descriptors are shared with it, the knowledge isn't. Not noticed: what
is written through a shared mapping of memory; another computer's writing (ask for local file systems only); that this
process was given another root.

One inotify instance serves the whole process (a user has 128), kept in one epoll set together with the list of mounts:
three descriptors from the first Notice on, which stay, for closing an instance takes the kernel some ten milliseconds.
A Notice that is closed gives its watches back; at most WATCHES_MAX places are watched. The GIL is the lock: nothing
here lets go of it between reading an event and marking whom it concerns.

Source: inotify(7), epoll_wait(2), proc_pid_mountinfo(5).
"""

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from govc.kernels.choice import choose

__all__ = ["FILE", "FOLDER", "ITSELF", "Notice", "watch_count"]

FOLDER, FILE, ITSELF = 0, 1, 2

if TYPE_CHECKING:

    class Notice:
        """Some places that are watched. Closed by `close()`, or when it is forgotten."""

        def watch(self, path: str, kind: int, names: Collection[bytes] | None = None) -> bool:
            """Watch a place, too; links are not followed. False: it can't be done."""

        def is_quiet(self) -> bool:
            """Tell whether nothing has happened to any of the places since each was watched."""

        def close(self) -> None:
            """Watch no more; never quiet again."""

    def watch_count() -> int:
        """Return how many places are watched in this process."""

else:
    _module = choose("notices")
    Notice, watch_count = _module.Notice, _module.watch_count
    os.register_at_fork(after_in_child=_module.forget_in_child)
