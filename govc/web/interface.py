"""What the web layer asks of the services, as types.

The real thing is `govc.service.backend`; the tests of this room use a fake. Nothing here has behaviour.

Errors that any of these may raise carry `http_status`: the families of `govc.errors` and the peer's faults of
`govc.protocol.errors`.
"""

from collections.abc import Iterator
from typing import Protocol

from govc.cache.bodies import Chunk
from govc.service.advertise import Pieces
from govc.service.context import RequestContext
from govc.service.known import KnownListing


class BodyReader(Protocol):
    """A request body, decoded: what Content-Length, chunked and gzip leave of it."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, or b"" at the end. A body that was cut short raises `BodyError`."""


class RepositoryHandle(Protocol):
    """One repository as one request sees it."""

    def service_enabled(self, service: str, remote_user: str | None) -> bool:
        """Whether http.uploadpack, http.receivepack or http.uploadarchive allow the service to this user."""

    def getanyfile_enabled(self) -> bool:
        """Whether http.getanyfile allows the dumb routes."""

    def max_request_bytes(self) -> int:
        """The limit of http.maxRequestBuffer for a fetch request, in bytes."""

    def known_listing(self, path_info: str, context: RequestContext, body: bytes | None) -> KnownListing | None:
        """Where the answer that was just given is, so that it can be had again; None: nowhere.

        `body` is that of the request, None for the advertisement.
        """

    def known_place(self, path_info: str, context: RequestContext) -> KnownListing | None:
        """Where this repository can be had again by who asks as this one does (to fetch); None: nowhere."""

    def advertise(self, context: RequestContext) -> bytes | Pieces:
        """The whole body of a smart info/refs answer."""

    def upload_pack(self, context: RequestContext, body: bytes) -> bytes | Iterator[Chunk]:
        """Answer a fetch request; at once, when the answer is known."""

    def upload_archive(self, context: RequestContext, body: bytes) -> Iterator[bytes]:
        """Answer a request for an archive."""

    def receive_pack(self, context: RequestContext, body: BodyReader) -> Iterator[bytes]:
        """Answer a push, reading its body as it comes."""

    def dumb_info_refs(self) -> bytes:
        """The refs as `oid TAB name LF` lines, computed now."""

    def dumb_head(self) -> bytes:
        """What HEAD says, b"" when unborn and detached from nothing."""

    def dumb_info_packs(self) -> bytes:
        """The local packs as `P name LF` lines and a blank one."""

    def dumb_file(self, kind: str, relative: str) -> str | None:
        """Path on disk of a file of the repository, or None.

        `kind` is one of "loose", "pack", "idx", "alternates", "http-alternates"; `relative` is the path
        inside the repository, such as "objects/pack/pack-….idx".
        """


class Backend(Protocol):
    """The door to the repositories."""

    def open(self, path_info: str, *, context: RequestContext) -> RepositoryHandle:
        """Find the repository at `path_info` (the URL path without the route's tail, surrogateescape).

        Raises `RepositoryNotFound` when there is none or it is not exported, and other `GovcError`s for what
        is refused.
        """

    def answer_known(self, known: KnownListing) -> bytes | None:
        """The answer, when nothing has changed since; None: ask in full. Raises `AccessDenied`."""

    def stream_known(self, known: KnownListing) -> Iterator[Chunk] | None:
        """The same for a body that is kept: spans of files, none when it is gone."""

    def open_known(self, known: KnownListing, context: RequestContext) -> RepositoryHandle | None:
        """The repository for another request that differs in what it asks alone, when nothing has changed since; None:
        open it in full. Raises `AccessDenied`."""

    def start(self) -> None:
        """Begin what runs in the background."""

    def close(self) -> None:
        """End cleanly; blocks."""
