"""EWAH: long sets of bits in little room, as git's bitmap files hold them. Here a set is a Python int, bit 0 first.

    4 bytes  bits      how many the set has room for
    4 bytes  words     how many 8-byte words follow
    words              a marker, then its literal words, and so on
    4 bytes  marker    the place of the last marker (for whoever wants to append)

    marker   bit 0: the running bit; bits 1-32: so many words of it; bits 33-63: so many literal words follow the marker

All numbers are big-endian; in a word the lowest bit comes first. An int is the quickest set of bits that Python has: a
million bits are or-ed in microseconds.

Source: git's ewah/ewah_io.c, ewah/ewok.h; gitformat-pack's neighbour "gitformat-bitmap" ("Appendix A").
"""

import sys
from array import array
from collections.abc import Iterator

from govc.errors import Corrupt

_WORD_BYTES = 8
_RUN_MAX = (1 << 32) - 1
_LITERALS_MAX = (1 << 31) - 1
_EMPTY, _FULL = 0, (1 << 64) - 1


class CorruptBitmap(Corrupt):
    """Bytes that are no bitmap."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"bitmap: {reason}")


def decode_ewah(data: bytes | memoryview, start: int = 0, *, bits_max: int) -> tuple[int, int]:
    """Return (the set, the position behind it). Raises CorruptBitmap, also before more than `bits_max` is made."""
    view = memoryview(data)
    if start + 8 > len(view):
        raise CorruptBitmap("cut short")
    bits = int.from_bytes(view[start : start + 4], "big")
    words = int.from_bytes(view[start + 4 : start + 8], "big")
    first = start + 8
    end = first + words * _WORD_BYTES
    if end + 4 > len(view):
        raise CorruptBitmap("cut short")
    if bits > bits_max:
        raise CorruptBitmap(f"{bits} bits where {bits_max} may be")
    column = array("Q", bytes(view[first:end]))
    if sys.byteorder == "little":
        column.byteswap()
    room = (bits + 63) // 64
    pieces: list[bytes] = []
    at = made = 0
    while at < words:
        marker = column[at]
        running, literals = (marker >> 1) & _RUN_MAX, marker >> 33
        at += 1
        made += running + literals
        if at + literals > words or made > room:
            raise CorruptBitmap("more words than it says")
        if running:
            pieces.append((b"\xff" if marker & 1 else b"\0") * (running * _WORD_BYTES))
        if literals:
            chunk = column[at : at + literals]
            if sys.byteorder == "big":
                chunk.byteswap()
            pieces.append(chunk.tobytes())
            at += literals
    value = int.from_bytes(b"".join(pieces), "little")
    return value, end + 4


def encode_ewah(value: int, bits: int) -> bytes:
    """Return a set of `bits` bits in git's form."""
    # Zeros at the end need no words.
    room = (value.bit_length() + 63) // 64
    column = array("Q", value.to_bytes(room * _WORD_BYTES, "little"))
    if sys.byteorder == "big":
        column.byteswap()
    words = array("Q")
    last = 0
    for bit, running, literals in _runs(column):
        last = len(words)
        words.append(bit | running << 1 | len(literals) << 33)
        words.extend(literals)
    if not words:
        words.append(0)
    if sys.byteorder == "little":
        words.byteswap()
    head = bits.to_bytes(4, "big") + len(words).to_bytes(4, "big")
    return head + words.tobytes() + last.to_bytes(4, "big")


def _runs(column: "array[int]") -> Iterator[tuple[int, int, "array[int]"]]:
    """Yield (running bit, words of it, literal words)."""
    at, count = 0, len(column)
    while at < count:
        start = at
        bit = 1 if column[at] == _FULL else 0
        same = _FULL if bit else _EMPTY
        while at < count and column[at] == same and at - start < _RUN_MAX:
            at += 1
        running = at - start
        first = at
        while at < count and column[at] not in (_EMPTY, _FULL) and at - first < _LITERALS_MAX:
            at += 1
        yield bit, running, column[first:at]
