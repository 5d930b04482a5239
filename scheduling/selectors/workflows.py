"""Reads of workflows and jobs: bodies exactly as the API gives them, as plain JSON-able dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Case, Count, Exists, FloatField, OuterRef, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Cast
from django.utils import timezone

from scheduling.engine.policy import Situation, waiting_reason
from scheduling.errors import NotFound
from scheduling.models import Event, Job, Slide, User, Workflow
from scheduling.selectors.estimates import job_end
from scheduling.selectors.queue import estimated_starts, position_of, positions_in_queue, queues_served, scheduler_standing
from scheduling.selectors.times import iso
from scheduling.states import FINISHED_WORKFLOW, UNFINISHED, BranchScope, JobState
from scheduling.store import sets

_PROGRESS = Case(
    When(tiles_total__gt=0, then=Cast("tiles_processed", FloatField()) / Cast("tiles_total", FloatField())),
    When(state=JobState.SUCCEEDED, then=Value(1.0)),
    default=Value(0.0),
    output_field=FloatField(),
)

#: The workflow's submission and the first job's start say as much.
_IMPLIED = ("job.submitted", "workflow.started")


def workflow_get(*, user: User, workflow_uuid: UUID | str) -> Workflow:
    """A workflow that the user may see. Raises NotFound: no uuid, not there, or another user's."""
    try:
        key = UUID(str(workflow_uuid))
    except ValueError:
        raise NotFound from None
    workflow = next(iter(sets.models(Workflow, [key], column="uuid", kind="uuid")), None)
    if workflow is None or not (user.is_staff or workflow.owner_id == user.pk):
        raise NotFound
    (workflow.owner,) = sets.models(User, [workflow.owner_id])
    return workflow


def job_get(*, user: User, workflow_uuid: UUID | str, job_id: str) -> Job:
    """A job by the id its user gave it. Raises NotFound."""
    workflow = workflow_get(user=user, workflow_uuid=workflow_uuid)
    job = Job.objects.select_related("workflow", "workflow__owner", "slide").filter(workflow=workflow, job_id=job_id).first()
    if job is None:
        raise NotFound
    return job


def job_find(*, user: User, job_uuid: UUID | str) -> Job:
    """A job by the uuid that the scheduler gave it. Raises NotFound."""
    try:
        key = UUID(str(job_uuid))
    except ValueError:
        raise NotFound from None
    job = Job.objects.select_related("workflow").filter(uuid=key, workflow__in=visible_workflows(user)).first()
    if job is None:
        raise NotFound
    return job


def visible_workflows(user: User) -> QuerySet[Workflow]:
    """The user's own; all for staff."""
    return Workflow.objects.all() if user.is_staff else Workflow.objects.filter(owner=user)


def workflow_query(
    *, user: User, status: str | None = None, branch: str | None = None, job_type: str | None = None, search: str | None = None
) -> QuerySet[Workflow]:
    """Visible workflows, newest first, that meet every filter given."""
    found = visible_workflows(user).select_related("owner").order_by("-id")
    if status:
        found = found.filter(status=status)
    if branch:
        found = found.filter(_has_job(branch=branch))
    if job_type:
        found = found.filter(_has_job(job_type=job_type))
    if search:
        found = found.filter(_matches(search))
    return found


def _has_job(*conditions: Q, **equal: str) -> Exists:
    """A subquery for each filter: joins would multiply the rows of workflows with a thousand jobs."""
    return Exists(Job.objects.filter(*conditions, workflow=OuterRef("pk"), **equal))


def _matches(search: str) -> Q:
    match = Q(name__icontains=search) | Q(_has_job(Q(job_id__icontains=search) | Q(slide__name__icontains=search)))
    try:
        return match | Q(uuid=UUID(search))
    except ValueError:
        return match


def workflow_body(workflow: Workflow) -> dict[str, Any]:
    """GET /workflow/{workflow_id}."""
    jobs = sets.models(Job, [workflow.pk], column="workflow_id")
    position = position_of(workflow.owner) if workflow.owner.waiting_since is not None else None
    start = estimated_starts().get(workflow.owner_id) if position else None
    needs = _needs_of(jobs)
    reasons = _waiting_reasons(workflow, jobs, position, needs)
    bodies = [job_body(job, reasons.get(job.pk), [need.job_id for need in needs.get(job.pk, ())]) for job in jobs]
    return {
        "workflow_id": str(workflow.uuid),
        "user_id": workflow.owner.username,
        "status": workflow.status,
        "jobs": bodies,
        **_common(workflow, position, start),
        "progress": mean_progress(body["progress"] for body in bodies),
    }


