"""Where does a log lie, and whose is it? The paths below `<commondir>/govc`, and what names the repository."""

from typing import NamedTuple

from govc.protocol.oid import HashAlgorithm


class LogHome(NamedTuple):
    """Whose log it is: the object format, and the inode of the repository's folder."""

    algo: HashAlgorithm
    inode: int


class LogFolder(NamedTuple):
    """The paths of a log; `root` is `<commondir>/govc`."""

    root: str

    @property
    def segments(self) -> str:
        """Where segments lie."""
        return f"{self.root}/log"

    @property
    def locks(self) -> str:
        """Where lock files and tokens of owners lie."""
        return f"{self.root}/locks"

    @property
    def packs(self) -> str:
        """Where packs lie that records name."""
        return f"{self.root}/packs"

    @property
    def late(self) -> str:
        """Which records have hooks that are still to be told."""
        return f"{self.root}/late"

    @property
    def state(self) -> str:
        """The shared state."""
        return f"{self.root}/state"

    @property
    def checkpoint(self) -> str:
        """The checkpoint."""
        return f"{self.root}/checkpoint"
