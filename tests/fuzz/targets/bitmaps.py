"""Reachability bitmaps: words of EWAH, and whole files of entries that are xored with one another."""

from __future__ import annotations

from typing import NamedTuple

from govc.graph.bitmap_file import XOR_OFFSET_MAX, BitmapFile
from govc.graph.ewah import CorruptBitmap, decode_ewah, encode_ewah
from govc.protocol.oid import HashAlgorithm
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.targets.wire import algo_of


def make_set(draw: Draw, bits: int) -> int:
    kind = draw.randrange(4)
    if kind == 0 or not bits:
        return 0
    return ((1 << bits) - 1) >> draw.randrange(bits) if kind == 1 else draw.getrandbits(draw.randint(1, bits))


def make_ewah(draw: Draw, bits: int) -> bytes:
    """A set in git's form; runs and literals may lie."""
    data = bytearray(encode_ewah(make_set(draw, bits), bits))
    data[:4] = draw.number(bits, 32).to_bytes(4, "big")
    for at in range(8, len(data) - 4, 8):
        if draw.broken():
            marker = draw.number(0, 1) | draw.number(1, 32) << 1 | draw.number(1, 31) << 33
            data[at : at + 8] = marker.to_bytes(8, "big")
    return draw.raw(bytes(data))


def make_words(draw: Draw) -> tuple[bytes, int, int]:
    bits = draw.choice((0, 1, 63, 64, 65, 200, 1000))
    return make_ewah(draw, bits), draw.number(0, 3), bits + 63


def run_words(data: tuple[bytes, int, int]) -> None:
    """What is decoded has no more bits than may be, and is the same once it has been encoded again."""
    buffer, start, bits_max = data
    value, end = decode_ewah(buffer, start, bits_max=bits_max)
    assert end <= len(buffer)
    assert value.bit_length() <= (bits_max + 63) // 64 * 64
    again = encode_ewah(value, value.bit_length())
    assert decode_ewah(again, bits_max=value.bit_length()) == (value, len(again))


class File(NamedTuple):
    """A file of bitmaps, and how many objects it is about."""

    data: bytes
    algo: HashAlgorithm
    count: int


def make_file(draw: Draw) -> File:
    algo = algo_of(draw)
    count = draw.choice((1, 3, 64, 70, 400))
    places = draw.sample(range(count), min(count, draw.randrange(6)))
    draw.shuffle_some(places)
    options = draw.pick(1, 0, 5, 0x11, 0x15, 0x21, 0x35, 2, 0xFFFF) if draw.chance(0.5) else draw.choice((5, 0x15))
    body = draw.raw(b"BITM") + draw.number(1, 16).to_bytes(2, "big") + options.to_bytes(2, "big")
    body += draw.number(len(places), 32).to_bytes(4, "big") + b"\1" * algo.oid_size
    body += b"".join(make_ewah(draw, count) for _ in range(4))
    for number, place in enumerate(places):
        offset = draw.number(draw.choice((0, min(number, 1), min(number, XOR_OFFSET_MAX))), 8)
        body += draw.number(place, 32).to_bytes(4, "big") + bytes([offset, draw.number(1, 8)]) + make_ewah(draw, count)
    body += bytes(16 * len(places)) if options & 0x10 else b""
    body += bytes(4 * count) if options & 4 else b""
    body = draw.spoil(body) if draw.chance(0.05) else body
    return File(body + algo.new(body).digest(), algo, count)


def run_file(data: File) -> None:
    """Every set is decoded or refused, and has no bit beyond the last object."""
    file = BitmapFile(data.data, data.algo, data.count)
    assert all(value >> data.count == 0 for value in file.types.values())
    for place in file.places():
        assert file.has(place)
        try:
            assert file.reachable(place) >> data.count == 0
        except CorruptBitmap:
            continue


TARGETS = (
    Target(
        name="ewah", covers=("govc.graph.ewah",), make=make_words, run=run_words, allowed=(CorruptBitmap,), weight=0.4
    ),
    Target(
        name="bitmaps",
        covers=("govc.graph.bitmap_file",),
        make=make_file,
        run=run_file,
        allowed=(CorruptBitmap,),
        weight=0.3,
    ),
)
