"""The leader's ends of jobs, with what follows from them in the branch, and the progress of running ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, F, Field, FloatField, PositiveIntegerField, Q, Value, When

from scheduling.engine.entry import End, Entry
from scheduling.engine.lease import Lease
from scheduling.engine.store.log import SCHEDULER, finished_event, job_event, record
from scheduling.engine.store.moves import move
from scheduling.engine.store.specs import needs_no_tiles
from scheduling.engine.store.workflows import refresh_workflow
from scheduling.models import Event, Job
from scheduling.states import JobState, OnFailure

#: The key in `Job.tries` of planning and finishing.
PLAN = "plan"


def end_jobs(lease: Lease, ends: Iterable[End], now: datetime) -> list[End]:
    """End these jobs by their epoch, inside the leader's transaction; those that were still ours."""
    return [end for end in ends if _end_job(lease, end, now)]


def _end_job(lease: Lease, end: End, now: datetime) -> bool:
    job = Job.objects.select_related("workflow", "workflow__owner").filter(pk=end.job).first()
    if job is None:
        return False
    fields: dict[str, Any] = {
        "tiles_total": end.tiles_total if end.tiles_total is not None else job.tiles_total,
        "tiles_processed": end.tiles_processed,
        "warnings": list(end.warnings),
        "cached": end.cached,
    }
    if end.state == JobState.PENDING:
        fields |= _waiting_fields(job, end, now)
    if end.disk_bytes is not None:
        fields["disk_bytes"] = end.disk_bytes
    # The wall clock may have gone back.
    finished_at = max(now, job.started_at or now)
    if end.state != JobState.PENDING:
        fields |= {"finished_at": finished_at, "error": end.error, "traceback": end.traceback, "artifacts": list(end.artifacts)}
    if end.state == JobState.PENDING and job.cancel_requested:
        # Asked for while the job was being taken back: nobody would look at the request any more.
        end = replace(end, state=JobState.CANCELLED, error="cancelled", reason="")
        fields |= {"finished_at": finished_at, "error": end.error}
    if not move(Job.objects.filter(pk=end.job, epoch=end.epoch), {JobState.RUNNING}, end.state, **fields):
        return False
    record([_told(job, end, lease.term)])
    if end.state == JobState.FAILED and job.workflow.on_failure == OnFailure.STOP:
        _stop_branch(job, now, lease.term)
    refresh_workflow(job.workflow, now, term=lease.term)
    return True


def _waiting_fields(job: Job, end: End, now: datetime) -> dict[str, Any]:
    """What a job taken back carries over to its next claim."""
    return {
        "retry_at": now + timedelta(seconds=end.retry_in_s) if end.retry_in_s > 0 else None,
        "retry_reason": end.retry_reason[:200],
        "tries": {PLAN if tile is None else str(tile): count for tile, count in end.tries.items()},
        "disk_since": None if end.refused_for_s is None else now - timedelta(seconds=end.refused_for_s),
        "ran_s": job.ran_s + seconds_since(job.claimed_at, now),
    }


def seconds_since(moment: datetime | None, now: datetime) -> float:
    """Never negative: the wall clock may have gone back. 0 for None."""
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _told(job: Job, end: End, term: int) -> Event:
    claim: dict[str, Any] = {"actor": SCHEDULER, "term": term, "epoch": end.epoch, "tiles": end.tiles_processed}
    if end.state == JobState.PENDING:
        return job_event("job.taken_back", job, job.workflow.uuid, reason=end.reason, retry_in_s=end.retry_in_s or None, **claim)
    job.tiles_total = end.tiles_total if end.tiles_total is not None else job.tiles_total
    job.cached = end.cached
    return finished_event(job, job.workflow.uuid, end.state, reason=end.error, index_sha256=end.index_sha256, **claim)


def _stop_branch(failed: Job, now: datetime, term: int) -> None:
    """Cancel the rest of the branch in this workflow; other branches are never touched."""
    rest = Job.objects.filter(workflow_id=failed.workflow_id, branch=failed.branch, state=JobState.PENDING, pk__gt=failed.pk)
    for job in rest.select_related("workflow").order_by("pk"):
        _cancel(job, now, reason=f"job {failed.job_id} before it in the branch has failed", term=term)


def cancel_waiting(job: Job, now: datetime, *, reason: str, term: int) -> None:
    """Cancel a PENDING job for a reason of the scheduler's own."""
    _cancel(job, now, reason=reason, term=term)
    refresh_workflow(job.workflow, now, term=term)


def _cancel(job: Job, now: datetime, *, reason: str, term: int) -> None:
    if move(Job.objects.filter(pk=job.pk), {JobState.PENDING}, JobState.CANCELLED, finished_at=now, error=reason):
        told: dict[str, Any] = {"actor": SCHEDULER, "reason": reason, "term": term, "tiles": job.tiles_processed}
        record([finished_event(job, job.workflow.uuid, JobState.CANCELLED, **told)])


def save_progress(entries: Iterable[Entry]) -> None:
    """Write the progress of running jobs in one statement; a row of another epoch is not touched."""
    entries = list(entries)
    if not entries:
        return
    mine = Q()
    for entry in entries:
        mine |= Q(pk=entry.claimed.job, epoch=entry.claimed.epoch)
    Job.objects.filter(mine, state=JobState.RUNNING).update(
        tiles_total=_by_job("tiles_total", {entry.claimed.job: entry.tiles_total for entry in entries}, PositiveIntegerField()),
        tiles_processed=_by_job("tiles_processed", {entry.claimed.job: entry.progress for entry in entries}, PositiveIntegerField()),
        tiles_per_s=_by_job("tiles_per_s", {entry.claimed.job: entry.tiles_per_s for entry in entries}, FloatField()),
    )


def _by_job(name: str, values: Mapping[int, float | None], field: Field[Any, Any]) -> Case:
    """The value of each job; other rows keep theirs."""
    return Case(
        *(When(pk=job, then=Value(value, output_field=field)) for job, value in values.items()), default=F(name), output_field=field
    )


def finished_digests(ends: Iterable[End]) -> list[str]:
    """Tile folders that are needed no more: those of jobs whose artifacts are complete and whose tiles nobody looks at."""
    keys = [end.job for end in ends if end.state == JobState.SUCCEEDED]
    return list(Job.objects.filter(needs_no_tiles(), pk__in=keys).values_list("digest", flat=True)) if keys else []
