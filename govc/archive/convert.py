"""From a blob to what a checkout would write: `ident`, line ends, `working-tree-encoding`.

Filters (`filter=...`, which run programs named in the configuration) are not applied.

Source: gitattributes "text", "eol", "ident", "working-tree-encoding"; git-config "core.autocrlf", "core.eol".
"""

import codecs
import re
from dataclasses import dataclass
from enum import Enum

from govc.archive.attributes import Value
from govc.objects.types import BLOB, hash_object
from govc.protocol.oid import HashAlgorithm

ATTRIBUTE_NAMES = ("text", "crlf", "eol", "ident", "working-tree-encoding")

_IDENT = re.compile(rb"\$Id(?:\$|:([^$]*)\$)")
_LONE_LF = re.compile(rb"(?<!\r)\n")
_LONE_CR = re.compile(rb"\r(?!\n)")
_PRINTABLE_CONTROLS = b"\b\t\x1b\x0c"
_NONPRINTABLE = bytes(c for c in (*range(32), 127) if c not in b"\r\n" + _PRINTABLE_CONTROLS)
_BINARY_LOOK_BYTES = 8000


class _Ends(Enum):
    """How line ends are treated: by force, or when the content looks like text."""

    KEEP = 0
    TEXT_CRLF = 1
    AUTO_CRLF = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnds:
    """The repository's settings: core.autocrlf is "true", "input" or "false"; core.eol "lf", "crlf" or ""."""

    autocrlf: str = "false"
    eol: str = ""

    @property
    def native_is_crlf(self) -> bool:
        """Whether text without further word ends its lines in CR LF."""
        if self.autocrlf != "false":
            return self.autocrlf == "true"
        return self.eol == "crlf"


def convert_to_worktree(content: bytes, attributes: dict[str, Value], settings: LineEnds, algo: HashAlgorithm) -> bytes:
    """Return the content as a checkout would write it."""
    if attributes.get("ident") is True:
        content = _expand_ident(content, algo)
    ends = _line_ends(attributes, settings)
    if ends is not _Ends.KEEP and content and _should_convert(content, ends):
        content = _LONE_LF.sub(b"\r\n", content)
    encoding = attributes.get("working-tree-encoding")
    if isinstance(encoding, str) and encoding and content:
        content = _encode(content, encoding)
    return content


def looks_binary(content: bytes) -> bool:
    """Say whether git's diff would call it binary: a NUL near its beginning."""
    return b"\0" in content[:_BINARY_LOOK_BYTES]


def _expand_ident(content: bytes, algo: HashAlgorithm) -> bytes:
    expanded = b"$Id: " + hash_object(algo, BLOB, content).hex().encode("ascii") + b" $"

    def expand(match: re.Match[bytes]) -> bytes:
        given = match[1]
        if given is None:
            return expanded
        # Spaces elsewhere than around one word, or a line break: another system's keyword, left alone.
        space = given.find(b" ", 1)
        if b"\n" in given or 0 <= space < len(given) - 1:
            return match[0]
        return expanded

    # A keyword that isn't expanded may end in the dollar that begins the next one.
    out, position = [], 0
    while (match := _IDENT.search(content, position)) is not None:
        text = expand(match)
        end = match.end() if text is expanded else match.start() + 1
        out += [content[position : match.start()], text if text is expanded else b"$"]
        position = end
    return b"".join([*out, content[position:]])


def _line_ends(attributes: dict[str, Value], settings: LineEnds) -> _Ends:
    text = _text_word(attributes.get("text"))
    if text is None:
        text = _text_word(attributes.get("crlf"))
    if text == "binary":
        return _Ends.KEEP
    eol = attributes.get("eol")
    if eol in ("lf", "crlf"):
        if text == "auto":
            return _Ends.AUTO_CRLF if eol == "crlf" else _Ends.KEEP
        return _Ends.TEXT_CRLF if eol == "crlf" else _Ends.KEEP
    if text == "text":
        return _Ends.TEXT_CRLF if settings.native_is_crlf else _Ends.KEEP
    if text == "auto":
        return _Ends.AUTO_CRLF if settings.native_is_crlf else _Ends.KEEP
    if text is None and settings.autocrlf == "true":
        return _Ends.AUTO_CRLF
    return _Ends.KEEP


def _text_word(value: Value) -> str | None:
    """Return "text", "binary", "input", "auto", or None when nothing useful is said."""
    if value is True:
        return "text"
    if value is False:
        return "binary"
    return value if value in ("input", "auto") else None


def _should_convert(content: bytes, ends: _Ends) -> bool:
    if _LONE_LF.search(content) is None:
        return False
    if ends is _Ends.TEXT_CRLF:
        return True
    return not (b"\r" in content or _is_binary(content))


def _is_binary(content: bytes) -> bool:
    """git's guess for line ends: a NUL, a lone CR, or more than one strange byte in 128."""
    if b"\0" in content or _LONE_CR.search(content) is not None:
        return True
    strange = len(content) - len(content.translate(None, _NONPRINTABLE)) - content.endswith(b"\x1a")
    ends = content.count(b"\n") + content.count(b"\r")
    return (len(content) - ends - strange) >> 7 < strange


def _encode(content: bytes, encoding: str) -> bytes:
    name = encoding.upper()
    try:
        if codecs.lookup(name).name == "utf-8":
            return content
        return content.decode("utf-8").encode(name)
    except (LookupError, UnicodeError):
        return content  # git says so on its standard error, and writes the file as it is
