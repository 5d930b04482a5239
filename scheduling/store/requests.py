"""What the web process may write: new work, PENDING → CANCELLED, FAILED | CANCELLED → PENDING, a request to cancel.

Every function runs inside the caller's transaction, with the owner's row locked, and moves rows by guarded UPDATEs: a move
that a faster writer has made impossible changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from django.db import connection
from django.db.models import F

from scheduling.live import updates
from scheduling.models import Dependency, Event, Job, User, Workflow
from scheduling.states import RETRYABLE, BranchScope, JobState
from scheduling.store.events import finished_event, job_event, record, workflow_event
from scheduling.store.transition import move
from scheduling.store.users import refresh_waiting
from scheduling.store.workflows import refresh_workflow

NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


def lane_of(workflow: Workflow, branch: str) -> str:
    """What the branch runs serially with: its workflow's other jobs, or all of the user's in that branch."""
    owner = f"u{workflow.owner_id}" if workflow.branch_scope == BranchScope.USER else f"w{workflow.pk}"
    return f"{owner}/{branch}"


def insert_workflow(
    user: User, workflow: Workflow, jobs: Sequence[Job], now: datetime, *, depends_on: Mapping[str, Sequence[str]] = NOTHING
) -> None:
    """Insert a workflow and its jobs in order; the user queues for a slot if it has none. `user` is locked.

    `depends_on`: job_ids of the same workflow, by the job_id that needs them; they make no circle.
    """
    workflow.save(force_insert=True)
    for job in jobs:
        job.workflow, job.lane = workflow, lane_of(workflow, job.branch)
    Job.objects.bulk_create(jobs)
    _insert_dependencies(jobs, depends_on)
    told: dict[str, Any] = {
        "branches": len({job.branch for job in jobs}),
        "branch_scope": workflow.branch_scope,
        "on_failure": workflow.on_failure,
    }
    submitted = workflow_event("workflow.submitted", workflow, actor=user.username, jobs=len(jobs), **told)
    record([submitted, *(_submitted(job, workflow, user.username, depends_on.get(job.job_id, ())) for job in jobs)])
    updates.workflow_changed(user.pk, workflow.uuid)
    if refresh_waiting(user, now, actor=user.username, is_new=bool(jobs)):
        updates.queue_changed()


def _insert_dependencies(jobs: Sequence[Job], depends_on: Mapping[str, Sequence[str]]) -> None:
    """A thousand jobs may name 150,000 others: plain rows, since making models of them would hold the locks for seconds."""
    keys = {job.job_id: job.pk for job in jobs}
    rows = [(key, keys[need]) for job_id, key in keys.items() for need in depends_on.get(job_id, ())]
    if rows:
        table = connection.ops.quote_name(Dependency._meta.db_table)
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} (job_id, needs_id) VALUES (%s, %s)", rows)  # noqa: S608  (a name of ours)


def _submitted(job: Job, workflow: Workflow, actor: str, needs: Sequence[str]) -> Event:
    told: dict[str, Any] = {"order": job.pk, "tiles_total": job.tiles_total, "depends_on": list(needs), "queue": job.queue}
    return job_event("job.submitted", job, workflow.uuid, actor=actor, **told)


def cancel_jobs(user: User, workflow: Workflow, jobs: Sequence[Job], now: datetime, *, actor: str, reason: str = "") -> int:
    """Cancel waiting jobs at once and ask for the end of running ones; how many of them that were unfinished. `user` is locked."""
    keys = [job.pk for job in jobs]
    running = Job.objects.filter(pk__in=keys, state=JobState.RUNNING)
    asked = list(running.select_for_update().filter(cancel_requested=False))
    ending = running.update(cancel_requested=True)
    waiting = list(Job.objects.select_for_update().filter(pk__in=keys, state=JobState.PENDING))
    error = reason or f"cancelled by {actor}"
    held = Job.objects.filter(pk__in=[job.pk for job in waiting])
    cancelled = move(held, {JobState.PENDING}, JobState.CANCELLED, finished_at=now, error=error)
    record(finished_event(job, workflow.uuid, JobState.CANCELLED, tiles=job.tiles_processed, actor=actor, reason=error) for job in waiting)
    record(job_event("job.cancel_requested", job, workflow.uuid, actor=actor, reason=reason) for job in asked)
    _settle(user, workflow, now, actor)
    return ending + cancelled


def retry_jobs(user: User, workflow: Workflow, jobs: Sequence[Job], now: datetime, *, actor: str) -> int:
    """Put FAILED and CANCELLED jobs back to PENDING as their next attempt, finished tiles kept; how many. `user` is locked."""
    found = list(Job.objects.select_for_update().filter(pk__in=[job.pk for job in jobs], state__in=RETRYABLE))
    changed = move(
        Job.objects.filter(pk__in=[job.pk for job in found]),
        RETRYABLE,
        JobState.PENDING,
        attempt=F("attempt") + 1,
        cancel_requested=False,
        error="",
        traceback="",
        started_at=None,
        finished_at=None,
        tries={},
        ran_s=0.0,
        disk_since=None,
        retry_at=None,
        retry_reason="",
    )
    for job in found:
        job.attempt += 1
    record(job_event("job.retried", job, workflow.uuid, actor=actor) for job in found)
    _settle(user, workflow, now, actor)
    return changed


def set_paused(user: User, workflow: Workflow, now: datetime, *, paused: bool, actor: str) -> None:
    """Pause or resume a workflow; does nothing when it is so already. `user` is locked."""
    if workflow.paused == paused:
        return
    workflow.paused = paused
    workflow.save(update_fields=["paused"])
    record([workflow_event("workflow.paused" if paused else "workflow.resumed", workflow, actor=actor)])
    _settle(user, workflow, now, actor)


def _settle(user: User, workflow: Workflow, now: datetime, actor: str) -> None:
    standing = refresh_workflow(workflow.pk, now, actor=actor)
    workflow.status, workflow.started_at, workflow.finished_at = standing.status, standing.started_at, standing.finished_at
    if refresh_waiting(user, now, actor=actor):
        updates.queue_changed()
