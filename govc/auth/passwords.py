"""HTTP Basic's passwords against the htpasswd file.

A check costs 50 to 100 ms of CPU, and git sends the password with every request. So: what proved right is remembered
for a short while (under a keyed digest, with the hash that it was proved against: another hash in the file ends it at
once), equal checks fly together, the others queue at a gate, and the hashing runs in a thread.

Time tells nothing: whoever is unknown is checked against somebody's hash, in vain; every check that isn't remembered
costs exactly one hashing.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from govc.auth.gate import Busy, Clock, ExpiringCache, Flights, Gate
from govc.auth.htpasswd import Entry, PasswordFile
from govc.auth.principal import LoginBusy, LoginFailed, Principal
from govc.auth.watched import WatchedValue

METHOD = "password"
PASSWORD_BYTES_MAX = 1024
REMEMBERED_MAX = 4096

Verify = Callable[[Entry, bytes], bool]
CallBlocking = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordLimits:
    """Per worker."""

    running_max: int = 2
    waiting_max: int = 64
    wait_seconds: float = 10.0
    remember_seconds: float = 60.0


class PasswordChecker:
    """Checks names and passwords. May switch."""

    def __init__(
        self,
        file: WatchedValue[PasswordFile],
        verify: Verify,
        call_blocking: CallBlocking,
        limits: PasswordLimits,
        clock: Clock | None = None,
    ) -> None:
        self._file = file
        self._verify = verify
        self._call_blocking = call_blocking
        self._limits = limits
        self._gate = Gate(
            running_max=limits.running_max,
            waiting_max=limits.waiting_max,
            wait_seconds=limits.wait_seconds,
        )
        # A follower's leader waits at the gate and then computes.
        self._flights: Flights[bytes, bool] = Flights(limits.wait_seconds * 2)
        self._key = os.urandom(32)
        self._proved: ExpiringCache[bytes, bool] = (
            ExpiringCache(REMEMBERED_MAX) if clock is None else ExpiringCache(REMEMBERED_MAX, clock)
        )

    def check(self, user: str, password: bytes, client: str | None) -> Principal:
        """Return who it is. Raises LoginFailed, LoginBusy."""
        file = self._file.get()
        entry, stand_in = file.entries.get(user), file.stand_in_for(user)
        tested = entry if entry is not None else stand_in
        if tested is None:
            raise LoginFailed(METHOD, "the file holds no users")
        if len(password) > PASSWORD_BYTES_MAX:
            # Longer than any hash of ours looks, and the same for whoever exists or not.
            raise LoginFailed(METHOD, "password too long")
        digest = self._digest(user, password, tested)
        if entry is not None and self._proved.get(digest):
            return Principal(user=user, method=METHOD)
        try:
            matches = self._flights.run(digest, lambda: self._compute(tested, password, client))
        except Busy as error:
            raise LoginBusy(METHOD, str(error)) from error
        if not matches or entry is None:
            # An unknown name stays out of the log: people type passwords there.
            who = "an unknown user" if entry is None else f"wrong password of {user!r}"
            raise LoginFailed(METHOD, who)
        self._proved.put(digest, True, self._limits.remember_seconds)
        return Principal(user=user, method=METHOD)

    def _compute(self, entry: Entry, password: bytes, client: str | None) -> bool:
        with self._gate.enter(client):
            matches: bool = self._call_blocking(self._verify, entry, password)
            return matches

    def _digest(self, user: str, password: bytes, entry: Entry) -> bytes:
        """Return what stands for these credentials and this hash; nobody outside can compute it."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (user.encode("utf-8", "surrogatepass"), entry.text.encode("ascii"), password):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return digest.digest()
