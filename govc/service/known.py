"""An answer in the memory of a snapshot, or in the cache of bodies: where it is, for which look at the repository.

Or the place only, where answers to other questions of the same caller are to be had.

All that a request is refused for by the repository's configuration was asked when the answer was given, and holds as
long as the same proof does (`repo/proof`), for which `look` stands. Permissions are asked again.
"""

from typing import Any, NamedTuple

from govc.service.context import RequestContext


class KnownListing(NamedTuple):
    """Made by `Backend.known_listing`; `Backend.answer_known` gives the answer, `Backend.stream_known` the body with
    `body_key`. Made by `Backend.known_place`, with no key, it is for `Backend.open_known`."""

    path_info: str
    context: RequestContext
    key: tuple[Any, ...]
    look: object
    body_key: bytes | None = None
