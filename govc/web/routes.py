"""Which thing of which repository does a URL name?

Routes are matched at the END of the path; whatever stands before is the repository, so that folders of
repositories nest freely. The table is git-http-backend's and is complete: no other file of a repository can
be reached.

    GET   …/info/refs   …/HEAD   …/objects/info/packs
    GET   …/objects/info/alternates   …/objects/info/http-alternates
    GET   …/objects/xx/(38 or 62 digits)   …/objects/pack/pack-(40 or 64 digits).pack or .idx  (lower case)
    POST  …/git-upload-pack   …/git-receive-pack   …/git-upload-archive

Dispatch is by hand: it is on the path of every request, and a table of ten rows needs no framework.

Source: git-http-backend "TRANSLATION" and "SERVICES".
"""

import re
from enum import Enum
from typing import NamedTuple


class RouteKind(Enum):
    """What a route serves; the value is the name in metrics and logs."""

    INFO_REFS = "info-refs"
    RPC = "rpc"
    HEAD = "head"
    INFO_PACKS = "info-packs"
    ALTERNATES = "alternates"
    HTTP_ALTERNATES = "http-alternates"
    LOOSE = "loose"
    PACK = "pack"
    IDX = "idx"


class Route(NamedTuple):
    """A matched path: `repository` is what stands before the tail, `tail` the rest without its slash."""

    kind: RouteKind
    repository: bytes
    tail: bytes
    method: str


_FIXED_TAILS: tuple[tuple[bytes, RouteKind, str], ...] = (
    (b"/info/refs", RouteKind.INFO_REFS, "GET"),
    (b"/git-upload-pack", RouteKind.RPC, "POST"),
    (b"/git-receive-pack", RouteKind.RPC, "POST"),
    (b"/git-upload-archive", RouteKind.RPC, "POST"),
    (b"/HEAD", RouteKind.HEAD, "GET"),
    (b"/objects/info/packs", RouteKind.INFO_PACKS, "GET"),
    (b"/objects/info/alternates", RouteKind.ALTERNATES, "GET"),
    (b"/objects/info/http-alternates", RouteKind.HTTP_ALTERNATES, "GET"),
)

_OBJECT_TAIL = re.compile(
    rb"/objects/(?:(?P<LOOSE>[0-9a-f]{2}/(?:[0-9a-f]{62}|[0-9a-f]{38}))"
    rb"|pack/pack-(?:[0-9a-f]{64}|[0-9a-f]{40})\.(?:(?P<PACK>pack)|(?P<IDX>idx)))\Z"
)
_OBJECT_TAIL_BYTES_MAX = len(b"/objects/pack/pack-.pack") + 64


def find_route(path: bytes) -> Route | None:
    """Return the route at the end of `path`, or None when there is none (404)."""
    for tail, kind, method in _FIXED_TAILS:
        if path.endswith(tail):
            return Route(kind, path[: -len(tail)], tail[1:], method)
    # The tail is short, the path may be long: looking at its end only keeps a hostile path cheap.
    start = max(0, len(path) - _OBJECT_TAIL_BYTES_MAX)
    match = _OBJECT_TAIL.search(path, start)
    if match is None or match.lastgroup is None:
        return None
    return Route(RouteKind[match.lastgroup], path[: match.start()], path[match.start() + 1 :], "GET")
