"""The limits that the settings ask for, put together. What nobody asked for isn't there, and costs nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from govc.limits.admission import Admission, AdmissionLimits
from govc.limits.bucket import rate_per_minute
from govc.limits.buckets import Buckets
from govc.limits.pace import PaceLimits
from govc.limits.places import Places
from govc.limits.pressure import PressureReader
from govc.limits.rates import Rates
from govc.limits.shedding import Shedder, Thresholds
from govc.limits.watch import LimitWatch
from govc.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`pace` None: no client is too slow. `rates` None: nobody asks too often. `admission` None: all may work."""

    admission: Admission | None
    rates: Rates | None
    pace: PaceLimits | None
    watch: LimitWatch


def make_limits(settings: Settings, find_path: Callable[[str], str | None], watch: LimitWatch) -> Limits:
    """Return the limits. `find_path` gives the path of a file that the workers share, None where that can't be."""
    return Limits(
        admission=_make_admission(settings, find_path, watch),
        rates=_make_rates(settings, find_path, watch),
        pace=_make_pace(settings),
        watch=watch,
    )


def _make_admission(settings: Settings, find_path: Callable[[str], str | None], watch: LimitWatch) -> Admission | None:
    limits = AdmissionLimits(
        operations_max=settings.operations_max,
        per_repository_max=settings.operations_per_repository_max,
        per_client_max=settings.operations_per_client_max,
        queued_max=settings.operations_queued_max,
        queue_seconds=settings.operations_queue_seconds,
    )
    thresholds = Thresholds(settings.shed_cpu_percent, settings.shed_memory_percent, settings.shed_stall_percent)
    if not limits.counts and not any(thresholds):
        return None
    shedder = Shedder(PressureReader().read, thresholds, watch=watch) if any(thresholds) else None
    return Admission(limits, Places(find_path("places") if limits.counts else None), shedder, watch=watch)


def _make_rates(settings: Settings, find_path: Callable[[str], str | None], watch: LimitWatch) -> Rates | None:
    address, user = (
        rate_per_minute(count, settings.rate_burst_seconds) if count else None
        for count in (settings.rate_per_address, settings.rate_per_user)
    )
    if address is None and user is None:
        return None
    return Rates(Buckets(find_path("buckets")), address, user, watch=watch)


def _make_pace(settings: Settings) -> PaceLimits | None:
    if not settings.client_bytes_per_second_min and not settings.client_idle_seconds:
        return None
    return PaceLimits(
        bytes_per_second=settings.client_bytes_per_second_min,
        window_seconds=settings.client_slow_seconds,
        idle_seconds=settings.client_idle_seconds,
    )
