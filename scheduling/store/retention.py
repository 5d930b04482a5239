"""Removal of events that are older than the operator keeps them, a few at a time, and the mark that says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from scheduling.models import Event, Workflow
from scheduling.states import FINISHED_WORKFLOW
from scheduling.store.events import leader_event
from scheduling.store.lease import Lease

#: Rows looked at, and at most removed, in one transaction of the leader.
BATCH = 1000
#: Transactions of one round.
BATCHES = 20
#: Between two of them, so that others get the locks they wait for.
BREATH_S = 0.1

Row = tuple[int, datetime, UUID | None]


class EventTrimmer:
    """Walks along the log by age, and begins again at its start when it has come to the end.

    What it may not remove yet, it passes by: events of unfinished workflows, however old, must not hold up the others.
    """

    def __init__(self) -> None:
        #: Where the next round goes on: time and id of the last event looked at.
        self._last: tuple[datetime, int] | None = None

    def round(self, lease: Lease, before: datetime, batches: int = BATCHES) -> bool:
        """Remove events older than `before`; whether there may be more of them. Raises Deposed.

        One `log.trimmed` event is written with the first removal and its count goes up with each further one, in the same
        transaction: a reader of the log is never without the mark of what is missing.
        """
        mark: Event | None = None
        for place in range(batches):
            time.sleep(BREATH_S if place else 0.0)
            with lease.transaction():
                rows = self._next(before)
                mark = self._remove(lease, [row[0] for row in _removable(rows)], before, mark)
            self._last = (rows[-1][1], rows[-1][0]) if len(rows) == BATCH else None
            if self._last is None:
                return False
        return True

    def _next(self, before: datetime) -> Sequence[Row]:
        old = Event.objects.filter(at__lt=before)
        if self._last is not None:
            at, key = self._last
            old = old.filter(at__gte=at).exclude(at=at, pk__lte=key)
        return list(old.order_by("at", "pk").values_list("pk", "at", "workflow_uuid")[:BATCH])

    @staticmethod
    def _remove(lease: Lease, keys: Sequence[int], before: datetime, mark: Event | None) -> Event | None:
        if not keys:
            return mark
        removed = _events(keys).delete()[0]
        if mark is None:
            mark = leader_event("log.trimmed", lease.term, before=before.isoformat(), deleted=removed)
            mark.save(force_insert=True)  # it gets a key, by which it is found again
        else:
            mark.data["deleted"] += removed
            mark.save(update_fields=["data"])
        return mark


def _events(keys: Sequence[int]) -> QuerySet[Event]:
    return Event.objects.filter(pk__in=keys)


def _removable(rows: Sequence[Row]) -> list[Row]:
    """Those whose workflow has ended or is no more, and those about no workflow."""
    named = {workflow for _, _, workflow in rows if workflow is not None}
    unfinished = set(Workflow.objects.filter(uuid__in=named).exclude(status__in=FINISHED_WORKFLOW).values_list("uuid", flat=True))
    return [row for row in rows if row[2] not in unfinished]
