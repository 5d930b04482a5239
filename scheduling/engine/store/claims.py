"""The leader's claims: PENDING → RUNNING with a new epoch, and the take-over of what ran under an earlier leader."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.conf import settings

from scheduling.engine.entry import Claimed, End
from scheduling.engine.lease import Lease
from scheduling.engine.policy import Claim
from scheduling.engine.store.ends import PLAN, cancel_waiting, end_jobs, seconds_since
from scheduling.engine.store.log import SCHEDULER, job_event, record
from scheduling.engine.store.moves import move
from scheduling.engine.store.specs import begins_at, spec_of
from scheduling.engine.store.users import lock_users
from scheduling.engine.store.words import RUNNING
from scheduling.engine.store.workflows import refresh_workflow
from scheduling.jobtypes import registry, simulated
from scheduling.jobtypes.base import JobSpec
from scheduling.models import Dependency, Job
from scheduling.states import JobState

_RELATED = ("workflow", "owner", "slide", "annotation")
_HAS_ENDED = {JobState.FAILED: "has failed", JobState.CANCELLED: "was cancelled"}


def claim_jobs(lease: Lease, claims: Sequence[Claim], now: datetime) -> list[Claimed]:
    """Start these jobs, inside the leader's transaction; those that a user has cancelled meanwhile are left out.

    A job that depends on a FAILED or CANCELLED job, or whose input comes from one, is cancelled instead, with that reason; one
    whose type cannot be used any more starts and fails.
    """
    reasons = {claim.job: claim.reason for claim in claims}
    jobs = list(Job.objects.select_related(*_RELATED).filter(pk__in=reasons, state=JobState.PENDING).order_by("pk"))
    # One object a workflow: the second start of a pass must see what the first has made of its status.
    flows = {job.workflow_id: job.workflow for job in jobs}
    needs = needs_of(jobs)
    claimed: list[Claimed] = []
    for job, epoch in zip(jobs, lease.new_epochs(len(jobs)), strict=True):
        job.workflow = flows[job.workflow_id]
        try:
            inputs = _inputs_of(job, needs[job.pk])
        except registry.Unusable as error:
            _fail(lease, job, epoch, str(error), now)
            continue
        if reason := _hopeless(needs[job.pk], inputs):
            cancel_waiting(job, now, reason=reason, term=lease.term)
        elif taken := _claim(job, epoch, inputs, lease, now, reasons[job.pk]):
            claimed.append(taken)
    return claimed


def _hopeless(needs: Sequence[Job], inputs: Sequence[Job]) -> str:
    """Why the job can never start, because of another one; "" when it can. What it needs has ended."""
    for job in needs:
        if job.state != JobState.SUCCEEDED:
            return f"job {job.job_id}, which it depends on, {_HAS_ENDED[JobState(job.state)]}"
    lost = next((earlier for earlier in inputs if earlier.state != JobState.SUCCEEDED), None)
    return f"its input, job {lost.job_id}, has {lost.state.lower()}" if lost else ""


def _claim(job: Job, epoch: int, inputs: Sequence[Job], lease: Lease, now: datetime, reason: str) -> Claimed | None:
    is_first_claim = job.epoch == 0
    spec = spec_of(job, inputs)
    started = job.started_at or now
    same = Job.objects.filter(pk=job.pk, attempt=job.attempt)
    fields = {"epoch": epoch, "term": lease.term, "digest": spec.digest, "started_at": started, "claimed_at": now, "retry_at": None}
    rows = move(same, {JobState.PENDING}, JobState.RUNNING, **fields, retry_reason="")
    if not rows:
        return None
    record([job_event("job.started", job, job.workflow.uuid, actor=SCHEDULER, reason=reason, term=lease.term, epoch=epoch)])
    job.state, job.claimed_at = JobState.RUNNING, now
    refresh_workflow(job.workflow, now, term=lease.term)
    return _claimed(job, epoch, spec, now, is_fresh=is_first_claim)


def _fail(lease: Lease, job: Job, epoch: int, error: str, now: datetime) -> None:
    """Fail a job that cannot be carried out at all."""
    fields = {"epoch": epoch, "term": lease.term, "started_at": now, "claimed_at": now}
    if move(Job.objects.filter(pk=job.pk), {JobState.PENDING}, JobState.RUNNING, **fields):
        record([job_event("job.started", job, job.workflow.uuid, actor=SCHEDULER, reason=error, term=lease.term, epoch=epoch)])
        refresh_workflow(job.workflow, now, term=lease.term)
    end = End(job=job.pk, epoch=epoch, state=JobState.FAILED, tiles_processed=job.tiles_processed, tiles_total=None, error=error)
    end_jobs(lease, [end], now)


def take_over_jobs(lease: Lease, now: datetime, *, known: Collection[int] = ()) -> list[Claimed]:
    """Give every RUNNING job that is not `known` a new epoch of this term: outcomes of earlier claims are nobody's from now on."""
    strays = Job.objects.filter(state=RUNNING).exclude(pk__in=known)
    lock_users(strays.values_list("owner_id", flat=True))
    jobs = list(strays.select_related(*_RELATED).order_by("pk"))
    return [taken for job, epoch in zip(jobs, lease.new_epochs(len(jobs)), strict=True) if (taken := _take_over(lease, job, epoch, now))]


