"""The trailers of a commit message, and `%(trailers)`: `Key: value` lines in its last paragraph.

A paragraph counts when all its lines are trailers, or when one of them is git's own (`Signed-off-by: `, `(cherry picked
from commit `) and at least a quarter are. A line that begins with a blank goes on with the one before. The first
paragraph is the subject and never counts.

    %(trailers[:option,...])   key=K (several; only these)  only  unfold  keyonly  valueonly    each [=BOOL]
                               separator=S  key_value_separator=S     %n, %xNN and %% in S

Settings (`trailer.*`) are not looked at: the separator is a colon.

Source: git-interpret-trailers; git-log "PRETTY FORMATS", "%(trailers)".
"""

import re
from dataclasses import dataclass

_TRAILER = re.compile(rb"([A-Za-z0-9-]+[ \t]*):(.*)\Z", re.DOTALL)
_OWN_PREFIXES = (b"Signed-off-by: ", b"(cherry picked from commit ")
_LITERAL = re.compile(rb"%(n|%|x[0-9a-fA-F]{2})")
_TRUE, _FALSE = (b"true", b"yes", b"on", b"1"), (b"false", b"no", b"off", b"0", b"")


@dataclass(slots=True)
class TrailerOptions:
    """What stands behind `trailers:`. `keys` are in lower case; None: all."""

    keys: tuple[bytes, ...] | None = None
    only: bool = False
    unfold: bool = False
    key_only: bool = False
    value_only: bool = False
    separator: bytes | None = None
    key_value_separator: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the paragraph is shown as it stands."""
        return self == TrailerOptions()


_SWITCHES = {b"only": "only", b"unfold": "unfold", b"keyonly": "key_only", b"valueonly": "value_only"}


def parse_trailer_options(text: bytes) -> TrailerOptions | None:
    """Parse options separated by commas; None when one of them is unknown, which leaves the placeholder as it is."""
    options = TrailerOptions()
    for item in text.removesuffix(b",").split(b",") if text.strip(b",") else ():
        name, equals, value = item.partition(b"=")
        if name == b"key" and equals:
            options.keys = (*(options.keys or ()), value.removesuffix(b":").lower())
            options.only = True
        elif name == b"separator" and equals:
            options.separator = expand_literals(value)
        elif name == b"key_value_separator" and equals:
            options.key_value_separator = expand_literals(value)
        elif name in _SWITCHES and (not equals or value.lower() in _TRUE + _FALSE):
            setattr(options, _SWITCHES[name], not equals or value.lower() in _TRUE)
        else:
            return None
    return options


def expand_literals(text: bytes) -> bytes:
    """Expand %n, %xNN and %%, which is how commas and brackets get into an option."""

    def literal(match: re.Match[bytes]) -> bytes:
        what = match[1]
        if what[:1] == b"x":
            return bytes.fromhex(what[1:].decode("ascii"))
        return b"\n" if what == b"n" else what

    return _LITERAL.sub(literal, text)


def format_trailers(message: bytes, options: TrailerOptions) -> bytes:
    """Return the trailers of a message that begins with its subject, as the options want them."""
    lines = _trailer_lines(message)
    if options.is_plain:
        return b"".join(lines)
    out: list[bytes] = []
    for item in _folded(lines):
        match = _TRAILER.match(item)
        if match is None:
            if not options.only:
                out.append(item.rstrip() if options.separator is not None else item)
            continue
        key, value = match[1].strip(), match[2].strip()
        if options.keys is not None and key.lower() not in options.keys:
            continue
        if options.unfold:
            value = re.sub(rb"\n\s*", b" ", value)
        parts = [] if options.value_only else [key]
        if not options.key_only:
            if not options.value_only:
                parts.append(b": " if options.key_value_separator is None else options.key_value_separator)
            parts.append(value)
        out.append(b"".join(parts) + (b"\n" if options.separator is None else b""))
    return (options.separator or b"").join(out)


def _folded(lines: list[bytes]) -> list[bytes]:
    """Join lines that go on with a trailer to it."""
    items: list[bytes] = []
    goes_on = False
    for line in lines:
        if goes_on and line[:1].isspace():
            items[-1] += line
            continue
        goes_on = _TRAILER.match(line) is not None
        items.append(line)
    return items


def _trailer_lines(message: bytes) -> list[bytes]:
    """Return the lines of the trailers, with their line feeds; none when there are no trailers."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", message)
    while lines and not lines[-1].strip():
        lines.pop()
    title_end = next(
        (at for at, line in enumerate(lines) if not line.startswith(b"#") and not line.strip()), len(lines)
    )
    trailers = others = pending = 0
    is_own = False
    for at in range(len(lines) - 1, title_end - 1, -1):
        line = lines[at]
        if line.startswith(b"#"):
            others, pending = others + pending, 0
        elif not line.strip():
            others += pending
            fits = (is_own and trailers * 3 >= others) or (trailers > 0 and not others)
            return lines[at + 1 :] if fits else []
        elif line.startswith(_OWN_PREFIXES):
            trailers, pending, is_own = trailers + 1, 0, True
        elif line[:1].isspace():
            pending += 1
        elif _TRAILER.match(line):
            trailers, pending = trailers + 1, 0
        else:
            others, pending = others + 1 + pending, 0
    return []
