"""Whether the parts of the system answer, and its figures for /metrics. Nothing here raises because a part is down."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Count, Min
from django.utils import timezone
from django_redis import get_redis_connection
from redis import RedisError

from scheduling.models import Job, UserSlot, Workflow
from scheduling.selectors.disk import free_bytes, has_room
from scheduling.selectors.queue import counters, scheduler_alive, workers
from scheduling.states import JobState, WorkflowStatus
from scheduling.store.users import expected_queues, in_line

logger = logging.getLogger(__name__)

#: What a database that is away, locked or not migrated raises.
DATABASE_ERRORS = (DatabaseError, InterfaceError, ImproperlyConfigured)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts of the moment; None where the database does not answer."""

    jobs: dict[str, int] | None
    workflows: dict[str, int] | None
    active_users: int | None
    waiting_users: int | None
    #: Age of the oldest PENDING job of all users; 0 when there is none.
    oldest_pending_s: float | None
    workers: int
    worker_processes: int
    #: Of the file system of DATA_DIR; None when it does not answer.
    disk_free_bytes: int | None
    #: Since the engine's Redis was started empty.
    engine: dict[str, float]
    up: dict[str, bool]


def readiness() -> dict[str, bool]:
    """Which of database, redis, scheduler, workers and disk can do their part."""
    redis = redis_answers()
    database = database_answers()
    return {
        "database": database,
        "redis": redis,
        "scheduler": database and _scheduler_leads(),
        "workers": redis and bool(workers()),
        "disk": has_room(free_bytes()),
    }


def database_answers() -> bool:
    """Whether the database can be read."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DATABASE_ERRORS as error:
        logger.warning("the database does not answer: %s", error, extra={"action": "database_down"})
        return False
    return True


def redis_answers() -> bool:
    """Whether Redis answers; waits no longer than the cache's timeouts."""
    try:
        return bool(get_redis_connection("default").ping())
    except (RedisError, OSError) as error:
        logger.warning("Redis does not answer: %s", error, extra={"action": "redis_down"})
        return False


def _scheduler_leads() -> bool:
    try:
        return scheduler_alive()
    except DATABASE_ERRORS:
        return False


def figures() -> Figures:
    """All figures; those of a part that is down are None or empty."""
    up = readiness()
    live = workers() if up["redis"] else []
    try:
        counted = _counted() if up["database"] else {}
    except DATABASE_ERRORS as error:
        logger.warning("the figures could not be counted: %s", error, extra={"action": "figures_missing"})
        counted = {}
    return Figures(
        jobs=counted.get("jobs"),
        workflows=counted.get("workflows"),
        active_users=counted.get("active_users"),
        waiting_users=counted.get("waiting_users"),
        oldest_pending_s=counted.get("oldest_pending_s"),
        workers=len(live),
        worker_processes=sum(worker["processes"] for worker in live),
        disk_free_bytes=free_bytes(),
        engine=counters() if up["redis"] else {},
        up=up,
    )


def _counted() -> dict[str, Any]:
    jobs = dict(Job.objects.order_by().values_list("state").annotate(n=Count("id")))
    workflows = dict(Workflow.objects.order_by().values_list("status").annotate(n=Count("id")))
    oldest = Job.objects.filter(state=JobState.PENDING).aggregate(oldest=Min("created_at"))["oldest"]
    return {
        "jobs": {state.value: jobs.get(state.value, 0) for state in JobState},
        "workflows": {status.value: workflows.get(status.value, 0) for status in WorkflowStatus},
        "active_users": UserSlot.objects.count(),
        "waiting_users": in_line(expected_queues()).count(),
        "oldest_pending_s": max(0.0, (timezone.now() - oldest).total_seconds()) if oldest else 0.0,
    }