def _take_over(lease: Lease, job: Job, epoch: int, now: datetime) -> Claimed | None:
    mine = Job.objects.filter(pk=job.pk, state=JobState.RUNNING)
    event = job_event("job.taken_over", job, job.workflow.uuid, actor=SCHEDULER, term=lease.term, epoch=epoch)
    try:
        spec = spec_of(job, _inputs_of(job, needs_of([job])[job.pk]))
    except registry.Unusable as error:
        _fail(lease, job, job.epoch, str(error), now)
        return None
    mine.update(epoch=epoch, term=lease.term, digest=spec.digest)
    record([event])
    return _claimed(job, epoch, spec, now, is_fresh=False)


def cancel_requests(jobs: Iterable[int]) -> set[int]:
    """Those of these jobs that a user wants to end, and those that do not run any more, their rows being gone perhaps."""
    wanted = Job.objects.filter(pk__in=list(jobs), state=JobState.RUNNING, cancel_requested=False)
    return set(jobs) - set(wanted.values_list("pk", flat=True))


def _claimed(job: Job, epoch: int, spec: JobSpec, now: datetime, *, is_fresh: bool) -> Claimed:
    """A simulated job that never ran has no finished tiles to look for: it needs no planning."""
    is_simulated = job.slide_id is None
    is_planned = is_fresh and is_simulated
    runner = registry.runner(job.job_type, simulated=is_simulated)
    expected = {"seconds_per_tile": simulated.seconds_per_tile(job.job_type, job.parameters, _setting())} if is_simulated else {}
    return Claimed(
        job=job.pk,
        user=job.owner_id,
        weight=job.owner.weight,
        workflow=job.workflow.uuid,
        attempt=job.attempt,
        epoch=epoch,
        queue=job.queue,
        spec=spec,
        tiles_total=job.tiles_total if is_planned else None,
        batch=simulated.batch_of(job.job_type) if is_planned else 1,
        tiles_processed=job.tiles_processed,
        cancel_requested=job.cancel_requested,
        plan_s=runner.plan_s,
        step_s=runner.step_s,
        timeout_s=job.timeout_s,
        ran_s=job.ran_s + seconds_since(job.claimed_at, now),
        tries={None if tile == PLAN else int(tile): count for tile, count in job.tries.items()},
        refused_for_s=None if job.disk_since is None else seconds_since(job.disk_since, now),
        begins_at=begins_at(job, spec),
        **expected,
    )


def _setting() -> float | None:
    seconds: float | None = settings.ENV.simulated_seconds_per_tile
    return seconds


def needs_of(jobs: Sequence[Job]) -> dict[int, list[Job]]:
    """The jobs that each of these depends on, in order of submission, by key; one statement for all."""
    needs: dict[int, list[Job]] = {job.pk: [] for job in jobs}
    for dependency in Dependency.objects.select_related("needs").filter(job__in=needs).order_by("needs_id"):
        needs[dependency.job_id].append(dependency.needs)
    return needs


def _inputs_of(job: Job, needs: Sequence[Job]) -> list[Job]:
    """One job of each type that this one reads, on the same slide: the last of those it depends on, else the last before it in its
    branch. Raises registry.Unusable.
    """
    wanted = set(registry.usable_runner(job.job_type, simulated=job.slide_id is None).consumes)
    if job.slide_id is None:
        return []
    if job.annotation_id is not None:
        wanted.discard("TISSUE_MASK")  # the annotation is the mask
    earlier = Job.objects.filter(workflow_id=job.workflow_id, branch=job.branch, slide_id=job.slide_id, job_type__in=wanted, pk__lt=job.pk)
    named = [need for need in needs if need.slide_id == job.slide_id and need.job_type in wanted]
    return list({found.job_type: found for found in (*earlier.order_by("pk"), *named)}.values())
