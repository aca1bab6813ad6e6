r"""What the server says first.

v0, v1 (over HTTP behind `# service=…` and a flush):

    [version 1 LF]
    OID SP name NUL capabilities LF         the first line, whatever it is
    OID SP name LF | OID SP name^{} LF      a peeled line behind each annotated tag (upload-pack only)
    OID SP ".have" LF                       tips of alternates (receive-pack only)
    ZERO SP "capabilities^{}" NUL …         instead of all those, when there is none of them
    shallow SP OID LF                       the server's own shallow boundary
    flush

v2 has only capability lines: `version 2`, one `key[=value]` a line, flush. The refs are asked for by
`ls-refs`.

The order of refs is the caller's: HEAD first when it resolves, then byte order.

Source: gitprotocol-pack "Reference Discovery", gitprotocol-http "Smart Clients", gitprotocol-v2; rows
U0-04..09, V2-01, RP-01, RP-09, RP-10, RP-12, RP-14.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from govc.protocol.errors import LocalProtocolError
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import FLUSH, MAX_PACKET, encode, encode_text

LINES_PER_CHUNK = 1000


class AdvertisedRef(NamedTuple):
    """One ref as advertised; `peeled` is what an annotated tag finally points to, else None."""

    name: bytes
    oid: bytes
    peeled: bytes | None = None


def service_header(service: bytes) -> bytes:
    """Return the `# service=…` packet and its flush; `service` is git-upload-pack or git-receive-pack.

    v0 and v1 only: git's own server leaves it out in v2.
    """
    return encode_text(b"# service=" + service) + FLUSH


def _iter_ref_lines(
    refs: Iterable[AdvertisedRef], haves: Iterable[bytes], algo: HashAlgorithm
) -> Iterator[tuple[bytes, bytes]]:
    is_empty = True
    for name, oid, peeled in refs:
        is_empty = False
        yield oid, name
        if peeled is not None:
            yield peeled, name + b"^{}"
    for oid in haves:
        is_empty = False
        yield oid, b".have"
    if is_empty:
        yield algo.zero, b"capabilities^{}"


def _encode_ref_line(oid: bytes, name: bytes) -> bytes:
    size = 2 * len(oid) + len(name) + 6  # length digits, space, LF
    if size > MAX_PACKET:
        raise LocalProtocolError(f"a ref line of {size} bytes; the largest packet is {MAX_PACKET}")
    return b"%04x%b %b\n" % (size, oid.hex().encode("ascii"), name)


def encode_advertised(ref: AdvertisedRef) -> bytes:
    """Return the line of a ref, and the one of what it peels to."""
    line = _encode_ref_line(ref.oid, ref.name)
    return line if ref.peeled is None else line + _encode_ref_line(ref.peeled, ref.name + b"^{}")


def iter_advertisement(
    refs: Iterable[AdvertisedRef],
    *,
    capabilities: bytes,
    algo: HashAlgorithm,
    shallows: Iterable[bytes] = (),
    haves: Iterable[bytes] = (),
    version: int = 0,
    encoded: Iterable[bytes] = (),
) -> Iterator[bytes]:
    """Yield a v0 or v1 advertisement in chunks of about LINES_PER_CHUNK lines, the flush included.

    `haves` are the oids of `.have` lines, `shallows` the server's shallow boundary. Takes the refs once, in
    their order, and holds one chunk. `encoded` are lines of further refs (`encode_advertised`); they need at least one
    ref or `.have` before them, whose line says the capabilities.
    """
    lines = [encode_text(b"version 1")] if version == 1 else []
    ref_lines = _iter_ref_lines(refs, haves, algo)
    oid, name = next(ref_lines)
    lines.append(encode_text(b"%b %b\0%b" % (oid.hex().encode("ascii"), name, capabilities)))
    for oid, name in ref_lines:
        lines.append(_encode_ref_line(oid, name))
        if len(lines) >= LINES_PER_CHUNK:
            yield b"".join(lines)
            lines.clear()
    for piece in encoded:
        if lines:
            yield b"".join(lines)
            lines.clear()
        yield piece
    lines.extend(encode_text(b"shallow " + oid.hex().encode("ascii")) for oid in shallows)
    lines.append(FLUSH)
    yield b"".join(lines)


def encode_capability_advertisement(lines: Iterable[bytes]) -> bytes:
    """Return the v2 advertisement of these capability lines (without LF; see V2Features.encode_lines)."""
    return encode(b"version 2\n") + b"".join(map(encode_text, lines)) + FLUSH
