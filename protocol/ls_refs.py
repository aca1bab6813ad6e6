"""The v2 command `ls-refs`.

Arguments `peel`, `symrefs`, `unborn`, `ref-prefix P` (repeated). One line per ref:

    OID SP name [SP symref-target:TARGET] [SP peeled:OID] LF
    unborn SP HEAD SP symref-target:TARGET LF

and a flush at the end.

Source: gitprotocol-v2 "ls-refs"; rows V2-12..19.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.pktline import encode_text
from govc.protocol.text import quote_line

PREFIX_COUNT_MAX = 65536  # from here on git drops the filter altogether; memory stays bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class LsRefsRequest:
    """What the client asks for. No prefixes means every ref."""

    peel: bool = False
    symrefs: bool = False
    unborn: bool = False
    prefixes: tuple[bytes, ...] = ()


def parse_ls_refs(args: Iterable[bytes]) -> LsRefsRequest:
    """Parse the argument lines (without LF). Raises RemoteProtocolError on one that isn't known."""
    flags = dict.fromkeys((b"peel", b"symrefs", b"unborn"), False)
    prefixes: list[bytes] = []
    for arg in args:
        if arg in flags:
            flags[arg] = True
        elif arg.startswith(b"ref-prefix "):
            if len(prefixes) < PREFIX_COUNT_MAX:
                prefixes.append(arg[11:])
        else:
            raise RemoteProtocolError(f"unexpected line: '{quote_line(arg)}'")
    return LsRefsRequest(
        peel=flags[b"peel"],
        symrefs=flags[b"symrefs"],
        unborn=flags[b"unborn"],
        prefixes=tuple(prefixes) if len(prefixes) < PREFIX_COUNT_MAX else (),
    )


def encode_ref_line(
    name: bytes, oid: bytes | None, *, symref_target: bytes | None = None, peeled: bytes | None = None
) -> bytes:
    """Return the packet for one ref; `oid` None spells an unborn ref.

    The caller passes `symref_target` and `peeled` only when the client asked for them.
    """
    line = b"%b %b" % (b"unborn" if oid is None else oid.hex().encode("ascii"), name)
    if symref_target is not None:
        line += b" symref-target:" + symref_target
    if peeled is not None:
        line += b" peeled:" + peeled.hex().encode("ascii")
    return encode_text(line)
