"""Push certificates: what a signed push says, and the nonce that shows that it was said to us, and just now.

    certificate version 0.1
    pusher <ident>
    pushee <url>
    nonce <nonce>
    push-option <option>                 as often as there are options, in their order
    (blank line)
    <old> <new> <refname>                the commands; these count, not any others
    -----BEGIN ... SIGNATURE-----        everything above is signed

A nonce is `<seconds>-<HMAC>`, in hex, by the repository's own hash. The HMAC's key is "<path>:<seconds>" and its text
is receive.certNonceSeed (git has them the other way round than one would, and so must we). Nothing is remembered:
whoever has the seed can tell a nonce that some process of this server gave out, and when. Over HTTP the path is always
"." (git-http-backend stands in the repository), so nonces of a git beside us are good here.

Source: gitprotocol-pack "Push Certificate"; git-config "receive.certNonceSeed", "receive.certNonceSlop"; RFC 2104;
rows RP-05, RP-69..RP-73.
"""

import hmac
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import strip_lf
from govc.protocol.text import quote_line

SERVICE_PATH: Final = b"."
"""The path that git-http-backend gives to receive-pack."""

SIGNATURE_STARTS: Final = {
    b"-----BEGIN PGP SIGNATURE-----": "openpgp",
    b"-----BEGIN PGP MESSAGE-----": "openpgp",
    b"-----BEGIN SIGNED MESSAGE-----": "x509",
    b"-----BEGIN SSH SIGNATURE-----": "ssh",
}
"""The line that opens a signature, and the format of gpg.format that it is in."""

_STAMPED = re.compile(rb"([1-9][0-9]{0,18})-")


class Certificate(NamedTuple):
    """A push certificate taken apart: header values by name, in order; the signed bytes; the signature."""

    headers: dict[bytes, list[bytes]]
    command_lines: list[bytes]
    payload: bytes
    signature: bytes

    @property
    def push_options(self) -> tuple[bytes, ...]:
        """The options that the pusher signed, in order."""
        return tuple(self.headers.get(b"push-option", ()))

    @property
    def nonce(self) -> bytes | None:
        """The nonce that the pusher signed, None when there is none."""
        return self.headers.get(b"nonce", [None])[0]

    @property
    def signature_format(self) -> str | None:
        """ "openpgp", "x509" or "ssh"; None when nothing was signed."""
        return next((name for start, name in SIGNATURE_STARTS.items() if self.signature.startswith(start)), None)


def parse_certificate(text: bytes) -> Certificate:
    """Take a push certificate apart. Raises RemoteProtocolError when no blank line ends its headers."""
    header_end = text.find(b"\n\n")
    if header_end < 0:
        raise RemoteProtocolError(f"malformed push certificate {quote_line(text[:100])}")
    payload_end = _find_signature(text)
    headers: dict[bytes, list[bytes]] = {}
    for line in text[:header_end].split(b"\n"):
        name, _, value = line.partition(b" ")
        headers.setdefault(name, []).append(value)
    commands = text[header_end + 2 : payload_end]
    lines = strip_lf(commands).split(b"\n") if commands else []
    return Certificate(headers, lines, text[:payload_end], text[payload_end:])


def _find_signature(text: bytes) -> int:
    """Return where the last line that opens a signature begins, or the length of the text."""
    found = -1
    for start in SIGNATURE_STARTS:
        if text.startswith(start):
            found = max(found, 0)
        found = max(found, text.rfind(b"\n" + start) + 1 or -1)
    return found if found >= 0 else len(text)


def make_nonce(seed: bytes, algo: HashAlgorithm, seconds: int, path: bytes = SERVICE_PATH) -> bytes:
    """Return the nonce that this server gives out at that moment."""
    digest = hmac.new(b"%b:%d" % (path, seconds), seed, algo.name).hexdigest()
    return b"%d-%b" % (seconds, digest.encode("ascii"))


class NonceStatus(Enum):
    """What became of the nonce, in the words that hooks get."""

    OK = "OK"
    SLOP = "SLOP"
    BAD = "BAD"
    MISSING = "MISSING"
    UNSOLICITED = "UNSOLICITED"


@dataclass(frozen=True, slots=True)
class NonceCheck:
    """The verdict on a nonce. `nonce` is the one to show to hooks (b"": signed pushes are off here), `slop_seconds`
    how old a genuine one is when it is too old; negative when a clock runs ahead of ours.
    """

    status: NonceStatus
    nonce: bytes
    slop_seconds: int = 0


def check_nonce(
    received: bytes | None, *, seed: bytes, algo: HashAlgorithm, now_seconds: int, slop_seconds_max: int
) -> NonceCheck:
    """Judge the nonce of a certificate, statelessly.

    Within `slop_seconds_max` (0: never) a genuine older nonce counts as the one of this moment, as git has it.
    """
    own = make_nonce(seed, algo, now_seconds) if seed else b""
    if received is None:
        return NonceCheck(NonceStatus.MISSING, own)
    if not seed:
        return NonceCheck(NonceStatus.UNSOLICITED, own)
    stamp = _STAMPED.match(received)
    if stamp is None or not hmac.compare_digest(make_nonce(seed, algo, int(stamp[1])), received):
        return NonceCheck(NonceStatus.BAD, own)
    slop = now_seconds - int(stamp[1])
    if slop and not (slop_seconds_max and abs(slop) <= slop_seconds_max):
        return NonceCheck(NonceStatus.SLOP, own, slop)
    return NonceCheck(NonceStatus.OK, received, slop)
