"""A picture that stands until the kernel announces a change: proved by one system call instead of a stat for each file.

A picture that was proved by stat again and again is worth watching (`kernels.notices`): the folders and files of the
repository that it was read from, and all folders above them, which might be renamed. First all is watched, then it is
proved by stat once more, and from then on silence proves it. At the first announcement it falls: the next question is
proved by stat again, and after a while that is calm another one may stand.

What stat proves is what this has to prove:

- **A change counts from the moment that a reader could meet it**, and that is a little earlier than its announcement.
  So it stands only while no lock file of git's lies beside what it watches, and falls when one appears. Whoever
  changes refs as git does has made his lock before, and what he does between lock and announcement is looked at by
  stat. Who changes files by hand, with no lock, is seen once his system call has returned.
- **Only where the kernel sees every change**: file systems of this machine (`FILE_SYSTEMS`), no link on the way.
- **What lies outside of the repository** (configuration of the user and the system, alternates) is asked by stat every
  time: `others`.
- A loose ref's file is watched itself, for it may have another name elsewhere.

No descriptors, no watches left, more places than PLACES_MAX, a linked worktree, no compiled kernel: then stat goes on
proving, and nobody is told.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator

from govc.kernels.notices import FILE, FOLDER, ITSELF, Notice
from govc.kernels.stamps import Stamps
from govc.watch import EXACT_FILE_SYSTEMS, WatchedFile, file_system_of

__all__ = ["Patience", "Place", "Standing", "places_of", "stand"]

FILE_SYSTEMS = EXACT_FILE_SYSTEMS
"""Local ones whose every change goes through this kernel, and whose folders are one folder each (overlay's are not)."""

PLACES_MAX = 512
"""About a kilobyte of the kernel's memory each."""

QUESTIONS_MIN = 256
"""Setting up costs as much as forty proofs by stat (half a millisecond)."""

QUESTIONS_MAX = 4096
CALM_SECONDS = 1.0
"""What falls sooner than that isn't worth as much trouble the next time."""

LOCK = b".lock"

Place = tuple[str, int, frozenset[bytes] | None]
"""Path, kind and names, as `Notice.watch` takes them."""


class Standing:
    """Proof that what some files said is so still. `others`: what stat has to be asked about as well."""

    __slots__ = ("is_quiet", "notice", "others")

    def __init__(self, notice: Notice, others: Stamps) -> None:
        self.notice = notice
        self.is_quiet = notice.is_quiet
        self.others = others

    def holds(self) -> bool:
        """Tell whether all of it is what it was."""
        return self.is_quiet() and self.others.are_current()


class Patience:
    """When setting up is worth its price: after so many proofs by stat, more where it falls soon or fails."""

    __slots__ = ("_began", "_left", "_wanted")

    def __init__(self) -> None:
        self._wanted = self._left = QUESTIONS_MIN
        self._began = 0.0

    def is_over(self) -> bool:
        """Count a proof by stat; tell whether it is time."""
        self._left -= 1
        return self._left <= 0

    def begin(self) -> None:
        """It stands."""
        self._began = time.monotonic()

    def end(self) -> None:
        """It fell, or couldn't be made to stand."""
        is_soon = time.monotonic() - self._began < CALM_SECONDS
        self._left = self._wanted = min(2 * self._wanted, QUESTIONS_MAX) if is_soon else QUESTIONS_MIN


def stand(gitdir: str, watched: Iterable[WatchedFile], stamps: Stamps) -> Standing | None:
    """Watch, then prove by stat; None where that can't be, or isn't so. `watched`, `stamps`: of the same picture."""
    files = tuple(watched)
    places = places_of(gitdir, files)
    if places is None:
        return None
    notice = Notice()
    if (
        all(notice.watch(path, kind, names) for path, kind, names in places)
        # What was missing on the way to an absent file may have come before its folder was watched.
        and places_of(gitdir, files) == places
        and not _is_locked(places)
        and stamps.are_current()
        and notice.is_quiet()
    ):
        return Standing(notice, _stamps_outside(gitdir, files))
    notice.close()
    return None


def places_of(gitdir: str, watched: Iterable[WatchedFile]) -> list[Place] | None:
    """Return what to watch within the repository and above it; None where nothing is proved by watching.

    A folder's names are watched where the folder was read, or a file in it; of a file that is absent, its name in the
    folder where it would be, or in the lowest that is there.
    """
    below = gitdir + "/"
    folders: dict[str, set[bytes] | None] = {}
    files: list[str] = []

    def name_in(path: str) -> None:
        folder, _, name = path.rpartition("/")
        names = folders.setdefault(folder, set())
        if names is not None:
            names.update((os.fsencode(name), os.fsencode(name) + LOCK))

    for file in watched:
        at = file.path
        if not at.startswith(below):
            continue
        if file.signature is None:
            if os.path.lexists(at):
                return None  # a link to nowhere, and what happens there isn't told here; or it is out of reach
            while not os.path.lexists(os.path.dirname(at)) and os.path.dirname(at).startswith(below):
                at = os.path.dirname(at)
            name_in(at)
        elif os.path.isdir(at):
            folders[at] = None
        else:
            name_in(at)
            files.append(at)
    above = {parent for folder in folders for parent in _parents(folder)} - folders.keys()
    if len(files) + len(folders) + len(above) > PLACES_MAX:
        return None
    devices = {_device_of(path, stat.S_IFDIR) for path in (*folders, *above)}
    devices |= {_device_of(path, stat.S_IFREG) for path in files}
    if not all(device is not None and _announces(device) for device in devices):
        return None
    places: list[Place] = [(path, ITSELF, None) for path in sorted(above)]
    places += [(path, FOLDER, None if names is None else frozenset(names)) for path, names in folders.items()]
    places += [(path, FILE, None) for path in files]
    return places


def _stamps_outside(gitdir: str, watched: Iterable[WatchedFile]) -> Stamps:
    outside = [file for file in watched if not file.path.startswith(gitdir + "/")]
    present = [(file.path, file.signature) for file in outside if file.signature is not None]
    return Stamps(present, [file.path for file in outside if file.signature is None])


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _device_of(path: str, kind: int) -> int | None:
    """Return the device of what is what it is called; None for a link, or nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev if stat.S_IFMT(found.st_mode) == kind else None


def _announces(device: int) -> bool:
    """Say whether the kernel sees every change of a file system. Not remembered: numbers are given again."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file_system_of(device, file) in FILE_SYSTEMS
    except OSError:
        return False


def _is_locked(places: Iterable[Place]) -> bool:
    """Tell whether git, or one of ours, is about to change something there."""
    for path, kind, names in places:
        if kind != FOLDER:
            continue
        try:
            found = [name for name in os.listdir(os.fsencode(path)) if name.endswith(LOCK)]
        except OSError:
            return True
        if any(names is None or name in names for name in found):
            return True
    return False