def mean_progress(fractions: Iterable[float]) -> float:
    """A workflow's progress: the mean over its jobs, 0–1."""
    values = list(fractions)
    return sum(values) / len(values) if values else 0.0


_NEEDS = (
    "SELECT d.job_id, d.needs_id FROM scheduling_dependency d JOIN scheduling_job j ON j.id = d.job_id "
    "WHERE j.workflow_id = %s ORDER BY d.id"
)


def _needs_of(jobs: Sequence[Job]) -> dict[int, list[Job]]:
    """What each job of one workflow depends on, in the order asked for, by job key."""
    by_key = {job.pk: job for job in jobs}
    needs: dict[int, list[Job]] = {}
    for key, need in sets.ask(_NEEDS, jobs[0].workflow_id) if jobs else ():
        needs.setdefault(key, []).append(by_key[need])
    return needs


def job_body(job: Job, reason: str | None, depends_on: Sequence[str] = ()) -> dict[str, Any]:
    """One entry of a workflow's `jobs`."""
    return {
        "job_id": job.job_id,
        "branch": job.branch,
        "job_type": job.job_type,
        "state": job.state,
        "tiles_total": job.tiles_total,
        "tiles_processed": job.tiles_processed,
        "progress": job.progress,
        "id": str(job.uuid),
        "attempt": job.attempt,
        "waiting_reason": reason,
        "error": job.error or None,
        "warnings": job.warnings,
        "slide": str(job.slide_id) if job.slide_id else None,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "depends_on": list(depends_on),
        "cache": job.cache,
        "cached": job.cached,
        "timeout_s": job.timeout_s,
        "region": job.region,
        "annotation": str(job.annotation_id) if job.annotation_id else None,
        "requires": job.queue,
        "tiles_per_s": round(job.tiles_per_s, 3) if job.tiles_per_s and job.state == JobState.RUNNING else None,
        "estimated_end": iso(job_end(job, timezone.now())),
    }


def workflow_rows(workflows: Sequence[Workflow]) -> list[dict[str, Any]]:
    """Entries of GET /workflow, in the order given: `job_counts` in place of `jobs`, and sums over the jobs."""
    counts = _job_counts(workflows)
    sums = {
        row["workflow_id"]: row
        for row in Job.objects.filter(workflow__in=workflows)
        .values("workflow_id")
        .annotate(
            processed=Sum("tiles_processed"),
            total=Sum("tiles_total"),
            branches=Count("branch", distinct=True),
            fraction=Sum(_PROGRESS),
            n=Count("id"),
        )
        .order_by()
    }
    positions = positions_in_queue()
    starts = estimated_starts() if any(workflow.owner_id in positions for workflow in workflows) else {}
    common = {w.pk: _common(w, positions.get(w.owner_id), starts.get(w.owner_id)) for w in workflows}
    return [_row(workflow, counts.get(workflow.pk, {}), sums.get(workflow.pk), common[workflow.pk]) for workflow in workflows]


def _row(workflow: Workflow, counts: dict[str, int], sums: dict[str, Any] | None, common: dict[str, Any]) -> dict[str, Any]:
    sums = sums or {"processed": 0, "total": 0, "branches": 0, "fraction": 0.0, "n": 1}
    return {
        "workflow_id": str(workflow.uuid),
        "user_id": workflow.owner.username,
        "status": workflow.status,
        "job_counts": {state.value: counts.get(state, 0) for state in JobState},
        **common,
        "progress": sums["fraction"] / sums["n"],
        "number": workflow.pk,
        "branches": sums["branches"],
        "tiles_processed": sums["processed"],
        "tiles_total": sums["total"] or 0,
    }


def _job_counts(workflows: Sequence[Workflow]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    rows = Job.objects.filter(workflow__in=workflows).values_list("workflow_id", "state").annotate(n=Count("id")).order_by()
    for key, state, n in rows:
        counts.setdefault(key, {})[state] = n
    return counts


def _common(workflow: Workflow, position: tuple[int, int] | None, start: datetime | None) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "progress": 0.0,
        "paused": workflow.paused,
        "queue_position": position[0] if position else None,
        "created_at": iso(workflow.created_at),
        "started_at": iso(workflow.started_at),
        "finished_at": iso(workflow.finished_at),
        "estimated_start": None if workflow.status in FINISHED_WORKFLOW else iso(start),
    }


