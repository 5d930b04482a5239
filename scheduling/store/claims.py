"""The leader's claims: PENDING → RUNNING with a new epoch, and the take-over of what ran under an earlier leader. All in sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache

from django.conf import settings

from scheduling.engine.entry import Claimed, End
from scheduling.engine.policy import Claim
from scheduling.jobtypes import registry, simulated
from scheduling.jobtypes.base import JobSpec
from scheduling.models import Annotation, Event, Job, Slide, User, Workflow
from scheduling.states import JobState
from scheduling.store import sets
from scheduling.store.ends import PLAN, cancel_waiting, end_jobs, seconds_since
from scheduling.store.events import SCHEDULER, job_event, record
from scheduling.store.inputs import inputs_of, needs_of
from scheduling.store.lease import Lease
from scheduling.store.specs import SharedWork, shared_work, spec_of
from scheduling.store.sql_words import RUNNING
from scheduling.store.transition import check_moves
from scheduling.store.users import lock_users
from scheduling.store.workflows import record_moves

_HAS_ENDED = {JobState.FAILED: "has failed", JobState.CANCELLED: "was cancelled"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A job on its way to a claim."""

    job: Job
    epoch: int
    #: None for a job whose type cannot be used, with the reason why.
    spec: JobSpec | None
    reason: str
    shared: SharedWork = field(default_factory=SharedWork)


def claim_jobs(lease: Lease, claims: Sequence[Claim], now: datetime) -> list[Claimed]:
    """Start these jobs, inside the leader's transaction; those that a user has cancelled meanwhile are left out.

    A job that depends on a FAILED or CANCELLED job, or whose input comes from one, is cancelled instead, with that reason; one
    whose type cannot be used any more starts and fails.
    """
    reasons = {claim.job: claim.reason for claim in claims}
    jobs = _with_related(sets.models(Job, reasons, where=sets.still("PENDING", "m")))
    needs = needs_of(jobs)
    inputs = inputs_of(jobs, needs)
    hopeless = {job.pk: reason for job in jobs if (reason := _hopeless(needs[job.pk], inputs[job.pk]))}
    going = [job for job in jobs if job.pk not in hopeless]
    starts = _starts(going, lease.new_epochs(len(going)), inputs, reasons)
    record_moves(cancel_waiting(lease, hopeless, now), now, term=lease.term)
    started = _start(lease, starts, now)
    _fail(lease, [start for start in started if start.spec is None], now)
    return [_claimed(start.job, start.epoch, start.spec, start.shared, now) for start in started if start.spec is not None]


def _with_related(jobs: Iterable[Job]) -> list[Job]:
    """The jobs with their owners, workflows, slides and annotations, each read once."""
    listed = list(jobs)
    owners = {user.pk: user for user in sets.models(User, {job.owner_id for job in listed})}
    flows = {flow.pk: flow for flow in sets.models(Workflow, {job.workflow_id for job in listed})}
    slides = {slide.pk: slide for slide in sets.models(Slide, {job.slide_id for job in listed} - {None}, kind="uuid")}
    drawn = {one.pk: one for one in sets.models(Annotation, {job.annotation_id for job in listed} - {None}, kind="uuid")}
    for job in listed:
        job.owner, job.workflow = owners[job.owner_id], flows[job.workflow_id]
        job.slide = slides[job.slide_id] if job.slide_id is not None else None
        job.annotation = drawn[job.annotation_id] if job.annotation_id is not None else None
    return listed


def _hopeless(needs: Sequence[Job], inputs: Sequence[Job] | registry.Unusable) -> str:
    """Why the job can never start, because of another one; "" when it can. What it needs has ended."""
    if isinstance(inputs, registry.Unusable):
        return ""
    for job in needs:
        if job.state != JobState.SUCCEEDED:
            return f"job {job.job_id}, which it depends on, {_HAS_ENDED[JobState(job.state)]}"
    lost = next((earlier for earlier in inputs if earlier.state != JobState.SUCCEEDED), None)
    return f"its input, job {lost.job_id}, has {lost.state.lower()}" if lost else ""


def _starts(
    jobs: Iterable[Job], epochs: Iterable[int], inputs: Mapping[int, Sequence[Job] | registry.Unusable], reasons: Mapping[int, str]
) -> list[Start]:
    """What starts, with what travels to workers."""
    starts: list[Start] = []
    for job, epoch in zip(jobs, epochs, strict=True):
        found = inputs[job.pk]
        if isinstance(found, registry.Unusable):
            starts.append(Start(job=job, epoch=epoch, spec=None, reason=str(found)))
        else:
            starts.append(Start(job=job, epoch=epoch, spec=spec_of(job, found), reason=reasons.get(job.pk, "")))
    shared = shared_work((start.job, start.spec) for start in starts if start.spec is not None)
    return [_sharing(start, shared[start.job.pk]) if start.job.pk in shared else start for start in starts]


def _sharing(start: Start, shared: SharedWork) -> Start:
    return replace(start, shared=shared, spec=start.spec and replace(start.spec, reuse=shared.reuse))


