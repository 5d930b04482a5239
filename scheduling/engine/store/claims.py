"""The leader's claims: PENDING → RUNNING with a new epoch, and the take-over of what ran under an earlier leader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from scheduling.engine.entry import Claimed, End
from scheduling.engine.lease import Lease
from scheduling.engine.policy import Claim
from scheduling.engine.store.ends import cancel_waiting, end_jobs
from scheduling.engine.store.log import SCHEDULER, job_event, record
from scheduling.engine.store.moves import move
from scheduling.engine.store.users import lock_users
from scheduling.engine.store.words import RUNNING
from scheduling.engine.store.workflows import refresh_workflow
from scheduling.jobtypes import registry, simulated
from scheduling.jobtypes.base import InputRef, JobSpec, SlideRef
from scheduling.models import Job, Slide
from scheduling.states import JobState

_RELATED = ("workflow", "owner", "slide")


def claim_jobs(lease: Lease, claims: Sequence[Claim], now: datetime) -> list[Claimed]:
    """Start these jobs, inside the leader's transaction; those that a user has cancelled meanwhile are left out.

    A job whose input comes from a FAILED or CANCELLED job is cancelled instead, with that reason; one whose type cannot be
    used any more starts and fails.
    """
    reasons = {claim.job: claim.reason for claim in claims}
    jobs = list(Job.objects.select_related(*_RELATED).filter(pk__in=reasons, state=JobState.PENDING).order_by("pk"))
    claimed: list[Claimed] = []
    for job, epoch in zip(jobs, lease.new_epochs(len(jobs)), strict=True):
        try:
            inputs = _inputs_of(job)
        except registry.Unusable as error:
            _fail(lease, job, epoch, str(error), now)
            continue
        lost = next((earlier for earlier in inputs if earlier.state != JobState.SUCCEEDED), None)
        if lost is not None:
            cancel_waiting(job, now, reason=f"its input, job {lost.job_id}, has {lost.state.lower()}", term=lease.term)
        elif taken := _claim(job, epoch, inputs, lease, now, reasons[job.pk]):
            claimed.append(taken)
    return claimed


def _claim(job: Job, epoch: int, inputs: Sequence[Job], lease: Lease, now: datetime, reason: str) -> Claimed | None:
    is_first_claim = job.epoch == 0
    spec = _spec_of(job, inputs)
    started = job.started_at or now
    same = Job.objects.filter(pk=job.pk, attempt=job.attempt)
    fields = {"epoch": epoch, "term": lease.term, "digest": spec.digest, "started_at": started, "claimed_at": now, "retry_at": None}
    rows = move(same, {JobState.PENDING}, JobState.RUNNING, **fields, retry_reason="")
    if not rows:
        return None
    record([job_event("job.started", job, job.workflow.uuid, actor=SCHEDULER, reason=reason, term=lease.term, epoch=epoch)])
    job.state = JobState.RUNNING
    refresh_workflow(job.workflow, now, term=lease.term)
    return _claimed(job, epoch, spec, is_fresh=is_first_claim)


def _fail(lease: Lease, job: Job, epoch: int, error: str, now: datetime) -> None:
    """Fail a job that cannot be carried out at all."""
    fields = {"epoch": epoch, "term": lease.term, "started_at": now, "claimed_at": now}
    if move(Job.objects.filter(pk=job.pk), {JobState.PENDING}, JobState.RUNNING, **fields):
        record([job_event("job.started", job, job.workflow.uuid, actor=SCHEDULER, reason=error, term=lease.term, epoch=epoch)])
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
        spec = _spec_of(job, _inputs_of(job))
    except registry.Unusable as error:
        _fail(lease, job, job.epoch, str(error), now)
        return None
    mine.update(epoch=epoch, term=lease.term, digest=spec.digest)
    record([event])
    return _claimed(job, epoch, spec, is_fresh=False)


def cancel_requests(jobs: Iterable[int]) -> set[int]:
    """Those of these jobs that a user wants to end, and those that do not run any more, their rows being gone perhaps."""
    wanted = Job.objects.filter(pk__in=list(jobs), state=JobState.RUNNING, cancel_requested=False)
    return set(jobs) - set(wanted.values_list("pk", flat=True))


def _claimed(job: Job, epoch: int, spec: JobSpec, *, is_fresh: bool) -> Claimed:
    """A simulated job that never ran has no finished tiles to look for: it needs no planning."""
    is_planned = is_fresh and job.slide_id is None
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
    )


def _inputs_of(job: Job) -> list[Job]:
    """The last job of each type that this one reads, before it in its branch, on the same slide. Raises registry.Unusable."""
    wanted = registry.usable_runner(job.job_type, simulated=job.slide_id is None).consumes
    if job.slide_id is None:
        return []
    earlier = Job.objects.filter(workflow_id=job.workflow_id, branch=job.branch, slide_id=job.slide_id, job_type__in=wanted, pk__lt=job.pk)
    return list({found.job_type: found for found in earlier.order_by("pk")}.values())


def _spec_of(job: Job, inputs: Sequence[Job]) -> JobSpec:
    slide = _slide_ref(job.slide)
    refs = tuple(InputRef(job=str(i.uuid), job_type=i.job_type, digest=_digest_of(i.artifacts)) for i in inputs)
    runner = registry.runner(job.job_type, simulated=slide is None)
    digest = _digest_of(
        {
            "job": str(job.uuid),
            "owner": job.owner.username,
            "slide": slide and {"fingerprint": slide.fingerprint, "mpp": slide.mpp},
            "type": [job.job_type, runner.version],
            "parameters": job.parameters,
            "inputs": [ref.digest for ref in refs],
        }
    )
    return JobSpec(
        id=str(job.uuid),
        owner=job.owner.username,
        job_type=job.job_type,
        parameters=job.parameters,
        slide=slide,
        inputs=refs,
        digest=digest,
    )


def _slide_ref(slide: Slide | None) -> SlideRef | None:
    if slide is None:
        return None
    return SlideRef(id=str(slide.pk), name=slide.name, path=slide.path, fingerprint=slide.fingerprint, mpp=slide.mpp or 0.0)


def _digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