def _waiting_reasons(
    workflow: Workflow, jobs: Sequence[Job], position: tuple[int, int] | None, needs: Mapping[int, Sequence[Job]]
) -> dict[int, str]:
    """Why each PENDING one of the jobs of a workflow waits, by job key; the words are the policy's."""
    pending = [job for job in jobs if job.state == JobState.PENDING]
    if not pending:
        return {}
    # A lane is the workflow's own, or shared by all of its user's.
    ahead = _jobs_ahead(pending, _of_lanes(pending) if workflow.branch_scope == BranchScope.USER else jobs)
    (alive, draining), now = scheduler_standing(), timezone.now()
    served = queues_served() if any(job.queue != "cpu" for job in pending) else frozenset({"cpu"})
    return {
        job.pk: waiting_reason(
            Situation(
                is_scheduler_alive=alive,
                is_paused=workflow.paused,
                is_draining=draining,
                behind=ahead.get(job.pk),
                needs=next((need.job_id for need in needs.get(job.pk, ()) if need.state in UNFINISHED), None),
                user_position=position,
                queue=job.queue,
                queues_served=served,
                retry=_retry_of(job, now),
            )
        )
        for job in pending
    }


def _retry_of(job: Job, now: datetime) -> tuple[str, float] | None:
    """What the job waits for before it is tried again, and for how many seconds."""
    if job.retry_at is None or job.retry_at <= now:
        return None
    return job.retry_reason, (job.retry_at - now).total_seconds()


def _of_lanes(pending: Sequence[Job]) -> QuerySet[Job]:
    """All unfinished jobs in the lanes of these, in order of submission."""
    lanes = {job.lane for job in pending}
    return Job.objects.filter(owner_id=pending[0].owner_id, lane__in=lanes, state__in=UNFINISHED).order_by("id").only(*_OF_LANES)


_OF_LANES = ("id", "lane", "job_id", "branch", "state")


def _jobs_ahead(pending: Sequence[Job], jobs: Iterable[Job]) -> dict[int, tuple[str, str]]:
    """For each job the unfinished one it waits for in its lane, as (job_id, branch): the one before it, else the one that runs.

    `jobs`: those of all the lanes, in order of submission.
    """
    before: dict[str, tuple[str, str]] = {}
    running: dict[str, tuple[str, str]] = {}
    ahead: dict[int, tuple[str, str]] = {}
    for job in jobs:
        if job.state not in UNFINISHED:
            continue
        if job.state == JobState.RUNNING:
            running[job.lane] = (job.job_id, job.branch)
        elif job.lane in before:
            ahead[job.pk] = before[job.lane]
        before[job.lane] = (job.job_id, job.branch)
    for job in pending:
        if job.pk not in ahead and job.lane in running:
            ahead[job.pk] = running[job.lane]
    return ahead


def job_artifacts(job: Job) -> list[dict[str, Any]]:
    """Recorded artifacts: name, size in bytes, sha256. Raises NotFound until the job has SUCCEEDED."""
    if job.state != JobState.SUCCEEDED:
        raise NotFound
    return list(job.artifacts)


def artifact_path(job: Job, name: str) -> Path:
    """The file of a recorded artifact. Raises NotFound for any other name: a name is compared, never joined to a path unseen."""
    if name not in {artifact["name"] for artifact in job_artifacts(job)}:
        raise NotFound
    return Path(settings.DATA_DIR) / "results" / str(job.uuid) / name


def workflow_activity(workflow: Workflow, limit: int = 200) -> list[dict[str, Any]]:
    """What happened in the workflow, newest first."""
    return [
        {
            "id": event.pk,
            "at": iso(event.at),
            "type": event.type,
            "actor": event.actor,
            "reason": event.reason,
            "job_id": event.data.get("job_id"),
            "data": event.data,
        }
        for event in Event.objects.filter(workflow_uuid=workflow.uuid).exclude(type__in=_IMPLIED).order_by("-id")[:limit]
    ]


def slide_names(workflow: Workflow) -> dict[str, str]:
    """Names of the slides of a workflow's jobs, by slide id."""
    return {str(slide.pk): slide.name for slide in Slide.objects.filter(jobs__workflow=workflow).distinct()}
