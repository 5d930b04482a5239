"""A sample of the engine's figures for charts: counted by short indexes, written by the leader, kept for a week."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min

from scheduling.models import Event, Job, MetricSample, UserSlot
from scheduling.store.lease import Lease
from scheduling.store.sql_words import PENDING, RUNNING
from scheduling.store.users import expected_queues, in_line

KEPT = timedelta(days=7)
BATCH = 1000


def counted(now: datetime) -> dict[str, Any]:
    """Figures of the moment: unfinished `jobs` by state, `users` active and waiting, `oldest_pending_s` (0 when nothing waits).

    Finished jobs are not counted here: that would be a walk through all that there ever were.
    """
    waiting = Job.objects.filter(state=PENDING).aggregate(jobs=Count("pk"), since=Min("created_at"))
    since = waiting["since"]
    return {
        "jobs": {"PENDING": waiting["jobs"], "RUNNING": Job.objects.filter(state=RUNNING).count()},
        "users": {"active": UserSlot.objects.count(), "waiting": in_line(expected_queues()).count()},
        "oldest_pending_s": round(max(0.0, (now - since).total_seconds()), 3) if since else 0.0,
    }


def last_event() -> int:
    """Id of the newest event; 0 when there is none."""
    newest: int | None = Event.objects.aggregate(newest=Max("pk"))["newest"]
    return newest or 0


def ended_between(after: int, until: int) -> dict[str, int]:
    """Jobs that ended in these events (after < id <= until), by state."""
    told = Event.objects.filter(pk__gt=after, pk__lte=until, type="job.finished").order_by("pk")
    return dict(Counter(data["state"] for data in told.values_list("data", flat=True)))


def write_sample(lease: Lease, data: dict[str, Any]) -> None:
    """Insert a sample of this moment. Raises Deposed."""
    with lease.transaction():
        MetricSample.objects.create(data=data)


def forget_old_samples(lease: Lease, now: datetime) -> int:
    """Remove samples that are too old for any chart, some at a time; how many. Raises Deposed."""
    old = list(MetricSample.objects.filter(at__lt=now - KEPT).order_by("at").values_list("pk", flat=True)[:BATCH])
    if not old:
        return 0
    with lease.transaction():
        return MetricSample.objects.filter(pk__in=old).delete()[0]
