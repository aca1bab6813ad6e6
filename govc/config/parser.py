"""The syntax of git's configuration files, and nothing else.

What: bytes in, entries out, in file order. Not here: scopes and includes (`loader`), meaning of values
(`values`).

    file      = [BOM] *( blank | comment | header | entry )
    header    = "[" stem "]"  |  "[" stem 1*blank quoted "]"      stem = *( alnum | "-" | "." ), lower-cased
    entry     = name [ *blank "=" value ] newline                name = alpha *( alnum | "-" ), lower-cased
    value     = runs of text, "quoted" text, escapes \\\\ \\" \\n \\t \\b, backslash-newline, to # ; newline

Facts that surprise: CRLF is a newline and a lone CR is a blank; blanks are space, tab, CR only; blanks
around an unquoted value are cut, but a blank before a continuation stays; a NUL ends a key or a value (git
keeps C strings); a name without "=" has no value, which is not the same as an empty one; entries before any
header are kept.

Source: git-config "Syntax" (git 2.45 and later: a tab inside an unquoted value stays a tab).
"""

import re
from functools import lru_cache
from typing import NamedTuple

from govc.errors import BadConfig

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

ALIKE_BYTES = 4 << 10
ALIKE_TEXTS = 128
"""Of texts up to so many bytes the last so many are remembered: most repositories of a server have the same one."""

_SKIP = re.compile(rb"(?:[ \t\r\n]++|[#;][^\n]*+\n)*")
_HEADER = re.compile(rb'\[([A-Za-z0-9.\-]*+)(?:[ \t\r]++("(?:[^"\\\n]++|\\[^\n])*"))?\]')
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9\-]*+")
_BLANKS = re.compile(rb"[ \t]*+")
_TOKEN = re.compile(rb'(?P<blanks>[ \t\r]++)|(?P<text>[^ \t\r\n"\\;#]++)|[;#][^\n]*+|.', re.DOTALL)
_QUOTED_TEXT = re.compile(rb'[^"\\\n]++')
_SUBSECTION_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {
    ord("n"): b"\n",
    ord("t"): b"\t",
    ord("b"): b"\b",
    ord("\\"): b"\\",
    ord('"'): b'"',
    ord("\n"): b"",
}

_NEWLINE, _QUOTE, _BACKSLASH, _BRACKET, _EQUALS = b'\n"\\[='


class ParsedEntry(NamedTuple):
    """One entry; `value` is None when there was no "="; `line` is the (last) line of the entry, from 1."""

    section: str
    subsection: str | None
    name: str
    value: str | None
    line: int

    @property
    def key(self) -> str:
        """Return "section.name" or "section.subsection.name" (an entry before any header: just "name")."""
        if self.subsection is not None:
            return f"{self.section}.{self.subsection}.{self.name}"
        return f"{self.section}.{self.name}" if self.section else self.name


def split_key(key: str) -> tuple[str, str | None, str]:
    """Split a full key at its first and last dot: (section, subsection or None, name)."""
    section, dot, rest = key.partition(".")
    if not dot:
        return "", None, key
    subsection, dot, name = rest.rpartition(".")
    return section, subsection if dot else None, name


def parse_config(data: bytes, source: str) -> list[ParsedEntry]:
    """Parse one whole file. `source` is what an error calls it. Raises BadConfig, as git dies."""
    known = _parse_alike(data) if len(data) <= ALIKE_BYTES else None
    return list(known) if known is not None else _Parser(data, source).parse()


@lru_cache(ALIKE_TEXTS)
def _parse_alike(data: bytes) -> tuple[ParsedEntry, ...] | None:
    """None for a text that has to be parsed again, for an error that names its source."""
    try:
        return tuple(_Parser(data, "").parse())
    except BadConfig:
        return None


