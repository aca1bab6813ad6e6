"""The side band: three streams in one.

Each packet's first byte names the band: 1 the data (pack or report), 2 progress for the user, 3 a fatal
error. A packet is at most 65520 bytes (`side-band-64k`) or 1000 bytes (`side-band`), header and band byte
included, so 65515 or 995 bytes of payload. A packet of band 1 without payload is a keepalive. The stream
ends in a flush packet, which is the caller's to send.

Source: gitprotocol-pack, "Packfile Data"; gitprotocol-capabilities "side-band, side-band-64k"; rows U0-54,
55, 59.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from govc.protocol.pktline import HEADER_SIZE, MAX_PACKET

PACKET_MAX_LARGE: Final = MAX_PACKET
PACKET_MAX_SMALL: Final = 1000
OVERHEAD: Final = HEADER_SIZE + 1

KEEPALIVE: Final = b"0005\x01"


class Band(IntEnum):
    """Which stream a packet belongs to."""

    DATA = 1
    PROGRESS = 2
    ERROR = 3


def frame(band: Band, data: bytes | memoryview, packet_max: int = PACKET_MAX_LARGE) -> bytes:
    """Return `data` as packets of one band; b"" for no data. One copy of the data."""
    size = len(data)
    payload_max = packet_max - OVERHEAD
    view = memoryview(data)
    full_header = b"%04x%c" % (packet_max, band)
    pieces: list[bytes | memoryview] = []
    full_end = size - size % payload_max
    for start in range(0, full_end, payload_max):
        pieces.append(full_header)
        pieces.append(view[start : start + payload_max])
    if full_end < size:
        pieces.append(b"%04x%c" % (size - full_end + OVERHEAD, band))
        pieces.append(view[full_end:])
    return b"".join(pieces)


def frame_chunks(band: Band, chunks: Iterable[bytes], packet_max: int = PACKET_MAX_LARGE) -> bytes:
    """Return the chunks, joined, as packets of one band: small chunks share packets."""
    return frame(band, b"".join(chunks), packet_max)
