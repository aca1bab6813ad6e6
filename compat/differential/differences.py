"""Where govc and git http-backend may answer differently, each with its reason. Whatever isn't here is a finding.

"Different on purpose" is for what docs/conformance.md lists as such: proper HTTP dates, the places where git fails,
and what protects from abuse. `judge` names the first that explains a pair of answers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

from compat.differential.answers import Seen
from compat.differential.world import Request


class Difference(NamedTuple):
    """One difference that is allowed: its name, the reason, and how to tell it."""

    name: str
    reason: str
    explains: Callable[[Request, Seen, Seen], bool]


def _is_answer(ours: Seen, theirs: Seen) -> bool:
    """A success on both sides, and no bytes of ours that are no packet."""
    return ours.status == theirs.status == 200 and ours.headers == theirs.headers and ours.rest in (b"", theirs.rest)


def _says_why(request: Request, ours: Seen, theirs: Seen) -> bool:
    return (
        _is_answer(ours, theirs)
        and len(ours.errors) == 1
        and not theirs.errors
        and (theirs.died or not theirs.packets)
        and ours.packets == theirs.packets
    )


_OBJECT_INFO = b"=object-info\n"


def _newer_object_info(request: Request, ours: Seen, theirs: Seen) -> bool:
    without = tuple(packet for packet in theirs.packets if packet != _OBJECT_INFO)
    is_told = request.kind == "discovery" and _OBJECT_INFO in theirs.packets and ours.packets == without
    is_asked = ours.errors == (b"=ERR invalid command 'object-info'",)
    return _is_answer(ours, theirs) and (is_told or is_asked)


def _is_gzip(request: Request) -> bool:
    body = request.body[: int(request.variables.get("CONTENT_LENGTH", len(request.body)))]
    try:
        gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return False
    return bool(body)


def _reports(request: Request, ours: Seen, theirs: Seen) -> bool:
    is_refused = any(packet.startswith(b"=unpack ") and packet != b"=unpack ok\n" for packet in ours.packets)
    is_silent = not any(packet.startswith((b"=unpack", b"=ok", b"=ng")) for packet in theirs.packets)
    has_died = theirs.died or "HTTP_CONTENT_ENCODING" in request.variables  # with gzip it dies with status 0
    return _is_answer(ours, theirs) and request.kind == "push" and is_refused and has_died and is_silent


def _tells_capabilities(request: Request, ours: Seen, theirs: Seen) -> bool:
    line = f"={'0' * 40} capabilities^{{}}\0".encode()
    without = tuple(packet for packet in ours.packets if not packet.startswith(line))
    return _is_answer(ours, theirs) and request.kind == "discovery" and without == theirs.packets


def names_twice(request: Request) -> bool:
    """Whether a push has two commands for one ref."""
    body = request.body
    if "HTTP_CONTENT_ENCODING" in request.variables and _is_gzip(request):
        body = gzip.decompress(body)
    names = re.findall(rb"[0-9a-f]{40} [0-9a-f]{40} (refs/[^\0\n]*)", body)
    return len(set(names)) < len(names)


def _twice(request: Request, ours: Seen, theirs: Seen) -> bool:
    return _is_answer(ours, theirs) and names_twice(request) and len(ours.packets) == len(theirs.packets)


def _hides(request: Request, ours: Seen, theirs: Seen) -> bool:
    return _is_answer(ours, theirs) and any(b"ambiguous deepen-not: refs/heads/topic" in error for error in ours.errors)


_UNKNOWN = tuple(f"=ACK {digit * 40} ".encode() for digit in "01f")


def _is_ready(request: Request, ours: Seen, theirs: Seen) -> bool:
    def plain(seen: Seen) -> list[bytes]:
        return [packet for packet in seen.packets if not (packet.endswith(b" ready\n") or packet.startswith(_UNKNOWN))]

    first, second = sorted((plain(ours), plain(theirs)), key=len)
    is_unknown = any(packet.startswith(_UNKNOWN) for packet in theirs.packets)
    is_deepened = is_unknown or (
        ours.packets[:1] == theirs.packets[:1] != () and ours.packets[0].startswith((b"=shallow", b"0000"))
    )
    return _is_answer(ours, theirs) and is_deepened and second[: len(first)] == first


def _acks_once(request: Request, ours: Seen, theirs: Seen) -> bool:
    return (
        _is_answer(ours, theirs) and b"a pack" in ours.packets and tuple(dict.fromkeys(theirs.packets)) == ours.packets
    )


TWICE = "one ref twice"
"""After this one the repositories differ."""

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "says why",
        "a fatal error is an ERR packet (band 3 once the side band is open) behind what git says before; git hangs up",
        _says_why,
    ),
    Difference(
        "object-info is off",
        "newer releases of git tell of object-info only when it is configured, and so do we; 2.39 always does",
        _newer_object_info,
    ),
    Difference(
        "reports a broken pack",
        "a push whose pack can't be unpacked gets its report; git http-backend dies when its receive-pack has stopped "
        "reading, and the report with it",
        _reports,
    ),
    Difference(
        "capabilities of an empty repository",
        "newer releases of git tell them in v0, too, and so do we; 2.39 sends nothing but a flush",
        _tells_capabilities,
    ),
    Difference(
        "deepen-not of a hidden ref",
        "who may not see a ref can't find out by deepen-not whether it is there",
        _hides,
    ),
    Difference(
        "ready at another have",
        "whether a fetch is ready is asked of the whole history, and of commits; git looks no further than the "
        "boundary that it has just told, and takes trees and blobs for commits that have it",
        _is_ready,
    ),
    Difference(
        "one ACK",
        "without multi_ack one have is acknowledged, once; git does it again for the same have, which no client sends",
        _acks_once,
    ),
    Difference(
        TWICE,
        "two commands for one ref are both refused, as newer releases of git do; 2.39 does one after the other",
        _twice,
    ),
)


def judge(request: Request, ours: Seen, theirs: Seen) -> str | None:
    """The name of the difference that explains two answers; "" when they agree, None when nothing does."""
    if ours == theirs:
        return ""
    return next((each.name for each in DIFFERENCES if each.explains(request, ours, theirs)), None)
