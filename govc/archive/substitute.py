"""`$Format:...$` in files with export-subst: what `git log --format` says of the archive's commit.

Known: %H %h %T %t %P %p, %a and %c with n N e E l L t d D i I s r h, %d %D, %e, %s %f %b %B, %m, %n %% %xNN, %G?,
colours (which are off), the modifiers %+ %- and %(space), padding, %(describe), %(trailers) and %(decorate). What isn't
known stays as it is written, as git does with its own unknowns: so does %w(...), which git knows.

Source: gitattributes "export-subst", git-log "PRETTY FORMATS"; git's limit of one %(describe) an archive.
"""

import codecs
import re
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from govc.archive.dates import format_date
from govc.archive.mailmap import Mailmap
from govc.archive.padding import Padding, pad, parse_padding
from govc.archive.trailers import expand_literals, format_trailers, parse_trailer_options
from govc.objects.commit import parse_commit_links
from govc.protocol.oid import SHA1, SHA256, to_hex

_FORMAT = re.compile(rb"\$Format:([^$]*)\$")
_PERSON = re.compile(rb"([^<\n]*)<([^>\n]*)>[^\n]*?(?: (\d{1,18}) ([+-]\d{1,6}))?\s*")
_COLOUR = re.compile(rb"C(?:\([^)]*\)|red|green|blue|reset)")
_DESCRIBE = re.compile(rb"\(describe(?::([^)]*))?\)")
_TRAILERS = re.compile(rb"\(trailers(?::([^)]*))?\)")
_DECORATE = re.compile(rb"\(decorate(?::([^)]*))?\)")
_DECORATE_WORDS = {b"prefix": b" (", b"suffix": b")", b"separator": b", ", b"pointer": b" -> ", b"tag": b"tag: "}
_HEX = re.compile(rb"x([0-9a-fA-F]{2})")
_BLANK_LINES = re.compile(rb"(?:[ \t\r\f\v]*\n)+")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._]+")
_ENCODING = re.compile(r"[A-Za-z0-9._:+-]{1,40}")
_NO_CHARACTER_SETS = (
    "idna",
    "punycode",
    "unicode-escape",
    "raw-unicode-escape",
    "unicode_escape",
    "raw_unicode_escape",
)
"""What Python counts among its encodings and no iconv does; some take quadratic time."""


class Decoration(NamedTuple):
    """A name that git log decorates a commit with; `is_head` where HEAD points to it."""

    name: bytes
    is_tag: bool = False
    is_head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitFacts:
    """The commit, and what is known of it: how ids are shortened, its decorations, and how it is described.


    `describe(options)` takes what stands behind `describe:` and returns b"" when there is nothing to say.
    """

    oid: bytes
    data: bytes
    shorten: Callable[[bytes], bytes]
    decorations: tuple[Decoration, ...] = ()
    mailmap: Mailmap = field(default_factory=Mailmap)
    describe: Callable[[bytes], bytes] = lambda _options: b""
    now: Callable[[], float] = clock.time


