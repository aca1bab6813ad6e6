"""Who asks, and how: what the web layer knows of a request and the services need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from govc.auth.gate import client_key
from govc.auth.principal import ANONYMOUS, Principal

UPLOAD_PACK = "upload-pack"
RECEIVE_PACK = "receive-pack"
UPLOAD_ARCHIVE = "upload-archive"


def is_never_gone() -> bool:
    """Say that the client is there: where nobody can know."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One request, from the services' side.

    `service` is "upload-pack", "receive-pack" or "upload-archive"; `namespace` is GIT_NAMESPACE as given ("" for none);
    `principal` is who may do what (see govc.auth), `remote_user` that person's name, for reflogs and hooks;
    `protocol_version` is 0, 1 or 2; `environ` holds the CGI variables (for hooks and the pusher's identity).
    `visibility` names whatever else than namespace and hidden refs decides which refs this caller sees: answers are
    never shared between callers in whom it differs. `is_gone` says whether the client has hung up, where that can be
    known. `is_discovery`: only the listing before the service is asked for. `takes_whole`: a front server sends a whole
    body from its file, at a fraction of what it costs to hand it through.
    """

    service: str
    protocol_version: int = 0
    remote_user: str | None = None
    principal: Principal = ANONYMOUS
    remote_addr: str | None = None
    request_id: str = ""
    namespace: bytes = b""
    visibility: str = ""
    is_discovery: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    is_gone: Callable[[], bool] = is_never_gone
    takes_whole: bool = False

    def for_another(self, request_id: str, is_gone: Callable[[], bool]) -> "RequestContext":
        """Return that of another request in the same words: as dataclasses.replace, at half its price."""
        return RequestContext(
            service=self.service,
            protocol_version=self.protocol_version,
            remote_user=self.remote_user,
            principal=self.principal,
            remote_addr=self.remote_addr,
            request_id=request_id,
            namespace=self.namespace,
            visibility=self.visibility,
            is_discovery=self.is_discovery,
            environ=self.environ,
            is_gone=is_gone,
            takes_whole=self.takes_whole,
        )

    @property
    def client(self) -> str:
        """What counts as one client: a user, else an address (of IPv6 the /64, of which one person has all)."""
        if self.remote_user is not None:
            return f"user {self.remote_user}"
        return f"address {client_key(self.remote_addr)}"
