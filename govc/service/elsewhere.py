"""Where else a client may get objects: bundles, promisor remotes, packs on other servers.

All of it is configuration that is told to any reader once its switch is on, tokens included; everything is off by
default.

    bundle-uri         every `bundle.*` value of all scopes        uploadpack.advertiseBundleURIs
    promisor-remote    name, URL and the fields of                 promisor.advertise
                       promisor.sendFields of each promisor remote that has a URL
    packfile-uris      `blob pack-hash URI` of each                uploadpack.blobPackfileUri
                       blob that lies in a pack elsewhere

Source: gitprotocol-v2 "bundle-uri", "promisor-remote", git-config "promisor.*", technical/packfile-uri; rows V2-42,
V2-49, V2-50, V2-52, CF-17, CF-18, CF-20, CF-78, SEC-48.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from govc.config.config import Config, bool_of
from govc.errors import BadConfig
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

BUNDLE_URI_KEY = "uploadpack.advertisebundleuris"
_KNOWN_FIELDS = {"partialclonefilter": "partialCloneFilter", "token": "token"}
_SAFE = bytes(c for c in range(33, 127) if c not in b",;%")


def advertises_bundle_uris(config: Config) -> bool:
    """Say whether bundles are told of. A value that is no boolean counts as off, as in git."""
    try:
        return config.get_bool(BUNDLE_URI_KEY, False)
    except BadConfig:
        return False


def bundle_list(config: Config) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) pairs of the reply to bundle-uri, in the order of the configuration."""
    for entry in config.entries:
        if not entry.key.startswith("bundle."):
            continue
        if not entry.value:
            log.warning("config '%s' has no value", entry.key)
            continue
        yield _bytes(entry.key), _bytes(entry.value)


def promisor_remotes(config: Config) -> bytes:
    """Return the value of the `promisor-remote` capability, b"" for none.

    `name=N,url=U[,partialCloneFilter=F][,token=T]`, separated by semicolons, percent-encoded.
    """
    if not config.get_bool("promisor.advertise", False):
        return b""
    fields = _sent_fields(config)
    out = []
    for name in _promisor_names(config):
        url = config.get(f"remote.{name}.url")
        if not url:
            continue
        parts = [b"name=" + _encode(name), b"url=" + _encode(url)]
        for field in _KNOWN_FIELDS:
            value = config.get(f"remote.{name}.{field}") if field in fields else None
            if value:
                parts.append(_KNOWN_FIELDS[field].encode("ascii") + b"=" + _encode(value))
        out.append(b",".join(parts))
    return b";".join(out)


def _sent_fields(config: Config) -> set[str]:
    fields = set()
    for word in (config.get("promisor.sendfields") or "").split(","):
        if word.strip().lower() in _KNOWN_FIELDS:
            fields.add(word.strip().lower())
        elif word.strip():
            log.warning("unsupported field '%s' in 'promisor.sendFields' config", word.strip())
    return fields


def _promisor_names(config: Config) -> list[str]:
    """Return the promisor remotes in git's order: as they are first named, that of extensions.partialClone last."""
    names: dict[str, None] = {}
    for name, key, entry in config.iter_section("remote"):
        if name is not None and ((key == "promisor" and bool_of(entry)) or key == "partialclonefilter"):
            names[name] = None
    special = config.get("extensions.partialclone")
    if special:
        names.pop(special, None)
        names[special] = None
    return list(names)


class BlobElsewhere(NamedTuple):
    """A blob that need not be sent: `pack_hash` (hex) names the pack at `uri` that holds it."""

    oid: bytes
    pack_hash: bytes
    uri: bytes


def blobs_elsewhere(config: Config, algo: HashAlgorithm) -> tuple[BlobElsewhere, ...]:
    """Return the blobs of uploadpack.blobPackfileUri. Raises BadConfig with git's texts."""
    found: dict[bytes, BlobElsewhere] = {}
    for entry in config.find_entries("uploadpack.blobpackfileuri"):
        words = _bytes(entry.value or "").split(b" ", 2)
        oid = algo.parse_hex(words[0]) if len(words) == 3 else None
        if oid is None or algo.parse_hex(words[1]) is None or not words[2]:
            reason = "value of uploadpack.blobpackfileuri must be of the form '<object-hash> <pack-hash> <uri>'"
            raise BadConfig(entry.source, entry.line, reason)
        if oid in found:
            raise BadConfig(entry.source, entry.line, "object already configured in another uploadpack.blobpackfileuri")
        found[oid] = BlobElsewhere(oid, words[1], words[2])
    return tuple(found.values())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return b"".join(bytes((c,)) if c in _SAFE else b"%%%02x" % c for c in _bytes(text))
