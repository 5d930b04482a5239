"""Reads of the queue: who is active, who waits, which workers live."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, Q, Value, When
from django.db.models.functions import Now
from redis import Redis, RedisError

from scheduling.engine import presence
from scheduling.engine.inbox import Inbox, connect
from scheduling.engine.store.words import RUNNING
from scheduling.models import Job, SchedulerLease, User, UserSlot
from scheduling.selectors.times import iso
from scheduling.states import UNFINISHED, JobState

logger = logging.getLogger(__name__)

_RUNNING = Count("user__jobs", filter=Q(user__jobs__state=JobState.RUNNING))
_PENDING = Count("user__jobs", filter=Q(user__jobs__state=JobState.PENDING))


def scheduler_alive() -> bool:
    """Whether a leader is trusted, by the database's clock."""
    return scheduler_standing()[0]


def is_draining() -> bool:
    """Whether the operator lets the work run out."""
    return scheduler_standing()[1]


def scheduler_standing() -> tuple[bool, bool]:
    """(whether a leader is trusted, whether the work runs out)."""
    trusted = Case(When(trusted_until__gt=Now(), then=Value(True)), default=Value(False))
    return SchedulerLease.objects.annotate(trusted=trusted).values_list("trusted", "is_draining").first() or (False, False)


def running_jobs() -> int:
    """How many jobs have a claim: bundles of theirs may be under way."""
    return Job.objects.filter(state=RUNNING).count()


def workers() -> list[dict[str, Any]]:
    """Live workers as in GET /queue; empty when Redis is away."""
    return [
        {
            "name": w.name,
            "queues": list(w.queues),
            "processes": w.processes,
            "state": w.state if w.is_of_this_version else "other version",
            "heartbeat": w.heartbeat,
            "version": w.version,
            "bundles": len(w.bundles),
        }
        for w in _live_workers()
    ]


def queues_served() -> frozenset[str]:
    """Queues from which some live worker takes work."""
    return presence.queues_served(_live_workers())


def counters() -> dict[str, float]:
    """The engine's counters for /metrics; empty when Redis is away."""
    try:
        return Inbox(_redis()).counters()
    except RedisError as error:
        logger.warning("engine counters are not to be had: %s", error, extra={"action": "counters_missing"})
        return {}


def position_of(user: User) -> tuple[int, int] | None:
    """(position from 1, number of waiting users) of a user who waits for a slot; None for others."""
    return positions_in_queue().get(user.pk)


def positions_in_queue() -> dict[int, tuple[int, int]]:
    """As position_of, of all who wait, by user key."""
    queue = list(User.objects.filter(waiting_since__isnull=False).order_by("waiting_since", "pk").values_list("pk", flat=True))
    return {key: (place, len(queue)) for place, key in enumerate(queue, start=1)}


def queue_body(user: User) -> dict[str, Any]:
    """GET /queue as this user may see it: other users have no name, except for staff."""

    def name(key: int, username: str) -> str | None:
        return username if user.is_staff or key == user.pk else None

    active = [
        {"user_id": name(slot.user_id, slot.user.username), "since": iso(slot.since), "running": slot.running, "waiting": slot.pending}
        for slot in UserSlot.objects.select_related("user").annotate(running=_RUNNING, pending=_PENDING).order_by("since", "user_id")
    ]
    unfinished = Count("jobs", filter=Q(jobs__state__in=UNFINISHED))
    waiting = [
        {"user_id": name(other.pk, other.username), "position": place, "since": iso(other.waiting_since), "jobs": other.unfinished}
        for place, other in enumerate(
            User.objects.filter(waiting_since__isnull=False).annotate(unfinished=unfinished).order_by("waiting_since", "pk"), start=1
        )
    ]
    return {"active": active, "waiting": waiting, "max_concurrent_users": max_active_users(), "workers": workers()}


def max_active_users() -> int:
    """How many users may be active: no more than there are workers."""
    return min(settings.ENV.max_concurrent_users, settings.ENV.max_workers)


def _live_workers() -> list[presence.Heartbeat]:
    try:
        return presence.live(_redis())
    except RedisError as error:
        logger.warning("workers are not to be seen: %s", error, extra={"action": "workers_unknown"})
        return []


@cache
def _redis() -> Redis:
    return connect(settings.ENV.redis_url, timeout_s=2)
