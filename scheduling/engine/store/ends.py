"""The leader's ends of jobs, with what follows from them in the branch, and the progress of running ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import Case, F, PositiveIntegerField, Q, Value, When

from scheduling.engine.entry import End, Entry
from scheduling.engine.lease import Lease
from scheduling.engine.store.log import SCHEDULER, finished_event, job_event, record
from scheduling.engine.store.moves import move
from scheduling.engine.store.workflows import refresh_workflow
from scheduling.models import Event, Job
from scheduling.states import JobState, OnFailure


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
    }
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


def _told(job: Job, end: End, term: int) -> Event:
    claim: dict[str, Any] = {"actor": SCHEDULER, "term": term, "epoch": end.epoch, "tiles": end.tiles_processed}
    if end.state == JobState.PENDING:
        return job_event("job.taken_back", job, job.workflow.uuid, reason=end.reason, retry_in_s=None, **claim)
    job.tiles_total = end.tiles_total if end.tiles_total is not None else job.tiles_total
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
    processed = Case(
        *(When(pk=entry.claimed.job, then=Value(entry.progress)) for entry in entries),
        default=F("tiles_processed"),
        output_field=PositiveIntegerField(),
    )
    total = Case(
        *(When(pk=entry.claimed.job, then=Value(entry.tiles_total)) for entry in entries),
        default=F("tiles_total"),
        output_field=PositiveIntegerField(),
    )
    Job.objects.filter(mine, state=JobState.RUNNING).update(tiles_total=total, tiles_processed=processed)


def finished_digests(ends: Iterable[End]) -> list[str]:
    """Tile folders that are needed no more: those of jobs whose artifacts are complete."""
    keys = [end.job for end in ends if end.state == JobState.SUCCEEDED]
    return list(Job.objects.filter(pk__in=keys).values_list("digest", flat=True)) if keys else []
