"""How often somebody may ask: a bucket for each address, and one for each user.

The address pays for every request, before anybody looks at a password; a user pays as well once it is known who it is.
A git command is a conversation of several requests. Its first one is refused when the bucket is empty; the others
(`is_first` False) may take up to `burst` more, so that what was let in isn't broken off in the middle, and the refusal
is where git shows its text.
"""

from govc.errors import Refused
from govc.limits.bucket import Rate
from govc.limits.buckets import Buckets
from govc.limits.watch import NO_WATCH, LimitWatch

_ADDRESS, _USER = "rate_per_address", "rate_per_user"


class Rates:
    """The rates of one server. None: no limit."""

    def __init__(
        self, buckets: Buckets, address: Rate | None, user: Rate | None, *, watch: LimitWatch = NO_WATCH
    ) -> None:
        self._buckets = buckets
        self._address = address
        self._user = user
        self._watch = watch

    def check_address(self, client: str, *, is_first: bool) -> None:
        """Count a request from there. Raises Refused."""
        if self._address is not None:
            self._check(_ADDRESS, client, self._address, is_first, "Too many requests from your address")

    def check_user(self, user: str, *, is_first: bool) -> None:
        """Count a request of somebody who has logged in. Raises Refused."""
        if self._user is not None:
            self._check(_USER, user, self._user, is_first, "Too many requests in your name")

    def _check(self, limit: str, name: str, rate: Rate, is_first: bool, text: str) -> None:
        wait = self._buckets.take(f"{limit}\0{name}", rate, debt=0 if is_first else rate.burst)
        if wait:
            self._watch.refused(limit)
            seconds = max(1, round(wait + 0.5))
            text = f"{text}. Please try again in {seconds} second{'s' if seconds > 1 else ''}."
            raise Refused(limit, text, http_status=429, retry_after_seconds=seconds)
