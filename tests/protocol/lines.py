"""Writing requests down shortly."""

from govc.protocol.oid import SHA1
from govc.protocol.pktline import encode_text

CONTROLS = {"0000": b"0000", "0001": b"0001", "0002": b"0002"}


def oid(digit: str) -> bytes:
    """Return an oid of one digit repeated."""
    return bytes.fromhex(digit * SHA1.hex_size)


def hexed(digit: str) -> str:
    return digit * SHA1.hex_size


def body(*lines: str | bytes) -> bytes:
    """Return the lines as packets; "0000", "0001", "0002" are control packets, bytes go in as they are."""
    parts = []
    for line in lines:
        if isinstance(line, bytes):
            parts.append(line)
        else:
            parts.append(CONTROLS.get(line) or encode_text(line.encode()))
    return b"".join(parts)
