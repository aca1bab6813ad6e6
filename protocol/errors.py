"""What can go wrong on the wire.

Two children, as in h11: *Remote* is the peer's fault and has an answer for the peer; *Local* is a bug of
ours.
"""


class ProtocolError(Exception):
    """The root of everything that the wire can raise."""


class LocalProtocolError(ProtocolError):
    """We asked for something that the protocol forbids: a bug on our side."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules.

    `text` is safe to send back (an `ERR` packet, band 3 or an `unpack` line). `http_status` is the answer
    when nothing was sent yet. `offset` is the position in the stream, in bytes, where known.
    """

    def __init__(self, text: str, *, http_status: int = 400, offset: int | None = None) -> None:
        super().__init__(text if offset is None else f"{text} (at byte {offset})")
        self.text = text
        self.http_status = http_status
        self.offset = offset
