"""What commits and tags say: headers by name, who and when, and the message.

    header    name SP value LF, continued by lines that begin with a blank; the first empty line ends them
    identity  NAME SP < EMAIL > SP SECONDS SP ZONE      as in `author`, `committer`, `tagger`

Nothing is refused: what git shows of a damaged object is a question of taste, so an identity without a time has time 0,
and a line without a blank is a header without a value. Bytes stay bytes; `encoding` says how they are meant (UTF-8 when
it is absent). What the graph needs of a commit is read elsewhere, strictly: `objects.commit`.

Source: git's commit.c (read_commit_extra_header_lines), ident.c (split_ident_line).
"""

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

_IDENTITY = re.compile(rb"([^<\n]*)<([^>\n]*)>(?: *(-?\d{1,18})(?: +([-+]\d{4}))?)?")
_SECONDS_MAX = 253_402_300_799
"""The end of the year 9999, which is as far as datetime goes."""


class Identity(NamedTuple):
    """Who, and when: `time` in seconds since 1970, `offset` in minutes east of Greenwich."""

    name: bytes
    email: bytes
    time: int
    offset: int

    @property
    def when(self) -> datetime:
        """The time in its own zone; beyond the years that Python knows, the nearest one."""
        zone = timezone(timedelta(minutes=max(-1439, min(self.offset, 1439))))
        return datetime.fromtimestamp(max(0, min(self.time, _SECONDS_MAX - 86400)), zone)


class ObjectText(NamedTuple):
    """A commit or a tag, cut up: headers in their order (a name may occur more than once), and the message."""

    headers: tuple[tuple[bytes, bytes], ...]
    message: bytes

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first header of that name."""
        return next((value for found, value in self.headers if found == name), None)

    def get_all(self, name: bytes) -> tuple[bytes, ...]:
        """Return the values of all headers of that name."""
        return tuple(value for found, value in self.headers if found == name)


def parse_text(data: bytes) -> ObjectText:
    """Cut up the content of a commit or a tag. Linear, and never raises."""
    head, _, message = data.partition(b"\n\n")
    if data.startswith(b"\n"):
        head, message = b"", data[1:]
    headers: list[tuple[bytes, bytes]] = []
    pieces: list[bytes] = []
    name = b""

    def end() -> None:
        if pieces:
            headers.append((name, b"\n".join(pieces)))

    for line in head.rstrip(b"\n").split(b"\n") if head else ():
        if line.startswith(b" ") and pieces:
            pieces.append(line[1:])
            continue
        end()
        name, _, value = line.partition(b" ")
        pieces = [value]
    end()
    return ObjectText(tuple(headers), message)


def parse_identity(value: bytes) -> Identity:
    """Return who a header names, and when; what can't be read is empty or 0."""
    match = _IDENTITY.match(value)
    if match is None:
        return Identity(value.strip(), b"", 0, 0)
    name, email, seconds, zone = match.groups()
    offset = 0
    if zone is not None:
        digits = int(zone[1:])
        offset = (digits // 100 * 60 + digits % 100) * (-1 if zone.startswith(b"-") else 1)
    return Identity(name.strip(), email, int(seconds or 0), offset)
