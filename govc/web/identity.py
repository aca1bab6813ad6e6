"""Who asks, and from where? The proxy in front knows; this decides when to believe it.

- With a header configured (`--remote-user-header X-Remote-User`) its value is the user when, and only when,
  the direct peer is one of the trusted proxies. Without that nobody is authenticated, whatever else is in the
  environ.
- Without one, REMOTE_USER of the environ counts: it is set by the web server itself (CGI, mod_wsgi). A client
  can't set it, since every header of its own arrives with the prefix HTTP_.
- In the header, a value that can't be a user's name (blank, or with control characters) is nobody, and so is "(null)":
  what Apache sends for a variable that is not set, that is, for who has not logged in.
- The address is the direct peer, or, when that is a trusted proxy, the last address of X-Forwarded-For that
  is not a trusted proxy too: entries further left are the client's own words.

A trusted proxy must overwrite the header, also when its user is not logged in (conf/nginx.conf shows it), and
drop header names with underscores, which WSGI can't tell from dashes (nginx and gunicorn both do).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from govc.auth.principal import ANONYMOUS, Principal, is_user_name
from govc.web.request import wsgi_text

UNIX_SOCKET = "unix"
"""The name in a list of trusted proxies for peers on a Unix socket, whose address is empty."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and the client's address, None when unknown."""

    principal: Principal
    remote_addr: str | None

    @property
    def remote_user(self) -> str | None:
        """The user's name, None when not authenticated."""
        return self.principal.user

    def of(self, principal: Principal) -> "Identity":
        """Return the same with somebody else."""
        return self if principal is self.principal else replace(self, principal=principal)


_NOBODY_OF_APACHE = "(null)"


def _variable(value: str | None) -> Principal:
    """Return whom REMOTE_USER names: anything that isn't empty, as git-http-backend has it."""
    return Principal(user=wsgi_text(value), method="proxy") if value else ANONYMOUS


def _header(value: str | None) -> Principal:
    """Return whom a proxy's header names."""
    name = wsgi_text(value).strip() if value else ""
    if name == _NOBODY_OF_APACHE or not is_user_name(name):
        return ANONYMOUS
    return Principal(user=name, method="proxy")


def _parse_address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


FORWARDED_REMEMBERED_CHARACTERS_MAX = 128


class TrustedProxies:
    """The peers whose word counts: CIDR networks, single addresses, and "unix" for Unix sockets."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = [name.strip() for name in names if name.strip()]
        self.unix = UNIX_SOCKET in wanted
        self.networks: tuple[_Network, ...] = tuple(
            ipaddress.ip_network(name, strict=False) for name in wanted if name != UNIX_SOCKET
        )
        # A peer's address is one of a few; parsing it anew for each request costs more than the answer.
        self._contains = lru_cache(maxsize=1024)(self._contains_address)
        self._find_client = lru_cache(maxsize=1024)(self._find_client_of)

    def _contains_address(self, text: str) -> bool:
        address = _parse_address(text)
        return address is not None and any(address in network for network in self.networks)

    def contains(self, remote_addr: str | None) -> bool:
        """Whether this direct peer is trusted: "" is a Unix socket, None (not told) never is."""
        if remote_addr is None:
            return False
        if remote_addr == "":
            return self.unix
        return self._contains(remote_addr)

    def client_of(self, forwarded: str, peer: str) -> str:
        """Return the address from which a trusted peer says, in X-Forwarded-For, that a request came."""
        short = len(forwarded) <= FORWARDED_REMEMBERED_CHARACTERS_MAX
        return self._find_client(forwarded, peer) if short else self._find_client_of(forwarded, peer)

    def _find_client_of(self, forwarded: str, peer: str) -> str:
        client = peer
        for item in reversed(forwarded.split(",")):
            address = _parse_address(item)
            if address is None:
                break
            client = str(address)
            if not self.contains(client):
                break
        return client


def header_variable(header: str) -> str:
    """Return the WSGI variable of a header: "X-Remote-User" is HTTP_X_REMOTE_USER."""
    return "HTTP_" + header.strip().upper().replace("-", "_")


def _client_address(environ: Mapping[str, Any], peer: str | None, proxies: TrustedProxies) -> str | None:
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    if not forwarded or not proxies.contains(peer):
        return peer or None
    return proxies.client_of(forwarded, peer or "") or None


def identify(environ: Mapping[str, Any], *, header: str | None, proxies: TrustedProxies) -> Identity:
    """Decide who asks. `header` is the variable name that `header_variable` gave, or None."""
    peer: str | None = environ.get("REMOTE_ADDR")
    if header is None:
        principal = _variable(environ.get("REMOTE_USER"))
    else:
        principal = _header(environ.get(header)) if proxies.contains(peer) else ANONYMOUS
    return Identity(principal, _client_address(environ, peer, proxies))
