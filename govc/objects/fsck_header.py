"""What the checks of commits and tags share: that the header ends, and what an identity line must be.

    identity = name SP "<" email ">" SP seconds SP ("+" | "-") 4DIGIT LF

Each check reports at most one thing about a line, the first that is wrong; a caller goes on only when that was no
error.

Source: git's fsck.c verify_headers and fsck_ident.
"""

import re

from govc.objects.fsck_messages import FsckMessage, Report

_HEADER_END = re.compile(rb"\0|\n\n")
_DATE = re.compile(rb"[ \t]*+([0-9]*+)")
_ZONE = re.compile(rb"[+-][0-9]{4}\Z")
_BRACKET = re.compile(rb"[<>]")
_TIME_SECONDS_MAX = (1 << 63) - 1
_DATE_DIGITS_MAX = 23

_IDENTITY = b"invalid author/committer line - "


def check_header_ends(content: bytes, report: Report) -> bool:
    """Report a NUL before the empty line, or a header without its last LF; return whether that is an error."""
    end = _HEADER_END.search(content)
    if end is not None:
        if end[0] == b"\n\n":
            return False
        return report(FsckMessage.NUL_IN_HEADER, b"unterminated header: NUL at offset %d" % end.start())
    if content.endswith(b"\n"):
        return False
    return report(FsckMessage.UNTERMINATED_HEADER, b"unterminated header")


def get_line(content: bytes, position: int) -> tuple[bytes, int]:
    """Return the line that begins there, without its LF, and the position after it."""
    end = content.find(b"\n", position)
    if end < 0:
        return content[position:], len(content)
    return content[position:end], end + 1


def check_identity(line: bytes, report: Report) -> bool:
    """Report the first thing wrong with an author, committer or tagger (what stands after that word).

    Returns whether it is an error.
    """
    found = _find_wrong_identity(line)
    if found is None:
        return False
    message, text = found
    return report(message, _IDENTITY + text)


def _find_wrong_identity(line: bytes) -> tuple[FsckMessage, bytes] | None:
    bracket = _BRACKET.search(line)
    if bracket is None:
        return FsckMessage.MISSING_EMAIL, b"missing email"
    at = bracket.start()
    if line[at] == 0x3E:
        return FsckMessage.BAD_NAME, b"bad name"
    if at == 0:
        return FsckMessage.MISSING_NAME_BEFORE_EMAIL, b"missing space before email"
    if line[at - 1] != 0x20:
        return FsckMessage.MISSING_SPACE_BEFORE_EMAIL, b"missing space before email"
    bracket = _BRACKET.search(line, at + 1)
    if bracket is None or bracket[0] == b"<":
        return FsckMessage.BAD_EMAIL, b"bad email"
    if not line.startswith(b" ", bracket.end()):
        return FsckMessage.MISSING_SPACE_BEFORE_DATE, b"missing space before date"
    return _find_wrong_date(line, bracket.end() + 1)


def _find_wrong_date(line: bytes, position: int) -> tuple[FsckMessage, bytes] | None:
    date = _DATE.match(line, position)
    digits = b"" if date is None else date[1]
    if date is None or not digits:
        return FsckMessage.BAD_DATE, b"bad date"
    start, end = date.span(1)
    if digits.startswith(b"0") and not line.startswith(b" ", start + 1):
        return FsckMessage.ZERO_PADDED_DATE, b"zero-padded date"
    if len(digits) > _DATE_DIGITS_MAX or int(digits) > _TIME_SECONDS_MAX:
        return FsckMessage.BAD_DATE_OVERFLOW, b"date causes integer overflow"
    return _find_wrong_zone(line, end)


def _find_wrong_zone(line: bytes, position: int) -> tuple[FsckMessage, bytes] | None:
    if not line.startswith(b" ", position):
        return FsckMessage.BAD_DATE, b"bad date"
    if _ZONE.match(line, position + 1) is None:
        return FsckMessage.BAD_TIMEZONE, b"bad time zone"
    return None
