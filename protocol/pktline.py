"""pkt-line: the framing of everything that Git says.

    0000        flush             FLUSH
    0001        delimiter (v2)    DELIM
    0002        response end      RESPONSE_END
    0003        never
    0004        an empty line     b""
    LLLLdata    LLLL = 4 hex digits (either case), the length of the packet, itself included; at most 65520

Text lines end in LF on output; on input the LF is optional and the decoder leaves it on (`strip_lf`).

Two readers: `PktLineDecoder` for bodies that arrive in pieces and are followed by something else (a pack),
and `iter_packets` for requests that are in memory whole.

Source: gitprotocol-common, "pkt-line Format"; rows U0-01..03, SEC-01, SEC-02.
"""

from binascii import unhexlify
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Literal

from govc.protocol.errors import LocalProtocolError, RemoteProtocolError
from govc.protocol.text import quote_line

MAX_PACKET: Final = 65520
HEADER_SIZE: Final = 4
MAX_PAYLOAD: Final = MAX_PACKET - HEADER_SIZE

FLUSH: Final = b"0000"
DELIM: Final = b"0001"
RESPONSE_END: Final = b"0002"

HUNG_UP: Final = "the remote end hung up unexpectedly"


class Control(Enum):
    """A packet that carries no bytes."""

    FLUSH = 0
    DELIM = 1
    RESPONSE_END = 2


class NeedData(Enum):
    """The type of NEED_DATA; an enum so that mypy can tell it from an event."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA
NeedDataType = Literal[NeedData.NEED_DATA]

_CONTROLS = (Control.FLUSH, Control.DELIM, Control.RESPONSE_END)


def encode(payload: bytes) -> bytes:
    """Return one packet. Raises LocalProtocolError when the payload is longer than MAX_PAYLOAD bytes."""
    size = len(payload) + HEADER_SIZE
    if size > MAX_PACKET:
        raise LocalProtocolError(f"a packet of {size} bytes; the largest is {MAX_PACKET}")
    return b"%04x%b" % (size, payload)


def encode_text(line: bytes) -> bytes:
    """Return one packet of `line` and an LF."""
    return encode(line + b"\n")


def encode_error(text: str) -> bytes:
    """Return an `ERR` packet: the fatal answer before any side band is open. Cut to fit one packet."""
    return encode((b"ERR " + text.encode("utf-8", "surrogateescape"))[:MAX_PAYLOAD])


def strip_lf(line: bytes) -> bytes:
    """Return the line without its one optional LF at the end."""
    return line[:-1] if line.endswith(b"\n") else line


def text_of(packet: bytes) -> bytes:
    """Return a line as git reads it: without its LF, and up to a NUL, where C's texts end."""
    line = strip_lf(packet)
    return line if b"\0" not in line else line.partition(b"\0")[0]


def check_not_error(line: bytes) -> None:
    """Raise RemoteProtocolError when the peer said `ERR …`: its fatal end of the conversation."""
    if line.startswith(b"ERR "):
        raise RemoteProtocolError(f"remote error: {quote_line(strip_lf(line[4:]))}")


def parse_size(header: bytes, offset: int) -> int:
    """Return the length that four bytes spell: 0-2 for a control packet, else 4-65520.

    Raises RemoteProtocolError, also where there are fewer than four.
    """
    if len(header) < HEADER_SIZE:
        raise RemoteProtocolError(HUNG_UP, offset=offset)
    try:
        high, low = unhexlify(header)
    except ValueError:
        raise RemoteProtocolError(
            f"protocol error: bad line length character: {quote_line(header)}", offset=offset
        ) from None
    size = high << 8 | low
    if size == 3 or size > MAX_PACKET:
        raise RemoteProtocolError(f"protocol error: bad line length {size}", offset=offset)
    return size


def iter_packets(body: bytes) -> Iterator[bytes | Control]:
    """Yield the packets of a whole body.

    Linear, one copy per payload. Stops after the last whole packet when nothing follows; raises
    RemoteProtocolError on a malformed length and when the body ends inside a packet. A caller that has seen
    enough just stops.
    """
    position = 0
    end = len(body)
    last, size = b"", 0
    while position < end:
        header = body[position : position + HEADER_SIZE]
        if header != last:  # wants and haves, hundreds of them, are all of one length
            last, size = header, parse_size(header, position)
        if size < HEADER_SIZE:
            position += HEADER_SIZE
            yield _CONTROLS[size]
            continue
        if position + size > end:
            raise RemoteProtocolError(HUNG_UP, offset=position)
        yield body[position + HEADER_SIZE : position + size]
        position += size


TICK_BYTES: Final = 16 << 10
"""So much of a request, 330 haves or 4,000 empty lines, is read between two ticks: a millisecond's work at most."""


def no_tick() -> None:
    """Let nobody run: for who reads a request alone."""


def ticking(packets: Iterator[bytes | Control], tick: Callable[[], None]) -> Iterator[bytes | Control]:
    """Yield the packets, and call `tick` about every TICK_BYTES: some kilobytes may unfold to millions."""
    left = TICK_BYTES
    for packet in packets:
        yield packet
        left -= HEADER_SIZE if isinstance(packet, Control) else HEADER_SIZE + len(packet)
        if left <= 0:
            left = TICK_BYTES
            tick()


def decode_all(body: bytes) -> list[bytes | Control]:
    """Return every packet of a whole body. Raises RemoteProtocolError as iter_packets does."""
    return list(iter_packets(body))


class PktLineDecoder:
    """Packets from a stream that arrives in pieces of any size.

    Holds what was received and not yet asked for; a caller that takes events before it receives more keeps
    that to one piece and one packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # of the next packet in the buffer
        self._discarded = 0  # bytes of the stream that are no longer in the buffer
        self._is_finished = False

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._check_usable()
        if self._position:
            del self._buffer[: self._position]
            self._discarded += self._position
            self._position = 0
        self._buffer += data

    def next_event(self) -> bytes | Control | NeedDataType:
        """Return the next payload or control packet, or NEED_DATA. Raises RemoteProtocolError."""
        self._check_usable()
        start = self._position
        available = len(self._buffer) - start
        if available < HEADER_SIZE:
            return NEED_DATA
        size = parse_size(bytes(self._buffer[start : start + HEADER_SIZE]), self._discarded + start)
        if size < HEADER_SIZE:
            self._position = start + HEADER_SIZE
            return _CONTROLS[size]
        if available < size:
            return NEED_DATA
        self._position = start + size
        return bytes(self._buffer[start + HEADER_SIZE : start + size])

    def take_rest(self) -> bytes:
        """Return the bytes after the last event, where something else begins. Ends the decoder."""
        self._check_usable()
        rest = bytes(self._buffer[self._position :])
        self._finish()
        return rest

    def close(self) -> None:
        """Say that the stream has ended. Raises RemoteProtocolError when it ended inside a packet."""
        self._check_usable()
        left = len(self._buffer) - self._position
        offset = self._discarded + self._position
        self._finish()
        if left:
            raise RemoteProtocolError(HUNG_UP, offset=offset)

    def _finish(self) -> None:
        self._is_finished = True
        self._buffer = bytearray()
        self._position = 0

    def _check_usable(self) -> None:
        if self._is_finished:
            raise LocalProtocolError("the decoder is finished")
