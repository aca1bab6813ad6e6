"""upload-archive: the client sends the arguments of `git archive`, the server an archive in the side band.

    request   `argument X` LF?  (repeated, at most ARGUMENTS_MAX)   flush
    reply     ACK LF   flush   bands of 64k: 1 the archive, 2 messages, 3 fatal   flush

`NACK ...` stands in the place of ACK when the server can't begin at all. After a fatal message the stream is cut short
without its flush. Over HTTP the request is the body of POST git-upload-archive.

Source: gitprotocol-pack "git-upload-archive" (the service), git-upload-archive; rows HB-85, SEC-27.
"""

from typing import Final

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.pktline import FLUSH, HUNG_UP, Control, encode_text, iter_packets, strip_lf

ARGUMENTS_MAX: Final = 64

ARCHIVER_DIED: Final = "git upload-archive: archiver died with error"


def parse_archive_request(body: bytes) -> list[bytes]:
    """Return the arguments. Raises RemoteProtocolError with git's texts."""
    arguments: list[bytes] = []
    for packet in iter_packets(body):
        if isinstance(packet, Control):
            return arguments
        if len(arguments) >= ARGUMENTS_MAX:
            raise RemoteProtocolError(f"Too many options (>{ARGUMENTS_MAX - 1})")
        line = strip_lf(packet)
        if not line.startswith(b"argument "):
            raise RemoteProtocolError("'argument' token or flush expected")
        arguments.append(line.removeprefix(b"argument "))
    raise RemoteProtocolError(HUNG_UP)


def encode_acknowledgment() -> bytes:
    """Return what comes before the bands."""
    return encode_text(b"ACK") + FLUSH
