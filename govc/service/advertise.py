"""What the server says first: the body of GET info/refs?service=…

Encoded once per snapshot and way of asking, then answered from memory.

Source: gitprotocol-http "Smart Clients", gitprotocol-v2 "Capability Advertisement"; rows HB-65, U0-04..19, V2-01..03,
RP-01..14.
"""

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping

from govc import __version__
from govc.protocol.advertisement import (
    AdvertisedRef,
    encode_capability_advertisement,
    iter_advertisement,
    service_header,
)
from govc.protocol.capabilities import ReceivePackFeatures, UploadPackFeatures, V2Features, sanitize_agent
from govc.protocol.push_certificate import make_nonce
from govc.repo.runtime import PLAIN, Runtime
from govc.repo.signed_push import nonce_seed
from govc.repo.snapshot import Snapshot
from govc.service.context import RECEIVE_PACK, RequestContext
from govc.service.elsewhere import advertises_bundle_uris, promisor_remotes
from govc.service.pacing import paced, remembered
from govc.service.policy import ReceivePolicy, UploadPolicy
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
    policy = UploadPolicy.from_config(snapshot.config)
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


def advertise(
    snapshot: Snapshot,
    context: RequestContext,
    environ: Mapping[str, str],
    runtime: Runtime = PLAIN,
    *,
    now_seconds: Callable[[], float] = time.time,
) -> bytes:
    """Return the whole body, from the snapshot's memory when it was asked for before. May switch."""
    key = ("advertisement", context.service, context.protocol_version, context.namespace)
    seed = nonce_seed(snapshot.config) if context.service == RECEIVE_PACK else b""

    def make() -> tuple[bytes, bool]:
        section = "receive" if context.service == RECEIVE_PACK else "uploadpack"
        shown = ShownRefs(snapshot, section, context.namespace)
        body = b"".join(paced(_iter_body(shown, context, environ), runtime.pause))
        return body, shown.is_complete and not snapshot.config.get_bool("transfer.advertisesid", False)

    body = remembered(snapshot, key, runtime, make)
    if not seed:
        return body
    # Only the nonce is new each time, and always as long.
    return body.replace(b"push-cert=" + _placeholder(snapshot), b"push-cert=" + _nonce(snapshot, seed, now_seconds), 1)


def _nonce(snapshot: Snapshot, seed: bytes, now_seconds: Callable[[], float]) -> bytes:
    return make_nonce(seed, snapshot.algo, int(now_seconds()))


def _placeholder(snapshot: Snapshot) -> bytes:
    """Return what stands for a nonce in a remembered answer."""
    return b"0" * 10 + b"-" + snapshot.algo.zero_hex


def _iter_body(shown: ShownRefs, context: RequestContext, environ: Mapping[str, str]) -> Iterator[bytes]:
    if context.service == RECEIVE_PACK:
        yield service_header(b"git-receive-pack")
        yield from _receive_pack_body(shown, context, environ)
    elif context.protocol_version == 2:
        yield encode_capability_advertisement(v2_features(shown.snapshot, context, environ).encode_lines())
    else:
        yield service_header(b"git-upload-pack")
        yield from _upload_pack_body(shown, context, environ)


def _upload_pack_body(shown: ShownRefs, context: RequestContext, environ: Mapping[str, str]) -> Iterator[bytes]:
    snapshot = shown.snapshot
    policy = UploadPolicy.from_config(snapshot.config)
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
    return iter_advertisement(
        _advertised(shown),
        capabilities=features.encode(),
        algo=snapshot.algo,
        shallows=sorted(snapshot.shallow),
        version=context.protocol_version,
    )


def _advertised(shown: ShownRefs) -> Iterator[AdvertisedRef]:
    peel = shown.snapshot.peel
    head = shown.head()
    if head.oid is not None and not shown.is_hidden(HEAD):
        yield AdvertisedRef(HEAD, head.oid, shown.snapshot.table.peeled(head.oid, peel))
    for name, oid, peeled, _ in shown.iter_refs(peel=peel):
        yield AdvertisedRef(name, oid, peeled)


def _receive_pack_body(shown: ShownRefs, context: RequestContext, environ: Mapping[str, str]) -> Iterator[bytes]:
    snapshot = shown.snapshot
    policy = ReceivePolicy.from_config(snapshot.config)
    features = ReceivePackFeatures(
        algo=snapshot.algo,
        agent=agent(environ),
        atomic=policy.advertise_atomic,
        ofs_delta=snapshot.config.get_bool("repack.usedeltabaseoffset", True),
        push_cert_nonce=_placeholder(snapshot) if nonce_seed(snapshot.config) else b"",
        push_options=policy.advertise_push_options,
        session_id=session_id(context, snapshot.config.get_bool("transfer.advertisesid", False)),
    )
    return iter_advertisement(
        _advertised_for_push(shown),
        capabilities=features.encode(),
        algo=snapshot.algo,
        shallows=sorted(snapshot.shallow),
        version=1 if context.protocol_version == 1 else 0,
    )


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