class _Parser:
    """The cursor over one file."""

    def __init__(self, data: bytes, source: str) -> None:
        text = data.replace(b"\r\n", b"\n")
        self._start = len(BYTE_ORDER_MARK) if text.startswith(BYTE_ORDER_MARK) else 0
        self._end = len(text)
        # git reads the end of the file as newlines without end; two are as many as any rule can ask for.
        self._text = text + b"\n\n"
        self._source = source
        self._line = 1
        self._line_position = 0

    def parse(self) -> list[ParsedEntry]:
        """Return the entries."""
        text, entries, stem = self._text, [], b""
        position = self._skip(self._start)
        while position < self._end:
            if text[position] == _BRACKET:
                position, stem = self._header(position)
            else:
                position, entry = self._entry(position, stem)
                entries.append(entry)
            position = self._skip(position)
        return entries

    def _skip(self, position: int) -> int:
        match = _SKIP.match(self._text, position)
        assert match is not None  # it matches the empty string
        return match.end()

    def _header(self, position: int) -> tuple[int, bytes]:
        match = _HEADER.match(self._text, position)
        if match is None:
            raise self._error(position, "invalid section header")
        stem = match[1].lower()
        if match[2] is not None:
            stem += b"." + _SUBSECTION_ESCAPE.sub(rb"\1", match[2][1:-1])
        if not stem:
            raise self._error(position, "empty section header")
        return match.end(), stem + b"."

    def _entry(self, position: int, stem: bytes) -> tuple[int, ParsedEntry]:
        name = _NAME.match(self._text, position)
        if name is None:
            raise self._error(position, "neither a section header nor a name")
        blanks = _BLANKS.match(self._text, name.end())
        assert blanks is not None  # it matches the empty string
        position = blanks.end()
        value: bytes | None = None
        if self._text[position] == _EQUALS:
            position, value = self._value(position + 1)
        elif self._text[position] != _NEWLINE:
            raise self._error(position, "a name must be followed by '=' or the end of the line")
        key = _c_string(stem + name[0].lower())
        return position + 1, ParsedEntry(
            *split_key(key), None if value is None else _c_string(value), self._line_at(position)
        )

    def _value(self, position: int) -> tuple[int, bytes]:
        """Return (position of the newline that ends the value, value)."""
        text, value = self._text, bytearray()
        kept = 0  # length to cut back to, should only blanks follow; 0 for none, as blanks never start a value
        while True:
            token = _TOKEN.match(text, position)
            assert token is not None  # the end has two newlines, and any byte matches
            first = text[position]
            position = token.end()
            if token["blanks"] is not None:
                kept = kept or len(value)
                if value:
                    value += token["blanks"]
            elif token["text"] is not None:
                kept = 0
                value += token["text"]
            elif first == _NEWLINE:
                return position - 1, bytes(value[:kept] if kept else value)
            elif first == _QUOTE:
                kept = 0
                position = self._quoted(position, value)
            elif first == _BACKSLASH:
                kept = 0
                position = self._escape(position, value)
            # what is left is a comment: its text is dropped and the newline comes next

    def _quoted(self, position: int, value: bytearray) -> int:
        """Append up to the closing quote; return the position after it."""
        text = self._text
        while True:
            run = _QUOTED_TEXT.match(text, position)
            if run is not None:
                value += run[0]
                position = run.end()
            if text[position] == _QUOTE:
                return position + 1
            if text[position] == _NEWLINE:
                raise self._error(position, "unterminated quote")
            position = self._escape(position + 1, value)

    def _escape(self, position: int, value: bytearray) -> int:
        """Append what the byte after a backslash stands for; return the position after it."""
        escaped = _ESCAPES.get(self._text[position])
        if escaped is None:
            raise self._error(position, "unknown escape sequence")
        value += escaped
        return position + 1

    def _line_at(self, position: int) -> int:
        self._line += self._text.count(b"\n", self._line_position, position)
        self._line_position = position
        return self._line

    def _error(self, position: int, reason: str) -> BadConfig:
        return BadConfig(self._source, self._line_at(position), reason)


def _c_string(text: bytes) -> str:
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
