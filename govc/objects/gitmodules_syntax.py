"""The entries of a `.gitmodules` blob: the syntax of git's configuration files, read from hostile bytes.

What: bytes in, (key, value) out one by one, so that what stands before a syntax error is seen. Not here: what a value
may be (`fsck_gitmodules`), the server's own configuration (the config room, above this one).

A key is `section.name` or `section.subsection.name`, section and name in lower case; keys and values end at a NUL, as
git keeps C strings. Every byte is looked at a bounded number of times. A byte order mark is skipped and a byte 0xFF is
text, as for a client that reads the file; git's own check of a blob trips over the one and ends at the other.

Source: git-config "Syntax"; git's config.c git_parse_source.
"""

import re
from collections.abc import Iterator

from govc.objects.errors import MalformedObject

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_SKIP = re.compile(rb"(?:[ \t\r\n]++|[#;][^\n]*+\n)*")
_HEADER = re.compile(rb'\[([A-Za-z0-9.\-]*+)(?:[ \t\r]++("(?:[^"\\\n]++|\\[^\n])*"))?\]')
_NAME = re.compile(rb"([A-Za-z][A-Za-z0-9\-]*+)[ \t]*+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TOKEN = re.compile(rb'(?P<blanks>[ \t\r]++)|(?P<text>[^ \t\r\n"\\;#]++)|[;#][^\n]*+|.', re.DOTALL)
_QUOTED_TEXT = re.compile(rb'[^"\\\n]++')
_ESCAPES = {0x6E: b"\n", 0x74: b"\t", 0x62: b"\b", 0x5C: b"\\", 0x22: b'"', 0x0A: b""}

_NEWLINE, _QUOTE, _BACKSLASH, _BRACKET, _EQUALS = b'\n"\\[='


class _BadSyntax(MalformedObject):
    def __init__(self, reason: str) -> None:
        super().__init__(".gitmodules", reason)


def iter_gitmodules(content: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Iterate over (key, value) in file order; a value is None when there is no "=". Raises MalformedObject."""
    # git reads the end of the file as newlines without end; two are as many as any rule can ask for.
    text = content.replace(b"\r\n", b"\n")
    end = len(text)
    text += b"\n\n"
    position = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    stem = b""
    while True:
        blank = _SKIP.match(text, position)
        position = blank.end() if blank is not None else position
        if position >= end:
            return
        if text[position] == _BRACKET:
            position, stem = _read_header(text, position)
            continue
        name = _NAME.match(text, position)
        if name is None:
            raise _BadSyntax("neither a section header nor a name")
        position = name.end()
        value: bytes | None = None
        if text[position] == _EQUALS:
            position, value = _read_value(text, position + 1)
        elif text[position] != _NEWLINE:
            raise _BadSyntax("no '=' after a name")
        key = (stem + name[1].lower()).partition(b"\0")[0]
        yield key, None if value is None else value.partition(b"\0")[0]


def _read_header(text: bytes, position: int) -> tuple[int, bytes]:
    """Return (position after the bracket, what stands before a name in a key)."""
    match = _HEADER.match(text, position)
    if match is None:
        raise _BadSyntax("invalid section header")
    stem = match[1].lower()
    if match[2] is not None:
        stem += b"." + _ESCAPED.sub(rb"\1", match[2][1:-1])
    if not stem:
        raise _BadSyntax("empty section header")
    return match.end(), stem + b"."


def _read_value(text: bytes, position: int) -> tuple[int, bytes]:
    """Return (position of the newline that ends the value, value)."""
    value = bytearray()
    kept = 0  # the length to cut back to, should only blanks follow; 0 for none, as no value begins with blanks
    while True:
        token = _TOKEN.match(text, position)
        if token is None:
            raise _BadSyntax("unterminated value")
        first = text[position]
        position = token.end()
        if token["blanks"] is not None:
            kept = kept or len(value)
            if value:
                value += token["blanks"]
        elif first == _NEWLINE:
            return position - 1, bytes(value[:kept] if kept else value)
        elif token["text"] is not None:
            kept = 0
            value += token["text"]
        elif first == _QUOTE:
            kept = 0
            position = _read_quoted(text, position, value)
        elif first == _BACKSLASH:
            kept = 0
            position = _read_escape(text, position, value)
        # what is left is a comment: its text is dropped and the newline comes next


def _read_quoted(text: bytes, position: int, value: bytearray) -> int:
    """Append up to the closing quote; return the position after it."""
    while True:
        run = _QUOTED_TEXT.match(text, position)
        if run is not None:
            value += run[0]
            position = run.end()
        if text[position] == _QUOTE:
            return position + 1
        if text[position] == _NEWLINE:
            raise _BadSyntax("unterminated quote")
        position = _read_escape(text, position + 1, value)


def _read_escape(text: bytes, position: int, value: bytearray) -> int:
    """Append what the byte after a backslash stands for; return the position after it."""
    escaped = _ESCAPES.get(text[position])
    if escaped is None:
        raise _BadSyntax("unknown escape sequence")
    value += escaped
    return position + 1
