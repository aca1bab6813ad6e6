"""The v2 command `ls-refs`: the refs that this caller asks for and may see.

Source: gitprotocol-v2 "ls-refs"; rows V2-12..20.
"""

from collections.abc import Iterator
from itertools import chain

from govc.protocol.ls_refs import LsRefsRequest, encode_ref_line, parse_ls_refs
from govc.protocol.pktline import FLUSH
from govc.refs.table import Ref
from govc.repo.runtime import PLAIN, Runtime
from govc.repo.snapshot import Snapshot
from govc.service.listing import Style, listing
from govc.service.pacing import Pace, paced_runs, remembered
from govc.service.policy import UploadPolicy
from govc.service.shown import HEAD, ShownRefs

PREFIXES_KEPT_MAX = 16
"""Answers to stock clients are remembered; more prefixes than they send are not worth the memory."""


def ls_refs(snapshot: Snapshot, namespace: bytes, args: list[bytes], runtime: Runtime = PLAIN) -> tuple[bytes, bool]:
    """Return the answer, and whether the snapshot remembers it. Raises RemoteProtocolError. May switch."""
    request = parse_ls_refs(paced_runs(args, runtime.pause))
    key = ("ls-refs", namespace, request)

    def make() -> tuple[bytes, bool]:
        shown = ShownRefs(snapshot, "uploadpack", namespace)
        answer = b"".join(_iter_lines(snapshot, shown, request, Pace(runtime.pause)))
        return answer, shown.is_complete and len(request.prefixes) <= PREFIXES_KEPT_MAX

    answer = remembered(snapshot, key, runtime, make)
    return answer, key in snapshot.derived


def _iter_lines(
    snapshot: Snapshot, shown: ShownRefs, request: LsRefsRequest, pace: Pace
) -> Iterator[bytes | memoryview]:
    peel = snapshot.peel if request.peel else None

    def encode(ref: Ref) -> bytes:
        return encode_ref_line(
            ref.name,
            ref.oid,
            symref_target=ref.symref_target if request.symrefs else None,
            peeled=ref.peeled if request.peel else None,
        )

    if _wants(request, HEAD) and not shown.is_hidden(HEAD):
        yield _head_line(snapshot, shown, request)
    prefixes = _disjoint(request.prefixes)
    if prefixes == [b""]:
        # Packed refs are never symrefs, so their lines don't depend on that being asked.
        yield from listing(shown, Style("ls-refs peel" if request.peel else "ls-refs", encode, request.peel), pace)
    else:
        # One pace for all: those of prefixes that match nothing would each begin anew, and never pause.
        refs = chain.from_iterable(shown.iter_refs(prefix, peel=peel) for prefix in pace(prefixes))
        yield from map(encode, pace(refs))
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
    may_say_unborn = snapshot.config.remembered(UploadPolicy.from_config).unborn != "ignore"
    if request.unborn and may_say_unborn and target is not None:
        return encode_ref_line(HEAD, None, symref_target=target)
    return b""
