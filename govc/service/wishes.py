"""What a fetch asks the cache of bodies for, beside how the body is made: how to wait for it, and how long."""

from govc.cache.bodies import BodyRequest
from govc.limits.admission import Admission
from govc.objects.types import BLOB
from govc.protocol.sideband import KEEPALIVE
from govc.repo.pack_plan import PackPlan
from govc.repo.snapshot import Snapshot
from govc.service.context import RequestContext, is_never_gone
from govc.service.policy import UploadPolicy
from govc.service.words import KnownBody

WHOLE_SECONDS = 10.0
"""So long somebody behind a front server that sends files waits for a body to be whole: to hand a gigabyte through two
programs costs several times as much, most of all where the machine is busy, and so production slow. What takes longer
to make is handed through as it comes: nobody is silent for long, neither for a user nor for a proxy's timer."""

NEVER_SECONDS = 3600.0


def has_queue(admission: Admission | None) -> bool:
    """Whether who makes a body may have to wait for a place."""
    return admission is not None and admission.counts


def wants_blobs(snapshot: Snapshot, plan: PackPlan) -> bool:
    """Tell whether it is a partial clone that asks for what it left out, as far as an index knows.

    Many ask for the same only where many stand at the same commit; then words that come again find it kept.
    """
    view = snapshot.commit_view
    if view is None or not plan.wants or plan.boundary:
        return False
    kinds_of = view.sweep.kinds_of
    return kinds_of(plan.wants[0])[0] == BLOB and kinds_of(b"".join(plan.wants)).count(BLOB) == len(plan.wants)


def wish_for(body: KnownBody, policy: UploadPolicy, context: RequestContext, *, has_queue: bool) -> BodyRequest:
    """Return the wish for a body that others make."""
    seconds = policy.keepalive_seconds
    return BodyRequest(
        key=body.key,
        expected_bytes=body.expected_bytes,
        keepalive=KEEPALIVE if body.side_band and seconds > 0 else b"",
        quiet_seconds=float(seconds) if seconds > 0 else NEVER_SECONDS,
        is_gone=context.is_gone if has_queue else is_never_gone,
        whole_seconds=WHOLE_SECONDS if context.takes_whole else 0.0,
    )
