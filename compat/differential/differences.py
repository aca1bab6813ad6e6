"""Where govc and git http-backend may answer differently, each with its kind and reason. What isn't here is a finding.

The kinds are closed: "different on purpose" is for the places where git fails, for what protects from abuse, and for
what newer releases of git answer. The oracle is the git on PATH, 2.39; the rows of the drop-in table were read from
2.55, and where the two differ we answer as 2.55 (`python -m compat.differential --newer PROGRAM` asks it each time).
`judge` names the first difference that explains a pair of answers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from compat.differential.answers import Seen
from compat.differential.world import Request


class Kind(Enum):
    """Why a difference is allowed. There are no others."""

    GIT_FAILS = "git fails here: it hangs up without a word, dies behind the headers of a success or breaks a row"
    PROTECTS = "protects from abuse"
    NEWER_GIT = "git 2.55 answers so"


class Difference(NamedTuple):
    """One difference that is allowed: its name, its kind, the reason, and how to tell it."""

    name: str
    kind: Kind
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


def _is_gzip(body: bytes) -> bool:
    try:
        gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return False
    return bool(body)


def body_of(request: Request) -> bytes:
    """The body as it was meant: as long as it says, inflated where it can be."""
    body = request.body[: int(request.variables.get("CONTENT_LENGTH", len(request.body)))]
    is_encoded = request.variables.get("HTTP_CONTENT_ENCODING") in ("gzip", "x-gzip")
    return gzip.decompress(body) if is_encoded and _is_gzip(body) else body


def _reports(request: Request, ours: Seen, theirs: Seen) -> bool:
    is_refused = any(packet.startswith(b"=unpack ") and packet != b"=unpack ok\n" for packet in ours.packets)
    is_silent = not any(packet.startswith((b"=unpack", b"=ok", b"=ng")) for packet in theirs.packets)
    has_died = theirs.died or "HTTP_CONTENT_ENCODING" in request.variables  # with gzip it dies with status 0
    return _is_answer(ours, theirs) and request.kind == "push" and is_refused and has_died and is_silent


def _cut_gzip(request: Request, ours: Seen, theirs: Seen) -> bool:
    is_encoded = request.variables.get("HTTP_CONTENT_ENCODING") in ("gzip", "x-gzip")
    body = request.body[: int(request.variables.get("CONTENT_LENGTH", len(request.body)))]
    return _is_answer(ours, theirs) and is_encoded and not _is_gzip(body) and not ours.packets and len(ours.errors) == 1


def _tells_capabilities(request: Request, ours: Seen, theirs: Seen) -> bool:
    line = f"={'0' * 40} capabilities^{{}}\0".encode()
    without = tuple(packet for packet in ours.packets if not packet.startswith(line))
    return _is_answer(ours, theirs) and request.kind == "discovery" and without == theirs.packets


_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) (refs/[^\0\n]*)")


def names_twice(request: Request) -> bool:
    """Whether a push has two commands for one ref."""
    names = [name for _, _, name in _COMMAND.findall(body_of(request))]
    return len(set(names)) < len(names)


def _twice(request: Request, ours: Seen, theirs: Seen) -> bool:
    return _is_answer(ours, theirs) and names_twice(request) and len(ours.packets) == len(theirs.packets)


def _hides(request: Request, ours: Seen, theirs: Seen) -> bool:
    return _is_answer(ours, theirs) and any(b"ambiguous deepen-not: refs/heads/topic" in error for error in ours.errors)


def _beyond_2038(request: Request, ours: Seen, theirs: Seen) -> bool:
    found = re.search(rb"deepen-since 0*([0-9]+)", body_of(request))
    return _is_answer(ours, theirs) and found is not None and len(found[1]) < 20 and int(found[1]) >= 1 << 31


def _doubled_want_ref(request: Request, ours: Seen, theirs: Seen) -> bool:
    return _is_answer(ours, theirs) and any(b"duplicate want-ref" in error for error in ours.errors)


def _acks_no_commit_again(request: Request, ours: Seen, theirs: Seen) -> bool:
    is_one = all(packet.startswith((b"=ACK ", b"=shallow ", b"0000", b"a pack")) for packet in ours.packets)
    return _is_answer(ours, theirs) and is_one and tuple(dict.fromkeys(ours.packets)) == theirs.packets


def _all_or_nothing(request: Request, ours: Seen, theirs: Seen) -> bool:
    is_atomic = b" atomic" in body_of(request)
    return _is_answer(ours, theirs) and is_atomic and any(b"atomic push failure" in packet for packet in ours.packets)


TWICE = "one ref twice"
"""After this one the repositories differ."""

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "says why",
        Kind.GIT_FAILS,
        "a fatal error is an ERR packet (band 3 once the side band is open) behind what git says before; git hangs up",
        _says_why,
    ),
    Difference(
        "reports a broken pack",
        Kind.GIT_FAILS,
        "a push whose pack can't be unpacked gets its report (RP-26, RP-27); git http-backend dies when its "
        "receive-pack has stopped reading, and mostly the report with it",
        _reports,
    ),
    Difference(
        "a body that isn't whole gzip",
        Kind.GIT_FAILS,
        "it is refused before anything is made of it; git hands on what it could inflate, dies, and prints a second "
        "set of headers into the answer",
        _cut_gzip,
    ),
    Difference(
        "object-info is off",
        Kind.NEWER_GIT,
        "object-info is told of only when it is configured (V2-47, V2-48); 2.39 always does",
        _newer_object_info,
    ),
    Difference(
        "capabilities of an empty repository",
        Kind.NEWER_GIT,
        "they are told in v0, too (U0-06); 2.39 sends nothing but a flush",
        _tells_capabilities,
    ),
    Difference(
        "deepen-since beyond 2038",
        Kind.NEWER_GIT,
        "it is taken as it is said; 2.39 keeps the lower 32 bits",
        _beyond_2038,
    ),
    Difference(
        "a want-ref twice",
        Kind.NEWER_GIT,
        "it is refused (V2-39); 2.39 tells it twice",
        _doubled_want_ref,
    ),
    Difference(
        "what is no commit, had twice",
        Kind.NEWER_GIT,
        "without multi_ack it is acknowledged again, as a commit is; 2.39 counts it as two",
        _acks_no_commit_again,
    ),
    Difference(
        TWICE,
        Kind.NEWER_GIT,
        "two commands that would change one ref are refused with all of their transaction (RP-61); 2.39 does one after "
        "the other",
        _twice,
    ),
    Difference(
        "atomic, and refused early",
        Kind.GIT_FAILS,
        "any failure refuses the whole push (RP-60); git carries out the rest of an atomic push of which some part was "
        "hidden, lacked objects or was aliased",
        _all_or_nothing,
    ),
    Difference(
        "deepen-not of a hidden ref",
        Kind.PROTECTS,
        "who may not see a ref can't find out by deepen-not whether it is there, and what its history is",
        _hides,
    ),
)


def judge(request: Request, ours: Seen, theirs: Seen) -> str | None:
    """The name of the difference that explains two answers; "" when they agree, None when nothing does."""
    if ours == theirs:
        return ""
    return next((each.name for each in DIFFERENCES if each.explains(request, ours, theirs)), None)


def is_of_newer_git(name: str) -> bool:
    """Whether a difference claims that newer releases of git answer as we do."""
    return any(each.name == name and each.kind is Kind.NEWER_GIT for each in DIFFERENCES)
