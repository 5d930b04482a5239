"""Use cases of the operator: let the work run out before a deploy, and let it go on."""

from __future__ import annotations

from scheduling.models import SchedulerLease
from scheduling.services.workflows import waking
from scheduling.store.events import operator_event, record


def set_draining(*, draining: bool) -> bool:
    """Start nothing any more and take back what runs at its bundle's end, or go on; False when it was so already.

    Slots, places in the queue and finished tiles are kept. It holds until it is taken back, over restarts of the scheduler too.
    """
    with waking():
        SchedulerLease.objects.get_or_create(pk=1)
        if not SchedulerLease.objects.filter(pk=1, is_draining=not draining).update(is_draining=draining):
            return False
        record([operator_event("scheduler.draining" if draining else "scheduler.resumed")])
    return True
