"""What the server says first: the body of GET info/refs?service=…

Encoded once per snapshot and way of asking, then answered from memory.

Source: gitprotocol-http "Smart Clients", gitprotocol-v2 "Capability Advertisement"; rows HB-65, U0-04..19, V2-01..03,
RP-01..14.
"""

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from govc import __version__
from govc.protocol.advertisement import (
    AdvertisedRef,
    encode_advertised,
    encode_capability_advertisement,
    iter_advertisement,
    service_header,
)
from govc.protocol.capabilities import ReceivePackFeatures, UploadPackFeatures, V2Features, sanitize_agent
from govc.protocol.push_certificate import make_nonce
from govc.refs.table import Ref
from govc.repo.runtime import PLAIN, Runtime
from govc.repo.signed_push import nonce_seed
from govc.repo.snapshot import Snapshot
from govc.service.context import RECEIVE_PACK, RequestContext
from govc.service.elsewhere import advertises_bundle_uris, promisor_remotes
from govc.service.listing import Style, listing
from govc.service.pacing import Pace, remembered
from govc.service.policy import ReceivePolicy, UploadPolicy, check_receive_settings
from govc.service.shown import HEAD, ShownRefs


def agent(environ: Mapping[str, str]) -> bytes:
    """Return our agent string: `git/govc-V-OS`, or GIT_USER_AGENT (HB-74).

    It starts with `git/` as JGit's and others' do not: stock clients don't look at it, and log analysers do.
    """
    given = environ.get("GIT_USER_AGENT")
    return sanitize_agent(given if given else f"git/govc-{__version__}-{platform.system()}")


def session_id(context: RequestContext, is_on: bool) -> bytes:
    """Return a session id where `transfer.advertiseSID` asks for one, else b""."""
    if not is_on:
        return b""
    return sanitize_agent(context.request_id or f"{os.getpid()}-{secrets.token_hex(8)}")


def v2_features(snapshot: Snapshot, context: RequestContext, environ: Mapping[str, str]) -> V2Features:
    """Return what this repository offers in protocol v2."""
    policy = snapshot.config.remembered(UploadPolicy.from_config)
    return V2Features(
        algo=snapshot.algo,
        agent=agent(environ),
        unborn=policy.unborn == "advertise",
        filter=policy.allow_filter,
        ref_in_want=policy.allow_ref_in_want,
        sideband_all=policy.allow_sideband_all,
        session_id=session_id(context, policy.advertise_session_id),
        object_info=policy.advertise_object_info,
        packfile_uris=bool(snapshot.config.find_entries("uploadpack.blobpackfileuri")),
        bundle_uri=advertises_bundle_uris(snapshot.config),
        promisor_remote=promisor_remotes(snapshot.config),
    )


PIECES_BYTES_MIN = 256 << 10
_SMALL_BYTES = 32 << 10


class Pieces(NamedTuple):
    """A large body, not put together: after each push it is another one, and to copy megabytes of lines of refs that
    are what they were costs more than to send them.
    """

    length: int
    chunks: tuple[bytes, ...]

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> "Pieces":
        """Take them as they are, small ones together."""
        chunks: list[bytes] = []
        small: list[bytes] = []
        waiting = length = 0
        for piece in pieces:
            length += len(piece)
            if len(piece) < _SMALL_BYTES:
                small.append(piece)
                waiting += len(piece)
            if small and (len(piece) >= _SMALL_BYTES or waiting >= _SMALL_BYTES):
                chunks.append(b"".join(small))
                small, waiting = [], 0
            if len(piece) >= _SMALL_BYTES:
                chunks.append(piece)
        if small:
            chunks.append(b"".join(small))
        return cls(length, tuple(chunks))


def advertisement_key(context: RequestContext) -> tuple[Any, ...]:
    """Return where in `derived` the body lies."""
    return "advertisement", context.service, context.protocol_version, context.namespace


def advertise(
    snapshot: Snapshot,
    context: RequestContext,
    environ: Mapping[str, str],
    runtime: Runtime = PLAIN,
    *,
    now_seconds: Callable[[], float] = time.time,
) -> bytes | Pieces:
    """Return the whole body, from the snapshot's memory when it was asked for before; in pieces where it is large and
    mostly asked for once, for a push. May switch.
    """
    key = advertisement_key(context)
    seed = nonce_seed(snapshot.config) if context.service == RECEIVE_PACK else b""

    def make() -> tuple[bytes | Pieces, bool]:
        section = "receive" if context.service == RECEIVE_PACK else "uploadpack"
        shown = ShownRefs(snapshot, section, context.namespace)
        pieces = list(_iter_body(shown, context, environ, Pace(runtime.pause)))
        is_large = context.service == RECEIVE_PACK and sum(map(len, pieces)) > PIECES_BYTES_MIN
        body = Pieces.of(pieces) if is_large else b"".join(pieces)
        return body, shown.is_complete and not snapshot.config.get_bool("transfer.advertisesid", False)

    body = remembered(snapshot, key, runtime, make)
    if not seed:
        return body
    # Only the nonce is new each time, and always as long.
    stands, said = b"push-cert=" + _placeholder(snapshot), b"push-cert=" + _nonce(snapshot, seed, now_seconds)
    if isinstance(body, Pieces):
        first, *others = body.chunks  # the first line, with the capabilities, is in it
        return Pieces(body.length, (first.replace(stands, said, 1), *others))
    return body.replace(stands, said, 1)


def _nonce(snapshot: Snapshot, seed: bytes, now_seconds: Callable[[], float]) -> bytes:
    return make_nonce(seed, snapshot.algo, int(now_seconds()))


