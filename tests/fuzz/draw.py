"""Randomness for inputs that are almost right: fields that now and then are not what they should be.

A target builds a valid file or message field by field and lets every field pass through a `Draw`. Most of the time the
field comes back as it went in; with the probability `rate`, which is drawn once per input, it comes back broken in a
way that its kind suggests (a number becomes a limit or its neighbour, bytes are cut, doubled, flipped). Checksums are
computed after that by the target, so a parser that checks them is met behind its checks. `spoil` breaks a finished
thing without regard to its structure.

Everything follows from one integer seed: an input is named by (seed, target, number) and can be made again at any time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

RATES = (0.0, 0.01, 0.04, 0.15, 0.4)

NUMBERS = (
    *range(-2, 18),
    *(base + shift for base in (31, 63, 64, 127, 128, 255, 256, 1000, 4095, 4096, 8191, 8192) for shift in (-1, 0, 1)),
    *((1 << bits) + shift for bits in (15, 16, 24, 30, 31, 32, 33, 53, 62, 63, 64, 65) for shift in (-2, -1, 0, 1)),
    0x0FFFFFFF,
    0x70000000,
    0x80000001,
    0xAAAAAAAA,
    10**19,
    10**40,
)

WORDS = (
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"/",
    b"//",
    b".",
    b"..",
    b"../",
    b"%2e%2e%2f",
    b"%00",
    b"%",
    b"-",
    b"--",
    b"#",
    b";",
    b"=",
    b":",
    b"*",
    b"**/",
    b"[",
    b"]",
    b"\\",
    b'"',
    b"'",
    b"@{",
    b"^{}",
    b"~1",
    b"\xff",
    b"\x80",
    b"\xc0\xae",
    b"\xed\xa0\x80",
    b"\xe2\x80\x8c",
    b"\xef\xbb\xbf",
    b"\xf4\x90\x80\x80",
    b"\xc3\xa9",
    b"0000",
    b"0001",
    b"0002",
    b"0003",
    b"0004",
    b"fff0",
    b"ffff",
    b"ERR x",
    b"refs/heads/main",
    b"HEAD",
    b"ref: ",
    b".lock",
    b".git",
    b"git~1",
    b"0" * 40,
    b"f" * 40,
    b"0" * 64,
    b"true",
    b"false",
    b"0x7fffffff",
    b"-1",
    b"1e400",
    b"NaN",
    b"9" * 30,
    b"A" * 300,
)


class Draw(random.Random):
    """A source of almost right things. See the story of this module."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.rate = self.choice(RATES)

    def broken(self) -> bool:
        """Whether the next field is to be wrong."""
        return self.random() < self.rate

    def chance(self, probability: float) -> bool:
        """Whether something happens that has this probability, however right the input is."""
        return self.random() < probability

    def number(self, value: int, bits: int = 32) -> int:
        """A number of so many bits, mostly `value`."""
        if not self.broken():
            return value & ((1 << bits) - 1)
        kind = self.randrange(5)
        if kind == 0:
            value = self.choice(NUMBERS)
        elif kind == 1:
            value += self.choice((-2, -1, 1, 2, 8, 256))
        elif kind == 2:
            value ^= 1 << self.randrange(bits)
        elif kind == 3:
            value = self.getrandbits(bits)
        else:
            value = self.getrandbits(self.randrange(1, bits + 1))
        return value & ((1 << bits) - 1)

    def raw(self, value: bytes) -> bytes:
        """Bytes, mostly `value`."""
        return self.spoil(value) if self.broken() else value

    def pick(self, right: T, *wrong: T) -> T:
        """Mostly `right`, else one of the others."""
        return self.choice(wrong) if self.broken() else right

    def some(self, makers: Sequence[Callable[[], T]], low: int, high: int) -> list[T]:
        """Between `low` and `high` things, each made by some maker."""
        return [self.choice(makers)() for _ in range(self.randint(low, high))]

    def shuffle_some(self, items: list[T]) -> list[T]:
        """The list, now and then with items left out, doubled or out of place."""
        if items and self.broken():
            kind = self.randrange(4)
            at, to = self.randrange(len(items)), self.randrange(len(items))
            if kind == 0:
                del items[at]
            elif kind == 1:
                items.insert(to, items[at])
            elif kind == 2:
                items[at], items[to] = items[to], items[at]
            else:
                self.shuffle(items)
        return items

    def spoil(self, data: bytes) -> bytes:
        """Damage bytes, without regard to what they mean: one to four times."""
        out = bytearray(data)
        for _ in range(self.choice((1, 1, 1, 2, 4))):
            kind = self.randrange(11)
            at = self.randrange(len(out) + 1)
            if kind == 0 and at < len(out):
                out[at] ^= 1 << self.randrange(8)
            elif kind == 1 and at < len(out):
                out[at] = self.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x0A, self.randrange(256)))
            elif kind == 2:
                out[at:at] = self.choice(WORDS)
            elif kind == 3:
                del out[at : at + self.choice((1, 1, 2, 4, 20, 1000))]
            elif kind == 4:
                del out[at:]
            elif kind == 5:
                size = self.choice((1, 2, 4, 8))
                out[at : at + size] = (self.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
            elif kind == 6:
                size = self.choice((1, 4, 20, 100))
                out[at:at] = out[at : at + size] * self.choice((1, 2, 8))
            elif kind == 7:
                out[at:at] = self.randbytes(self.choice((1, 2, 4, 16)))
            elif kind == 8:
                word = self.choice(WORDS)
                out[at : at + len(word)] = word
            elif kind == 9 and len(out) > 1:
                start, size = self.randrange(len(out)), self.choice((1, 2, 4, 20, 100))
                out[at:at] = out[start : start + size]
            elif kind == 10:
                out += self.choice(WORDS)
        return bytes(out)

    def word(self, *usual: bytes) -> bytes:
        """One of the usual words, or a strange one."""
        if usual and not self.broken():
            return self.choice(usual)
        return self.choice(WORDS) if self.chance(0.6) else self.randbytes(self.randrange(12))

    def split(self, data: bytes) -> list[bytes]:
        """The bytes in a few pieces, as a network would deliver them."""
        cuts = sorted(self.randrange(len(data) + 1) for _ in range(self.randrange(4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
