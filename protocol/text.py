"""Peer bytes as numbers and as readable text.

Git parses numbers on the wire with C's strtol in base 0 (decimal, 0x hex, leading-zero octal; leading
blanks and a sign are taken) and quotes the offending line in its fatal messages. Both habits live here,
bounded: Python's own `int` is quadratic in the digits and accepts `1_000`.
"""

import re

DIGITS_MAX = 64  # no number of 64 bits is longer, even in octal; more is junk and not worth converting
QUOTED_BYTES_MAX = 200

_C_INTEGER = re.compile(rb"[ \t-\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")


def find_c_integer(text: bytes) -> int | None:
    """Return the number that the whole of `text` spells for strtol in base 0, or None."""
    if len(text) > DIGITS_MAX:
        return None
    match = _C_INTEGER.match(text)
    if match is None:
        return None
    sign, digits = match.groups()
    if digits[:2] in (b"0x", b"0X"):
        value = int(digits[2:], 16)
    else:
        value = int(digits, 8 if digits.startswith(b"0") else 10)
    return -value if sign == b"-" else value


def quote_line(line: bytes) -> str:
    """Return `line` as text for a message: one line, printable, at most QUOTED_BYTES_MAX bytes of it."""
    head = line[:QUOTED_BYTES_MAX].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in head)
    return shown + "..." if len(line) > QUOTED_BYTES_MAX else shown


def humanise_bytes(size: int) -> str:
    """Return a size as git shows it to people: "512 bytes", "1.50 MiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size > unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