def _placeholder(snapshot: Snapshot) -> bytes:
    """Return what stands for a nonce in a remembered answer."""
    return b"0" * 10 + b"-" + snapshot.algo.zero_hex


def _iter_body(shown: ShownRefs, context: RequestContext, environ: Mapping[str, str], pace: Pace) -> Iterator[bytes]:
    if context.service == RECEIVE_PACK:
        if context.protocol_version != 2:  # asked for v2, git leaves the line out and tells v0 all the same (HB-66)
            yield service_header(b"git-receive-pack")
        yield from _receive_pack_body(shown, context, environ, pace)
    elif context.protocol_version == 2:
        yield encode_capability_advertisement(v2_features(shown.snapshot, context, environ).encode_lines())
    else:
        yield service_header(b"git-upload-pack")
        yield from _upload_pack_body(shown, context, environ, pace)


def _upload_pack_body(
    shown: ShownRefs, context: RequestContext, environ: Mapping[str, str], pace: Pace
) -> Iterator[bytes]:
    snapshot = shown.snapshot
    policy = snapshot.config.remembered(UploadPolicy.from_config)
    head = shown.head()
    features = UploadPackFeatures(
        algo=snapshot.algo,
        agent=agent(environ),
        head_target=head.target if head.oid is not None else None,
        allow_tip_sha1_in_want=policy.allow_tip,
        allow_reachable_sha1_in_want=policy.allow_reachable,
        filter=policy.allow_filter,
        session_id=session_id(context, policy.advertise_session_id),
    )
    refs: Iterable[AdvertisedRef]
    encoded: Iterable[bytes] = ()
    if head.oid is not None and not shown.is_hidden(HEAD):
        refs = (AdvertisedRef(HEAD, head.oid, snapshot.table.peeled(head.oid, snapshot.peel)),)
        encoded = listing(shown, _UPLOAD_STYLE, pace)
    else:  # the first ref's line says the capabilities
        refs = map(_advertised, pace(shown.iter_refs(peel=snapshot.peel)))
    return iter_advertisement(
        refs,
        capabilities=features.encode(),
        algo=snapshot.algo,
        shallows=sorted(snapshot.shallow),
        version=context.protocol_version,
        encoded=encoded,
    )


def _advertised(ref: Ref) -> AdvertisedRef:
    return AdvertisedRef(ref.name, ref.oid, ref.peeled)


_UPLOAD_STYLE = Style("advertised", lambda ref: encode_advertised(_advertised(ref)), peel=True)


def _receive_pack_body(
    shown: ShownRefs, context: RequestContext, environ: Mapping[str, str], pace: Pace
) -> Iterator[bytes]:
    snapshot = shown.snapshot
    snapshot.config.remembered(check_receive_settings)
    refs: Iterable[AdvertisedRef]
    encoded: Iterable[bytes] = ()
    first = None if shown.prefix or snapshot.alternate_tips else next(shown.iter_refs(), None)
    if first is None:
        refs = pace(_advertised_for_push(shown))
    else:
        refs = (_bare(first),)
        # Of refs that are hidden there is an empty piece. Small ones go on as one: each hand costs more than they do.
        beginning, *others = Pieces.of(filter(None, listing(shown, _RECEIVE_STYLE, pace))).chunks
        encoded = (beginning[len(_RECEIVE_STYLE.encode(first)) :], *others)
    return iter_advertisement(
        refs,
        capabilities=_receive_capabilities(snapshot, context, environ),
        algo=snapshot.algo,
        shallows=sorted(snapshot.shallow),
        version=1 if context.protocol_version == 1 else 0,
        encoded=encoded,
    )


def _receive_capabilities(snapshot: Snapshot, context: RequestContext, environ: Mapping[str, str]) -> bytes:
    """Return what is said behind the first ref: after each push the same."""
    config = snapshot.config
    kept = snapshot.lasting.get("receive capabilities")
    if kept is not None and kept[0] is config:
        known: bytes = kept[1]
        return known
    policy = config.remembered(ReceivePolicy.from_config)
    has_session = config.get_bool("transfer.advertisesid", False)
    said = ReceivePackFeatures(
        algo=snapshot.algo,
        agent=agent(environ),
        atomic=policy.advertise_atomic,
        ofs_delta=config.get_bool("repack.usedeltabaseoffset", True),
        push_cert_nonce=_placeholder(snapshot) if nonce_seed(config) else b"",
        push_options=policy.advertise_push_options,
        session_id=session_id(context, has_session),
    ).encode()
    if not has_session:
        snapshot.lasting["receive capabilities"] = (config, said)
    return said


def _bare(ref: Ref) -> AdvertisedRef:
    return AdvertisedRef(ref.name, ref.oid)


_RECEIVE_STYLE = Style("advertised bare", lambda ref: encode_advertised(_bare(ref)), peel=False)


def _advertised_for_push(shown: ShownRefs) -> Iterator[AdvertisedRef]:
    """Yield the refs, and `.have` lines: tips that the client may leave out of its pack though they aren't refs here.

    Those of other namespaces stand where their refs do, those of alternates at the end, as in git.
    """
    seen: set[bytes] = set()
    for ref, is_inside in shown.iter_refs_everywhere():
        if is_inside:
            seen.add(ref.oid)
            yield AdvertisedRef(ref.name, ref.oid)
        elif ref.oid not in seen:
            seen.add(ref.oid)
            yield AdvertisedRef(b".have", ref.oid)
    for oid in shown.snapshot.alternate_tips:
        if oid not in seen:
            seen.add(oid)
            yield AdvertisedRef(b".have", oid)
