"""The families of errors below the wire.

Each class carries its facts, the HTTP status that answers it (`http_status`), and `public_text`, which is safe to
show to a peer: no path of the server is in it. `str(error)` is for the log and may name paths.
"""


class GovcError(Exception):
    """The root. 500 unless a family says otherwise."""

    http_status = 500
    limit_name = ""
    """The limit that was exceeded, if that is what happened."""
    retry_after_seconds: float = 0
    """After which the same request may well succeed; 0 when nothing is known of that."""

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "internal server error"


NO_REPOSITORY = "not a repository"


class RepositoryNotFound(GovcError):
    """No repository at that path, or one that is not exported. Answered 404."""

    http_status = 404

    def __init__(self, path: str, reason: str = NO_REPOSITORY) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "repository not found"


class RepositoryRefused(GovcError):
    """The repository is there and we won't serve it: its format, owner or configuration. Answered 500."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class BadConfig(GovcError):
    """A configuration file that git would die on."""

    def __init__(self, source: str, line: int, reason: str) -> None:
        super().__init__(f"bad config line {line} in {source}: {reason}")
        self.source = source
        self.line = line
        self.reason = reason


class ObjectMissing(GovcError):
    """An object that had to be there is not."""

    def __init__(self, oid: bytes, kind: str = "object") -> None:
        super().__init__(f"missing {kind} {oid.hex()}")
        self.oid = oid
        self.kind = kind

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return str(self)


class Corrupt(GovcError):
    """Bytes that don't follow their format. The text names no path and may be shown."""

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return str(self)


class CorruptObject(Corrupt):
    """An object whose content doesn't parse or doesn't match its name."""

    def __init__(self, oid: bytes, reason: str) -> None:
        super().__init__(f"corrupt object {oid.hex()}: {reason}")
        self.oid = oid
        self.reason = reason


class CorruptPack(Corrupt):
    """A pack or its index; `offset` in bytes from the start of the file."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason if offset is None else f"{reason} (at offset {offset})")
        self.reason = reason
        self.offset = offset


class CorruptDelta(Corrupt):
    """A delta that lies about its sizes or copies from outside its base."""


class CorruptRefs(Corrupt):
    """packed-refs or a loose ref that git would die on."""


class LimitExceeded(GovcError):
    """More than a named limit allows."""

    http_status = 413

    def __init__(self, limit_name: str, limit: int, actual: int | None = None) -> None:
        super().__init__(f"{limit_name}: more than {limit}" + (f" ({actual})" if actual is not None else ""))
        self.limit_name = limit_name
        self.limit = limit
        self.actual = actual

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return f"limit exceeded: {self}"


class Refused(GovcError):
    """Not now: a rate (429) or the server's fill (503) forbids it. `limit` is the name of the setting."""

    def __init__(self, limit: str, text: str, *, http_status: int, retry_after_seconds: float) -> None:
        super().__init__(f"{limit}: {text}")
        self.limit = limit
        self.text = text
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return self.text


class ClientGone(GovcError):
    """The client hung up while it waited: nobody reads the answer (499, as nginx counts it)."""

    http_status = 499

    def __init__(self) -> None:
        super().__init__("client went away")


class RefUpdateRefused(GovcError):
    """One ref update that can't be made; `reason` becomes the `ng` line, `detail` the band 2 line."""

    def __init__(self, refname: bytes, reason: str, detail: str = "") -> None:
        super().__init__(f"{refname!r}: {detail or reason}")
        self.refname = refname
        self.reason = reason
        self.detail = detail
