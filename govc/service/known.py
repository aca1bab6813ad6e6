"""An answer in the memory of a snapshot, or in the cache of bodies: where it is, for which look at the repository.

All that a request is refused for by the repository's configuration was asked when the answer was given, and holds as
long as the same proof does (`repo/proof`), for which `look` stands. Permissions are asked again.
"""

from typing import Any, NamedTuple

from govc.service.context import RequestContext


class KnownListing(NamedTuple):
    """Made by `Backend.known_listing`; `Backend.answer_known` gives the answer, `Backend.stream_known` the body with
    `body_key`."""

    path_info: str
    context: RequestContext
    key: tuple[Any, ...]
    look: object
    body_key: bytes | None = None
