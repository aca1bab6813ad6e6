"""Protocol v2: the fetch of every day, read at once instead of line by line.

    HEAD                     command, capabilities, delim, thin-pack and the like: the same for all of a client
    want OID LF …            one to WANTS_MAX
    [have OID LF …]          up to HAVES_MAX
    [done LF]
    flush                    and nothing behind it

in the spelling that git's client uses (lengths and names in small letters). What isn't exactly so is None here and read
by `fetch`, which also says what is wrong with it: its answer to such a request is the same, and what it found out about
a head is kept.

Source: as `fetch`.
"""

import re
from functools import lru_cache
from typing import Final

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch import HEAD_BYTES_MAX, parse_command_request, parse_fetch_args
from govc.protocol.fetch_request import FetchRequest, LineChecks
from govc.protocol.oid import SHA1, HashAlgorithm
from govc.protocol.pktline import FLUSH, Control, iter_packets

WANTS_MAX: Final = 32
HAVES_MAX: Final = 256

_WANT: Final = b"0032want "
_LINE_BYTES: Final = 50
_HEX_AT: Final = len(_WANT)
_OPTIONS: Final = frozenset((b"thin-pack", b"no-progress", b"include-tag", b"ofs-delta"))
_REST: Final = re.compile(
    rb"((?:0032want [0-9a-f]{40}\n){1,%d})((?:0032have [0-9a-f]{40}\n){0,%d})(0009done\n)?0000" % (WANTS_MAX, HAVES_MAX)
)


def parse_plain_fetch(
    body: bytes, algo: HashAlgorithm, *, commands: frozenset[bytes], keys: frozenset[bytes]
) -> FetchRequest | None:
    """Return what a body asks for, None when it is to be read by `parse_command_request`.

    Nothing of it was looked at yet: `check_wants` is to be called.
    """
    start = body.find(_WANT, 0, HEAD_BYTES_MAX)
    if start < 0 or algo is not SHA1:
        return None
    match = _REST.fullmatch(body, start)
    options = _read_head(body[:start], commands, keys) if match is not None else None
    if match is None or options is None:
        return None
    wants, haves, done = match.groups()
    return FetchRequest(
        wants=tuple(dict.fromkeys(_read_oids(wants))),
        haves=tuple(_read_oids(haves)),
        done=done is not None,
        thin_pack=options.thin_pack,
        ofs_delta=options.ofs_delta,
        no_progress=options.no_progress,
        include_tag=options.include_tag,
        side_band=options.side_band,
    )


def check_wants(request: FetchRequest, checks: LineChecks) -> None:
    """Show its wants to `checks`, as `fetch` does. Raises RemoteProtocolError."""
    if not checks.wants(request.wants):
        for oid in request.wants:
            checks.want(oid)


def _read_oids(lines: bytes) -> list[bytes]:
    return [
        bytes.fromhex(lines[at : at + SHA1.hex_size].decode("ascii")) for at in range(_HEX_AT, len(lines), _LINE_BYTES)
    ]


@lru_cache(maxsize=64)
def _read_head(head: bytes, commands: frozenset[bytes], keys: frozenset[bytes]) -> FetchRequest | None:
    """Return the options that stand before the first want; None when there is anything else in it, or wrong."""
    try:
        if Control.FLUSH in iter_packets(head):
            return None  # it ends the request: what follows is another one, which nobody looks at (V2-07)
        command = parse_command_request(head + FLUSH, SHA1.name, commands=commands, keys=keys)
        if command is None or command.name != b"fetch" or command.fault is not None or not command.args:
            return None
        return parse_fetch_args(command.args, SHA1) if _OPTIONS.issuperset(command.args) else None
    except RemoteProtocolError:
        return None
