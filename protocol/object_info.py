"""The v2 command `object-info`: sizes of objects without the objects.

Arguments `size` and `oid OID` (repeated). The reply is the line `size` when it was asked for of any oid, then `OID SP
SIZE`, or `OID SP` for an object that isn't there, and a flush; lines have no LF. A bad line doesn't end the
conversation: it is answered with an `ERR` packet in its place, as git does.

Source: gitprotocol-v2 "object-info"; row V2-47.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import FLUSH, encode, encode_error
from govc.protocol.text import quote_line


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfoRequest:
    """Whether sizes are asked for, of which oids (as sent, unchecked), and the lines that made no sense."""

    size: bool
    oid_texts: tuple[bytes, ...]
    unexpected_lines: tuple[bytes, ...] = ()


def parse_object_info(args: Iterable[bytes]) -> ObjectInfoRequest:
    """Parse the argument lines (without LF)."""
    size = False
    oid_texts = []
    unexpected_lines = []
    for arg in args:
        if arg == b"size":
            size = True
        elif arg.startswith(b"oid "):
            oid_texts.append(arg[4:])
        else:
            unexpected_lines.append(arg)
    return ObjectInfoRequest(size=size, oid_texts=tuple(oid_texts), unexpected_lines=tuple(unexpected_lines))


def iter_object_info(
    request: ObjectInfoRequest, algo: HashAlgorithm, find_size: Callable[[bytes], int | None]
) -> Iterator[bytes]:
    """Yield the reply's packets, the flush included. `find_size` gives an object's size in bytes, or None."""
    for line in request.unexpected_lines:
        yield encode_error(f"object-info: unexpected line: '{quote_line(line)}'")
    if request.size and request.oid_texts:
        yield encode(b"size")
    for text in request.oid_texts:
        oid = algo.parse_hex(text)
        if oid is None:
            yield encode_error(f"object-info: protocol error, expected to get oid, not '{quote_line(text)}'")
        elif request.size:
            size = find_size(oid)
            yield encode(b"%b %b" % (text, b"" if size is None else b"%d" % size))
        else:
            yield encode(text)
    yield FLUSH
