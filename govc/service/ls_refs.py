"""The v2 command `ls-refs`: the refs that this caller asks for and may see.

Source: gitprotocol-v2 "ls-refs"; rows V2-12..20.
"""

from collections.abc import Iterator

from govc.protocol.ls_refs import LsRefsRequest, encode_ref_line, parse_ls_refs
from govc.protocol.pktline import FLUSH
from govc.repo.snapshot import Snapshot
from govc.service.policy import UploadPolicy
from govc.service.shown import HEAD, ShownRefs

LINES_PER_CHUNK = 1000


def ls_refs(snapshot: Snapshot, namespace: bytes, args: list[bytes]) -> Iterator[bytes]:
    """Yield the answer in chunks; the whole is remembered by the snapshot. Raises RemoteProtocolError."""
    request = parse_ls_refs(args)
    key = ("ls-refs", namespace, request)
    known = snapshot.derived.get(key)
    if known is None:
        shown = ShownRefs(snapshot, "uploadpack", namespace)
        known = b"".join(_iter_lines(snapshot, shown, request))
        if (
            shown.is_complete and len(request.prefixes) <= 16
        ):  # what stock clients send; anything longer is not worth the memory
            snapshot.derived[key] = known
    yield known


def _iter_lines(snapshot: Snapshot, shown: ShownRefs, request: LsRefsRequest) -> Iterator[bytes]:
    peel = snapshot.peel if request.peel else None
    if _wants(request, HEAD) and not shown.is_hidden(HEAD):
        yield _head_line(snapshot, shown, request)
    for prefix in _disjoint(request.prefixes):
        for ref in shown.iter_refs(prefix, peel=peel):
            yield encode_ref_line(
                ref.name,
                ref.oid,
                symref_target=ref.symref_target if request.symrefs else None,
                peeled=ref.peeled if request.peel else None,
            )
    yield FLUSH


def _wants(request: LsRefsRequest, name: bytes) -> bool:
    return not request.prefixes or any(name.startswith(prefix) for prefix in request.prefixes)


def _disjoint(prefixes: tuple[bytes, ...]) -> list[bytes]:
    """Return the prefixes below refs/ in order, without those that another one covers; [b""] for all refs."""
    if not prefixes or any(b"refs/".startswith(prefix) for prefix in prefixes):
        return [b""]
    kept: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if prefix.startswith(b"refs/") and not (kept and prefix.startswith(kept[-1])):
            kept.append(prefix)
    return kept


def _head_line(snapshot: Snapshot, shown: ShownRefs, request: LsRefsRequest) -> bytes:
    head = shown.head()
    target = head.target if request.symrefs else None
    if head.oid is not None:
        peeled = snapshot.table.peeled(head.oid, snapshot.peel) if request.peel else None
        return encode_ref_line(HEAD, head.oid, symref_target=target, peeled=peeled)
    may_say_unborn = UploadPolicy.from_config(snapshot.config).unborn != "ignore"
    if request.unborn and may_say_unborn and target is not None:
        return encode_ref_line(HEAD, None, symref_target=target)
    return b""
