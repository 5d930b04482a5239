"""Reads of the queue: who is active, who waits, which workers live."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from redis import Redis, RedisError

from scheduling.models import Job, SchedulerLease, User, UserSlot
from scheduling.protocol import presence
from scheduling.protocol.inbox import Inbox, connect
from scheduling.selectors.disk import disk_use
from scheduling.selectors.estimates import line, user_starts
from scheduling.selectors.times import iso
from scheduling.states import UNFINISHED, JobState
from scheduling.store import sets
from scheduling.store.sql_words import RUNNING
from scheduling.store.users import expected_queues, in_line

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
    found = sets.asked_once(_standing)
    return (bool(found[0][0]), bool(found[0][1])) if found else (False, False)


def _standing() -> QuerySet[Any, Any]:
    trusted = Case(When(trusted_until__gt=Now(), then=Value(True)), default=Value(False))
    return SchedulerLease.objects.annotate(trusted=trusted).values_list("trusted", "is_draining")


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
    """(position from 1, number of waiting users) of a user who waits for a slot; None for others, and while none of the user's work can run."""
    return positions_in_queue().get(user.pk)


def positions_in_queue() -> dict[int, tuple[int, int]]:
    """As position_of, of all who wait, by user key."""
    queue = line(expected_queues())
    return {key: (place, len(queue)) for place, key in enumerate(queue, start=1)}


def estimated_starts(standing: tuple[bool, bool] | None = None) -> dict[int, datetime]:
    """When users who wait for a slot will probably get one, by user key; nobody's while no scheduler gives slots."""
    is_alive, is_draining = standing or scheduler_standing()
    if not is_alive or is_draining:
        return {}
    return user_starts(timezone.now(), max_active_users=max_active_users(), slot_max_s=settings.ENV.user_slot_max_seconds)


def queue_body(user: User) -> dict[str, Any]:
    """GET /queue as this user may see it: other users have no name, and only the staff see what files take."""
    standing = scheduler_standing()
    used = disk_use.by_user() if user.is_staff else None

    def shown(key: int, username: str, row: dict[str, Any]) -> dict[str, Any]:
        name = username if user.is_staff or key == user.pk else None
        return {"user_id": name, **row, "disk_bytes": None if used is None else used.get(key, 0)}

    return {
        "active": [shown(*row) for row in _active()],
        "waiting": [shown(*row) for row in _waiting(standing)],
        "max_concurrent_users": max_active_users(),
        "workers": workers(),
        "draining": standing[1],
        "disk": None if used is None else _disk(used),
    }


def _active() -> list[tuple[int, str, dict[str, Any]]]:
    """User key, user id and row of each user with a slot."""
    slots = UserSlot.objects.select_related("user").annotate(running=_RUNNING, pending=_PENDING).order_by("since", "user_id")
    return [
        (slot.user_id, slot.user.username, {"since": iso(slot.since), "running": slot.running, "waiting": slot.pending}) for slot in slots
    ]


def _waiting(standing: tuple[bool, bool]) -> list[tuple[int, str, dict[str, Any]]]:
    """The same of each user who waits for a slot, in order."""
    unfinished = Count("jobs", filter=Q(jobs__state__in=UNFINISHED))
    users = list(in_line(expected_queues()).annotate(unfinished=unfinished))
    starts = estimated_starts(standing) if users else {}
    return [
        (
            user.pk,
            user.username,
            {"position": place, "since": iso(user.waiting_since), "jobs": user.unfinished, "estimated_start": iso(starts.get(user.pk))},
        )
        for place, user in enumerate(users, start=1)
    ]


def _disk(used: Mapping[int, int]) -> list[dict[str, Any]]:
    """All users who have files, the largest first."""
    names = dict(User.objects.filter(pk__in=used).values_list("pk", "username"))
    largest = sorted((-size, names[key]) for key, size in used.items() if key in names)
    return [{"user_id": name, "bytes": -size} for size, name in largest]


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