class Substitution:
    """Expands the formats of one archive."""

    def __init__(self, facts: CommitFacts) -> None:
        """Raises MalformedObject."""
        self._facts = facts
        head, _, message = facts.data.partition(b"\n\n")
        # Lines that look like links may stand elsewhere in the header, too, and say anything.
        self._links = parse_commit_links(facts.data, SHA1 if len(facts.oid) == SHA1.oid_size else SHA256)
        self._headers: dict[bytes, bytes] = {}
        for line in head.split(b"\n"):
            name, _, value = line.partition(b" ")
            self._headers.setdefault(name, value)
        self._body = self._reencoded(message)
        self._may_describe = True

    def __call__(self, content: bytes) -> bytes:
        """Return the content with its formats expanded."""
        return _FORMAT.sub(lambda match: self.expand(match[1]), content)

    def expand(self, text: bytes) -> bytes:
        """Return one format expanded."""
        out = bytearray()
        position = 0
        padding: Padding | None = None
        while (at := text.find(b"%", position)) >= 0:
            out += text[position:at]
            position = at + 1
            parsed = parse_padding(text[position:])
            if parsed is not None:
                position += parsed[0]
                if padding is not None:  # is spent on another, as in git
                    pad(out, b"", padding)
                padding = parsed[1] if padding is None else None
                continue
            modifier = text[position : position + 1]
            start = position + (modifier in (b"+", b"-", b" "))
            found = self._placeholder(text[start:])
            if padding is not None and (text[start : start + 1] != b"%" or start > position):
                found, padding = self._padded(out, text[start:], padding, found), None
            if found is None:
                out += b"%"
                continue
            used, value = found
            if start > position:
                _modify(out, modifier, value)
            out += value
            position = start + used
        return bytes(out + text[position:])

    def _padded(
        self, out: bytearray, text: bytes, padding: Padding, found: tuple[int, bytes] | None
    ) -> tuple[int, bytes] | None:
        """Return what was found, padded for its place behind `out`; blanks alone where nothing was found.

        Colours are no value: the padding goes on to what stands behind them.
        """
        used, value = found if found is not None else (0, b"")
        while found is not None and _COLOUR.match(text[used - found[0] : used]) is not None:
            if text[used : used + 1] != b"%":
                break
            found = self._placeholder(text[used + 1 :])
            if found is None:
                break
            used, value = used + 1 + found[0], value + found[1]
        padded = bytearray(out)
        pad(padded, value, padding)
        taken = bytes(padded[len(out) :]) if padded.startswith(out) else None
        if taken is None:  # blanks that stood before were taken
            del out[:]
            out += padded
            taken = b""
        if used == 0:
            out += taken
            return None
        return used, taken

    def _placeholder(self, text: bytes) -> tuple[int, bytes] | None:
        """Return (bytes used, value) of the placeholder at the beginning of `text`."""
        letter = text[:1]
        if letter in (b"n", b"%"):
            return 1, b"\n" if letter == b"n" else b"%"
        match = _HEX.match(text)
        if match is not None:
            return 3, bytes.fromhex(match[1].decode("ascii"))
        match = _COLOUR.match(text)
        if match is not None:
            return match.end(), b""
        match = _DESCRIBE.match(text)
        if match is not None and self._may_describe:
            self._may_describe = False
            return match.end(), self._facts.describe(match[1] or b"")
        match = _TRAILERS.match(text)
        if match is not None:
            options = parse_trailer_options(match[1] or b"")
            return (match.end(), format_trailers(self._message(), options)) if options is not None else None
        match = _DECORATE.match(text)
        if match is not None:
            value = self._decorate(match[1] or b"")
            return None if value is None else (match.end(), value)
        if letter in (b"a", b"c"):
            value = self._person(b"author" if letter == b"a" else b"committer", text[1:2])
            return None if value is None else (2, value)
        if letter == b"G":
            return self._signature(text[1:2])
        value = self._simple(letter)
        return None if value is None else (1, value)

    def _simple(self, letter: bytes) -> bytes | None:
        facts = self._facts
        shorten = facts.shorten
        if letter == b"H":
            return facts.oid.hex().encode("ascii")
        if letter == b"h":
            return shorten(facts.oid)
        if letter in (b"T", b"t"):
            return to_hex(self._links.tree) if letter == b"T" else shorten(self._links.tree)
        if letter in (b"P", b"p"):
            return b" ".join(map(to_hex if letter == b"P" else shorten, self._links.parents))
        if letter in (b"d", b"D"):
            return self._decorate(b"" if letter == b"d" else b"prefix=,suffix=")
        if letter == b"e":
            return self._headers.get(b"encoding", b"")
        if letter == b"m":
            return b">"
        if letter == b"B":
            return self._body
        if letter == b"s":
            return b" ".join(self._split_message()[0])
        if letter == b"f":
            return _sanitized(next(iter(self._split_message()[0]), b""))
        return self._split_message()[1] if letter == b"b" else None

    def _signature(self, letter: bytes) -> tuple[int, bytes] | None:
        """Signatures aren't checked: one that is there is reported as one that can't be."""
        if letter == b"?":
            return 2, b"E" if b"gpgsig" in self._headers or b"gpgsig-sha256" in self._headers else b"N"
        if letter == b"T":
            return 2, b"undefined"
        return (2, b"") if letter in (b"G", b"S", b"K", b"F", b"P") else None

    def _person(self, header: bytes, part: bytes) -> bytes | None:
        match = _PERSON.fullmatch(self._reencoded(self._headers.get(header, b"")))
        if match is None:
            return b"" if part in b"netdDri" and part else None
        name, mail, seconds, zone = match.groups()
        if part in (b"N", b"E", b"L"):
            name, mail = self._facts.mailmap.find(name.strip(), mail)
        if part in (b"n", b"N"):
            return name.strip()
        if part in (b"e", b"E", b"l", b"L"):
            return mail if part in (b"e", b"E") else mail.partition(b"@")[0]
        if part not in (b"t", b"d", b"D", b"i", b"I", b"s", b"r", b"h"):
            return None
        if seconds is None:
            return b""
        if part == b"t":
            return bytes(seconds)
        return format_date(int(seconds), int(zone), part.decode("ascii"), self._facts.now()).encode("ascii")

    def _message(self) -> bytes:
        """Return the message from its subject on."""
        blanks = _BLANK_LINES.match(self._body)
        return self._body[blanks.end() :] if blanks is not None else self._body

    def _decorate(self, text: bytes) -> bytes | None:
        """Return the decorations, in the words that the options say; None for an option that nobody knows."""
        words = dict(_DECORATE_WORDS)
        for option in filter(None, text.split(b",")):
            name, equals, value = option.partition(b"=")
            if not equals or name not in words:
                return None
            words[name] = expand_literals(value)
        if not self._facts.decorations:
            return b""
        names = (
            (b"HEAD" + words[b"pointer"] if one.is_head else b"") + (words[b"tag"] if one.is_tag else b"") + one.name
            for one in self._facts.decorations
        )
        return words[b"prefix"] + words[b"separator"].join(names) + words[b"suffix"]

    def _split_message(self) -> tuple[list[bytes], bytes]:
        """Return the lines of the subject, and the body."""
        lines = self._body.split(b"\n")
        start = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
        end = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
        rest = next((i for i in range(end, len(lines)) if lines[i].strip()), len(lines))
        return [line.rstrip() for line in lines[start:end]], b"\n".join(lines[rest:])

    def _reencoded(self, text: bytes) -> bytes:
        name = self._headers.get(b"encoding", b"UTF-8").decode("ascii", "replace")
        if not _ENCODING.fullmatch(name):
            return text
        try:
            encoding = codecs.lookup(name).name
            if encoding == "utf-8" or encoding in _NO_CHARACTER_SETS:
                return text
            return text.decode(encoding).encode("utf-8")
        except (LookupError, UnicodeError):
            return text


def _modify(out: bytearray, modifier: bytes, value: bytes) -> None:
    if modifier == b"-" and not value:
        while out.endswith(b"\n"):
            out.pop()
    elif value and modifier == b"+":
        out += b"\n"
    elif value and modifier == b" ":
        out += b" "


def _sanitized(line: bytes) -> bytes:
    """Return a subject as a file name: runs of other characters become one dash, dots are not doubled."""
    return re.sub(rb"\.{2,}", b".", _UNSAFE.sub(b"-", line).strip(b"-")).rstrip(b".-")
