"""The links of a commit: its tree, its parents, and the time the graph is sorted by.

    tree <hex> LF (parent <hex> LF)* author ... LF committer ... > SP <seconds> SP <zone> LF ...

Only this much is read, and it is never written: every other header (encoding, gpgsig, mergetag) and the
message stay raw bytes. As in git, a missing or unreadable author or committer line is no error, it gives
time 0; a missing tree or a damaged parent line is one.

Source: git's commit.c parse_commit_buffer and parse_commit_date.
"""

import re
from binascii import unhexlify
from typing import NamedTuple

from govc.objects.errors import MalformedObject
from govc.protocol.oid import HashAlgorithm

_TIME_MAX_SECONDS = (1 << 63) - 1
_TIME_DIGITS_MAX = 20


class CommitLinks(NamedTuple):
    """What a walk needs of a commit. `time` is the committer's, in seconds since 1970, 0 when unreadable."""

    tree: bytes
    parents: tuple[bytes, ...]
    time: int


def _compile(hex_size: int) -> re.Pattern[bytes]:
    return re.compile(
        rb"tree ([0-9a-fA-F]{%d})\n" % hex_size
        + rb"((?:parent [0-9a-fA-F]{%d}\n)*)" % hex_size
        + rb"(?:author [^\n]*+\ncommitter ([^\n]*+))?"
    )


_HEADERS = {hex_size: _compile(hex_size) for hex_size in (40, 64)}


def _parse_time(committer: bytes) -> int:
    """Return the seconds after the last `>` of a committer line, 0 when there is no such number."""
    fields = committer[committer.rfind(b">") + 1 :].split(None, 1)
    if not fields or b">" not in committer:
        return 0
    digits = fields[0]
    if not digits.isdigit() or len(digits) > _TIME_DIGITS_MAX:
        return 0
    seconds = int(digits)
    return seconds if seconds <= _TIME_MAX_SECONDS else 0


def parse_commit_links(data: bytes, algo: HashAlgorithm) -> CommitLinks:
    """Return the tree, the parents in order, and the committer time. Raises MalformedObject."""
    match = _HEADERS[algo.hex_size].match(data)
    if match is None:
        raise MalformedObject("commit", "no tree line at its beginning")
    tree, parent_lines, committer = match.groups()
    if data.startswith(b"parent ", match.end(2)):
        raise MalformedObject("commit", "a bad parent line")
    time = _parse_time(committer) if committer else 0
    line_size = 8 + algo.hex_size
    if len(parent_lines) == line_size:
        return CommitLinks(unhexlify(tree), (unhexlify(parent_lines[7:-1]),), time)
    starts = range(7, len(parent_lines), line_size)
    parents = tuple([unhexlify(parent_lines[at : at + algo.hex_size]) for at in starts])
    return CommitLinks(unhexlify(tree), parents, time)
