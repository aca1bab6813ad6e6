"""What a push needs beside its repository: how to wait, where to work, how far to go."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from govc.limits.admission import Admission
from govc.pack.limits import IndexLimits
from govc.repo.helper import HelperSlots
from govc.repo.journal import JournalOptions
from govc.repo.repository import Repository
from govc.repo.runtime import Runtime
from govc.service.audit import NO_AUDIT, AuditLog
from govc.service.push_limits import PushLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveTools:
    """What a push needs beside the repository.

    `slots` None: everything inline. `inline_bytes_max`: packs up to this size are tried inline. `detects`: SHA-1
    collision attacks are looked for; `threads` share the indexing of a large pack. `after_push` is called with the
    repository and the new values of refs once they have moved. `hook_seconds_max`: how long a hook may take, 0 for
    ever. `audit` is told of every push. `admission` None: every push is taken in at once. `push_limits`: what one may
    bring.
    """

    runtime: Runtime
    slots: HelperSlots | None
    environ: Mapping[str, str]
    limits: IndexLimits
    journal: JournalOptions
    inline_bytes_max: int
    detects: bool
    threads: int
    after_push: Callable[[Repository, Iterable[bytes]], None]
    hook_seconds_max: float = 0
    audit: AuditLog = NO_AUDIT
    admission: Admission | None = None
    push_limits: PushLimits = field(default_factory=PushLimits)
    clock: Callable[[], float] = time.time
