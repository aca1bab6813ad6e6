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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import HEADER_SIZE, TICK_BYTES, no_tick
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

HEADERS: Final = frozenset((b"certificate", b"pusher", b"pushee", b"nonce", b"push-option"))
"""What is kept of the headers: others, of which there may be millions, say nothing to anybody."""

_STAMPED = re.compile(rb"([1-9][0-9]{0,18})-")


_PIECE_BYTES = 1 << 20
"""So much is searched between two ticks."""


class Certificate(NamedTuple):
    """A push certificate taken apart: values of HEADERS by name, in order; the signed bytes, in which the commands
    begin at `commands_at`; the signature.
    """

    headers: dict[bytes, list[bytes]]
    commands_at: int
    payload: bytes
    signature: bytes

    def iter_command_lines(self, tick: Callable[[], None] = no_tick) -> Iterator[bytes]:
        """Yield the lines of the commands. `tick` is called every millisecond or so of the work."""
        if self.commands_at < len(self.payload):
            yield from _iter_lines(self.payload, self.commands_at, len(self.payload), tick)

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


def parse_certificate(text: bytes, tick: Callable[[], None] = no_tick) -> Certificate:
    """Take a push certificate apart. Raises RemoteProtocolError when no blank line ends its headers.

    `tick` is called every millisecond or so of the work: some kilobytes of a request may unfold to millions of lines.
    """
    header_end = _find_blank_line(text, tick)
    if header_end < 0:
        raise RemoteProtocolError(f"malformed push certificate {quote_line(text[:100])}")
    payload_end = _find_signature(text, tick)
    headers: dict[bytes, list[bytes]] = {}
    for line in _iter_lines(text, 0, header_end + 1, tick):
        name, _, value = line.partition(b" ")
        if name in HEADERS:
            headers.setdefault(name, []).append(value)
    return Certificate(headers, header_end + 2, text[:payload_end], text[payload_end:])


def _iter_lines(text: bytes, at: int, end: int, tick: Callable[[], None]) -> Iterator[bytes]:
    """Yield the lines of a part of a text that isn't empty, without their LFs."""
    end -= text.endswith(b"\n", at, end)
    left = TICK_BYTES
    while (stop := text.find(b"\n", at, end)) >= 0:
        yield text[at:stop]
        left -= HEADER_SIZE + stop - at
        at = stop + 1
        if left <= 0:
            left = TICK_BYTES
            tick()
    yield text[at:end]


def _find_blank_line(text: bytes, tick: Callable[[], None]) -> int:
    """Return where the first of two LFs is, -1 when there are none."""
    for start in range(0, len(text), _PIECE_BYTES):
        found = text.find(b"\n\n", start, start + _PIECE_BYTES + 1)
        if found >= 0:
            return found
        tick()
    return -1


def _find_signature(text: bytes, tick: Callable[[], None]) -> int:
    """Return where the last line that opens a signature begins, or the length of the text."""
    longest = max(map(len, SIGNATURE_STARTS))
    for end in range(len(text), 0, -_PIECE_BYTES):
        piece = max(0, end - _PIECE_BYTES), end + longest
        found = max(text.rfind(b"\n" + start, *piece) for start in SIGNATURE_STARTS)
        if found >= 0:
            return found + 1
        tick()
    return 0 if text.startswith(tuple(SIGNATURE_STARTS)) else len(text)


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
