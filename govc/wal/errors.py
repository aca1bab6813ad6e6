"""What can go wrong with a log. `public_text` is what a pusher may read."""

from govc.errors import GovcError

IN_DOUBT = "whether this push counts is not known until it can be"
"""What a pusher reads who was neither acknowledged nor refused for good."""


class LogError(GovcError):
    """The log can't take or give what was asked. The push is refused; what was acknowledged before stays."""

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "the server's log can not be written"


class LogFailed(LogError):
    """The disk failed: `cause` is the kernel's error. Nothing of what was appended counts."""

    def __init__(self, what: str, cause: OSError) -> None:
        super().__init__(f"{what}: {cause.strerror or cause}")
        self.cause = cause

    @property
    def public_text(self) -> str:
        """The kernel's words, without a path."""
        return f"the server's log can not be written: {self.cause.strerror or 'input/output error'}"


class LogInDoubt(LogFailed):
    """The disk failed, and failed again when what was appended had to be taken back.

    It may count after a crash that comes before the log can be written again; never after that. `sequence` is that of
    a record that stands in the log meanwhile, None when what was appended lies beyond the log's end.
    """

    def __init__(self, what: str, cause: OSError, sequence: int | None = None) -> None:
        super().__init__(what, cause)
        self.sequence = sequence

    @property
    def public_text(self) -> str:
        """What a peer may read; `IN_DOUBT` is in it."""
        return f"{super().public_text}; {IN_DOUBT}"


class LogFull(LogError):
    """The log has reached its cap and no checkpoint could make room."""

    def __init__(self, folder: str, size: int, limit: int) -> None:
        super().__init__(f"{folder}: the log holds {size} bytes, more than {limit}, and no checkpoint made room")
        self.size = size
        self.limit = limit

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "the server's log is full"


class LogBlocked(LogError):
    """What a dead process has left can't be finished now: another program holds a lock that is needed. 503."""

    http_status = 503
    retry_after_seconds = 1

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder}: not recovered: {reason}")
        self.reason = reason

    @property
    def public_text(self) -> str:
        """The lock, by its path within the repository."""
        return f"the server has to finish what an earlier push began: {self.reason}"


class LogDamaged(LogError):
    """Bytes of the log are wrong where they must be right: before its tail, in a header, in a checkpoint."""

    def __init__(self, path: str, offset: int, reason: str, *, safe_up_to: int = 0) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {reason}; records up to {safe_up_to} are whole. Nothing was changed. "
            "Look with `govc log verify`, restore the file from a copy, or accept the loss with `govc recover --cut`"
        )
        self.path = path
        self.offset = offset
        self.reason = reason
        self.safe_up_to = safe_up_to

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "the server's log of this repository is damaged; its administrator has to look at it"


class LogForeign(LogError):
    """The log belongs to another folder (a copy, a backup that was restored) or to a newer govc."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.reason = reason

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "the server's log of this repository can not be used; its administrator has to look at it"


def check_home(found_inode: int, inode: int, folder: str) -> None:
    """Raise LogForeign when the log was made for another folder."""
    if found_inode != inode:
        raise LogForeign(
            folder,
            "this log belongs to another folder: the repository was copied or restored. What it holds was not "
            "replayed. `govc recover --adopt` replays it here, `govc recover --discard` begins a new log from the refs "
            "as they are",
        )
