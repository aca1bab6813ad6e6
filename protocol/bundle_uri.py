"""The v2 command `bundle-uri`: no arguments, a reply of `key=value` lines and a flush.

Which configuration keys are told is the caller's; a key with an empty value is left out (V2-50).

Source: gitprotocol-v2 "bundle-uri"; rows V2-49, V2-50.
"""

from collections.abc import Iterable

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.pktline import FLUSH, encode
from govc.protocol.text import quote_line


def check_bundle_uri_args(args: Iterable[bytes]) -> None:
    """Raise RemoteProtocolError when there is any argument."""
    for arg in args:
        raise RemoteProtocolError(f"bundle-uri: unexpected argument: '{quote_line(arg)}'")


def encode_bundle_uri(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the whole reply for (key, value) pairs, in their order."""
    return b"".join(encode(b"%b=%b" % pair) for pair in pairs if pair[1]) + FLUSH