@cache
def _start_sql() -> str:
    columns = {"key": "key", "attempt": "key", "epoch": "key", "term": "key", "digest": "text", "started_at": "moment", "now": "moment"}
    return (
        f"WITH v AS ({sets.table(**columns)}) "  # noqa: S608  (texts of ours)
        "UPDATE scheduling_job SET state = 'RUNNING', epoch = v.epoch, term = v.term, "
        "digest = COALESCE(v.digest, scheduling_job.digest), started_at = v.started_at, claimed_at = v.now, retry_at = NULL, retry_reason = '' "
        f"FROM v WHERE scheduling_job.id = v.key AND scheduling_job.attempt = v.attempt AND {sets.still('PENDING', 'scheduling_job')} "
        "RETURNING scheduling_job.id"
    )


def _start(lease: Lease, starts: Sequence[Start], now: datetime) -> list[Start]:
    """Write the claims; those that no user was faster to change."""
    if not starts:
        return []
    check_moves({JobState.PENDING}, {JobState.RUNNING})
    wanted = ((s.job.pk, s.job.attempt, s.epoch, lease.term, s.spec and s.spec.digest, s.job.started_at or now, now) for s in starts)
    written = {key for (key,) in sets.ask(_start_sql(), *sets.rows(wanted))}
    started = [start for start in starts if start.job.pk in written]
    moved = [(start.job.workflow_id, _told("job.started", start, lease)) for start in started]
    record_moves(moved, now, are_starts=True, term=lease.term)
    return started


def _told(kind: str, start: Start, lease: Lease) -> Event:
    uuid = start.job.workflow.uuid
    return job_event(kind, start.job, uuid, actor=SCHEDULER, reason=start.reason, term=lease.term, epoch=start.epoch)


def _fail(lease: Lease, starts: Iterable[Start], now: datetime) -> None:
    """Fail jobs that run and cannot be carried out at all."""
    ends = [
        End(
            job=start.job.pk,
            epoch=start.epoch,
            state=JobState.FAILED,
            tiles_processed=start.job.tiles_processed,
            tiles_total=None,
            error=start.reason,
        )
        for start in starts
    ]
    end_jobs(lease, ends, now)


# -- what ran before


def take_over_jobs(lease: Lease, now: datetime, *, known: Collection[int] = ()) -> list[Claimed]:
    """Give every RUNNING job that is not `known` a new epoch of this term: outcomes of earlier claims are nobody's from now on."""
    strays = set(Job.objects.filter(state=RUNNING).values_list("pk", flat=True)).difference(known)
    jobs = _with_related(sets.models(Job, strays))
    lock_users({job.owner_id for job in jobs})
    starts = _starts(jobs, lease.new_epochs(len(jobs)), inputs_of(jobs, needs_of(jobs)), {})
    _fail(lease, [replace(start, epoch=start.job.epoch) for start in starts if start.spec is None], now)
    taken = _take_over(lease, [start for start in starts if start.spec is not None])
    return [_claimed(start.job, start.epoch, start.spec, start.shared, now, is_fresh=False) for start in taken if start.spec is not None]


@cache
def _take_over_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', epoch='key', term='key', digest='text')}) "  # noqa: S608
        "UPDATE scheduling_job SET epoch = v.epoch, term = v.term, digest = v.digest "
        f"FROM v WHERE scheduling_job.id = v.key AND {sets.still('RUNNING', 'scheduling_job')} RETURNING scheduling_job.id"
    )


def _take_over(lease: Lease, starts: Sequence[Start]) -> list[Start]:
    if not starts:
        return []
    wanted = ((start.job.pk, start.epoch, lease.term, start.spec and start.spec.digest) for start in starts)
    written = {key for (key,) in sets.ask(_take_over_sql(), *sets.rows(wanted))}
    taken = [start for start in starts if start.job.pk in written]
    record(_told("job.taken_over", start, lease) for start in taken)
    return taken


# -- what the ledger is told


def _claimed(job: Job, epoch: int, spec: JobSpec, shared: SharedWork, now: datetime, *, is_fresh: bool | None = None) -> Claimed:
    """A simulated job that never ran has no finished tiles to look for: it needs no planning."""
    is_simulated = job.slide_id is None
    is_planned = (job.epoch == 0 if is_fresh is None else is_fresh) and is_simulated
    runner = registry.runner(job.job_type, simulated=is_simulated)
    expected = {"seconds_per_tile": simulated.seconds_per_tile(job.job_type, job.parameters, _setting())} if is_simulated else {}
    ran_s = seconds_since(job.claimed_at, now) if job.state == JobState.RUNNING else 0.0
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
        ran_s=job.ran_s + ran_s,
        tries={None if tile == PLAN else int(tile): count for tile, count in job.tries.items()},
        refused_for_s=None if job.disk_since is None else seconds_since(job.disk_since, now),
        begins_at=shared.begins_at,
        **expected,
    )


def _setting() -> float | None:
    seconds: float | None = settings.ENV.simulated_seconds_per_tile
    return seconds
