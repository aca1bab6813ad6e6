"""Padding in formats: `%<(N)`, `%>(N)`, `%>>(N)` and `%><(N)` make what follows at least N columns wide.

    %<  blanks on the right      %>  on the left      %><  on both sides
    %>>  on the left, and blanks that stand before are taken away where the text needs more than N
    %<|(N) and so on             up to column N of the line
    (N,trunc) (N,ltrunc) (N,mtrunc)     what is wider loses its end, its beginning or its middle to `..`

Source: git-log "PRETTY FORMATS", "%<( <N> [,trunc|ltrunc|mtrunc])".
"""

import re
import unicodedata
from typing import NamedTuple

WIDTH_MAX = 16 << 10
"""git's limit, beyond which a padding is no placeholder."""

TERMINAL_COLUMNS = 80
"""What columns counted from the right are taken from where there is no terminal."""

_PADDING = re.compile(rb"(<|>>|><|>)(\|?)\(\s*([+-]?\d{1,9})[^,)]*(?:,(trunc|ltrunc|mtrunc))?\)")


class Padding(NamedTuple):
    """How the next value is padded. `columns` is its width, or with `to_column` where it ends."""

    flush: bytes
    to_column: bool
    columns: int
    cut: bytes | None


def parse_padding(text: bytes) -> tuple[int, Padding] | None:
    """Return (bytes used, padding) of what follows a percent sign, or None."""
    match = _PADDING.match(text)
    if match is None:
        return None
    columns, to_column = int(match[3]), bool(match[2])
    if columns < 0 and to_column:
        columns += TERMINAL_COLUMNS
    if not 0 < columns <= WIDTH_MAX:
        return None
    return match.end(), Padding(match[1], to_column, columns, match[4])


def pad(out: bytearray, value: bytes, padding: Padding) -> None:
    """Append a value to what is there already, padded."""
    width = columns_of(value)
    wanted = padding.columns
    if padding.to_column:
        wanted -= columns_of(bytes(out[out.rfind(b"\n") + 1 :]))
    flush = padding.flush
    if flush == b">>":
        while width > wanted and len(out) > 1 and out.endswith(b" "):
            out.pop()
            wanted += 1
        flush = b">"
    if width > wanted:
        out += _cut(value, width, wanted, padding.cut)
        return
    free = wanted - width
    before = {b"<": 0, b">": free}.get(flush, free // 2)
    out += b" " * before + value + b" " * (free - before)


def columns_of(text: bytes) -> int:
    """Return how many columns a text takes; what isn't UTF-8 takes one a byte."""
    try:
        return sum(map(_width, text.decode("utf-8")))
    except UnicodeDecodeError:
        return len(text)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(value: bytes, width: int, wanted: int, cut: bytes | None) -> bytes:
    """Replace so many columns by two dots that the rest fits."""
    if cut is None:
        return value
    start = {b"ltrunc": 0, b"mtrunc": wanted // 2 - 1}.get(cut, wanted - 2)
    end = start + width - (wanted - 2)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return value
    kept: list[str] = []
    dots, at = "..", 0
    for character in text:
        columns = _width(character)
        if columns and start <= at < end:
            kept.append(dots)
            dots = ""
        else:
            kept.append(character)
        at += columns
    return "".join(kept).encode("utf-8")
