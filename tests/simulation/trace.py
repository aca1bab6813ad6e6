"""What a simulated process did to the disk, as values: one `Call` for each change, in the order in which they happened.

`kind` and the fields that it uses (paths are relative to the watched folder, files are known by inode):

    create   path inode mode          a new file got a name by open(2)
    write    inode offset data        data reached the page cache
    truncate inode size
    sync     inode ok                 fsync; not ok: it failed, and the pages count as clean from now on
    syncdata inode ok                 fdatasync, the same
    syncdir  path ok                  fsync of a folder
    syncfs   ok
    link     path target inode        target is the new name
    rename   path target inode
    unlink   path inode
    mkdir    path inode mode
    rmdir    path inode
    chmod    path inode mode
    content  inode data               written behind the seam's back: by mmap, by git, by a rename-free writer
    note     what                     what the process told the test, e.g. that a push was acknowledged
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One change; `process` is the number of the simulated process, -1 for what happened outside the seam.

    `time_ns` is the file's mtime after a create, write, truncate or content.
    """

    kind: str
    process: int = -1
    path: str = ""
    target: str = ""
    inode: int = 0
    offset: int = 0
    size: int = 0
    mode: int = 0
    data: bytes = b""
    ok: bool = True
    time_ns: int = 0
    what: Any = None

    @property
    def is_seam_call(self) -> bool:
        """Whether a process made this call through the seam: the points at which it can be stopped."""
        return self.process >= 0 and self.kind != "note"

    @property
    def is_acknowledgement(self) -> bool:
        """Whether a client was told here that its push is kept."""
        return self.kind == "note" and self.what[0] == "acknowledged"

    def __str__(self) -> str:
        """One short line for a failing test."""
        words = [self.kind, self.path, self.target]
        if self.kind in ("write", "content"):
            words.append(f"inode {self.inode} at {self.offset}, {len(self.data)} bytes {self.data[:16]!r}")
        elif self.kind in ("sync", "syncdata", "truncate"):
            words.append(f"inode {self.inode}" + ("" if self.ok else " FAILED"))
        elif self.kind == "note":
            words.append(repr(self.what))
        return f"[{self.process}] " + " ".join(word for word in words if word)
