"""The issuer's public keys (JWKS), from a file or from a URL, as they are now.

A file is watched like every other. A URL is read by a thread of its own, never by a request: at the start, every
`refresh_seconds`, and when a token names a key that we don't know (issuers rotate), but not more often than every
`RETRY_SECONDS`. A request that meets an unknown key waits for a reading that is due or under way, a short while, so
that the first token under a new key already works. Keys that were read stay when the issuer doesn't answer; a key
that the issuer no longer lists counts no more.

Only public keys of the three kinds that we take are kept; a shared secret ("oct") in the set is dropped, so that no
token can be checked by one.

Source: RFC 7517; OpenID Connect Core "Rotation of Asymmetric Signing Keys".
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import requests
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from govc.auth.key_items import parse_key_items
from govc.auth.principal import BadAuthFile
from govc.auth.watched import OnRead, WatchedValue, ignore_reads

log = logging.getLogger(__name__)

KIND = "jwt_keys"
RSA_BITS_MIN = 2048
RESPONSE_BYTES_MAX = 1 << 20
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 5.0
UNKNOWN_KEY_WAIT_SECONDS = 3.0

JwtKey = RSAKey | ECKey | OKPKey


class PublicKey(NamedTuple):
    """A key and the name that tokens call it by ("": none); `algorithms` it may check."""

    kid: str
    key: JwtKey
    algorithms: tuple[str, ...]


KeySet = tuple[PublicKey, ...]


class KeySource(Protocol):
    """Where a checker gets keys."""

    def current(self) -> KeySet:
        """Return all keys of this moment: the same object as long as nothing has changed. Doesn't wait."""

    def candidates(self, kid: str) -> KeySet:
        """Return the keys that a token which names `kid` ("": none) may be signed with. May switch."""


def parse_keys(content: bytes, path: str) -> KeySet:
    """Return the usable keys of a JWKS document. Raises BadAuthFile when it is none, or holds no usable key."""
    keys = [key for item in parse_key_items(content, path) if (key := _parse_key(item, path)) is not None]
    if not keys:
        raise BadAuthFile(path, 0, "no key in it can check RS256, ES256 or EdDSA")
    return tuple(keys)


def _parse_key(item: Any, path: str) -> PublicKey | None:
    if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    uses = item.get("key_ops", ["verify"])
    if item.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return None
    try:
        key = import_key(item)
        algorithms = _algorithms(key)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: a key is left out: %s", path, type(error).__name__)
        return None
    if "alg" in item:
        algorithms = tuple(name for name in algorithms if name == item["alg"] or name == "Ed25519" == item["alg"])
    kid = item.get("kid", "")
    if not algorithms or not isinstance(kid, str):
        return None
    assert isinstance(key, RSAKey | ECKey | OKPKey)
    return PublicKey(kid, key, algorithms)


def _algorithms(key: Any) -> tuple[str, ...]:
    """Return what a key may check: decided by the key, never by a token."""
    if isinstance(key, RSAKey):
        return ("RS256",) if key.public_key.key_size >= RSA_BITS_MIN else ()
    if isinstance(key, ECKey):
        return ("ES256",) if key.curve_name == "P-256" else ()
    if isinstance(key, OKPKey):
        return ("EdDSA", "Ed25519") if key.curve_name == "Ed25519" else ()
    return ()


def choose_keys(keys: KeySet, kid: str) -> KeySet:
    """Return the keys that fit a token's `kid`; a token without one may be signed with any."""
    return tuple(key for key in keys if key.kid == kid) if kid else keys


class FileKeys:
    """Keys in a file of ours."""

    def __init__(self, path: str, on_read: OnRead = ignore_reads) -> None:
        """Raises BadAuthFile."""
        self._file = WatchedValue(KIND, path, parse_keys, on_read=on_read)

    def current(self) -> KeySet:
        """Return all keys."""
        return self._file.get()

    def candidates(self, kid: str) -> KeySet:
        """Return the keys that may have signed."""
        return choose_keys(self._file.get(), kid)


Fetch = Callable[[str], bytes]


def fetch_document(url: str) -> bytes:
    """Return a document of bounded size. Raises OSError (requests' errors are). May switch."""
    with requests.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True) as response:
        if response.status_code != 200:
            raise OSError(f"status {response.status_code}")
        content = bytearray()
        deadline = time.monotonic() + 2 * TIMEOUT_SECONDS
        for piece in response.iter_content(64 << 10):
            content += piece
            if len(content) > RESPONSE_BYTES_MAX:
                raise OSError("answer too large")
            if time.monotonic() > deadline:
                raise OSError("answer too slow")
    return bytes(content)


class UrlKeys:
    """Keys that an issuer publishes, read by a thread that lives as long as the process."""

    def __init__(
        self,
        url: str,
        refresh_seconds: float,
        *,
        fetch: Fetch = fetch_document,
        on_read: OnRead = ignore_reads,
        retry_seconds: float = RETRY_SECONDS,
        wait_seconds: float = UNKNOWN_KEY_WAIT_SECONDS,
    ) -> None:
        """Starts reading at once and waits for nothing."""
        self._url = url
        self._refresh_seconds = refresh_seconds
        self._retry_seconds = retry_seconds
        self._wait_seconds = wait_seconds
        self._fetch = fetch
        self._on_read = on_read
        self._keys: KeySet = ()
        self._content = b""
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._reading: threading.Event | None = threading.Event()
        self._read_at = float("-inf")
        self._is_closed = False
        threading.Thread(target=self._run, name="govc-jwt-keys", daemon=True).start()

    def current(self) -> KeySet:
        """Return all keys."""
        return self._keys

    def candidates(self, kid: str) -> KeySet:
        """Return the keys that may have signed; waits a short while for one that isn't known yet. May switch."""
        found = choose_keys(self._keys, kid)
        if not found:
            reading = self._ask_for_reading()
            if reading is not None and reading.wait(self._wait_seconds):
                found = choose_keys(self._keys, kid)
        return found

    def _ask_for_reading(self) -> threading.Event | None:
        """Return the event of a reading that is due or under way; None when the last one was just now."""
        with self._lock:
            if self._reading is None:
                if time.monotonic() - self._read_at < self._retry_seconds:
                    return None
                self._reading = threading.Event()
            self._wanted.set()
            return self._reading

    def close(self) -> None:
        """End the thread, soon; what was read stays."""
        self._is_closed = True
        self._wanted.set()

    def _run(self) -> None:
        while not self._is_closed:
            self._read()
            with self._lock:
                done, self._reading = self._reading, None
                self._read_at = time.monotonic()
                if not self._is_closed:
                    self._wanted.clear()
            if done is not None:
                done.set()
            # Without keys nobody gets in: try again soon.
            self._wanted.wait(self._refresh_seconds if self._keys else self._retry_seconds)
            with self._lock:
                if self._reading is None:
                    self._reading = threading.Event()

    def _read(self) -> None:
        try:
            content = self._fetch(self._url)
            if content != self._content:
                self._keys = parse_keys(content, self._url)
                self._content = content
        except (OSError, BadAuthFile) as error:
            self._on_read(KIND, False)
            log.error("%s: keys not read, %d from before still count: %s", self._url, len(self._keys), error)
            return
        self._on_read(KIND, True)
