"""Use cases of workflows: submit, cancel, retry, delete."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from jsonschema import Draft202012Validator
from redis import RedisError

from scheduling.errors import Conflict, Invalid, KeyReused, NotFound
from scheduling.jobtypes import registry, simulated
from scheduling.jobtypes.base import BadParameter
from scheduling.live import updates
from scheduling.models import IdempotencyKey, Job, Slide, User, Workflow
from scheduling.protocol.inbox import Inbox, connect
from scheduling.services.dependencies import Needing, check_dependencies
from scheduling.services.limits import Asked, check_limits, refuse_gone_annotations, set_limits
from scheduling.states import FINISHED_WORKFLOW, RETRYABLE, UNFINISHED
from scheduling.store import requests as store
from scheduling.store.events import record, workflow_event
from scheduling.store.leftovers import IDEMPOTENCY_KEPT
from scheduling.store.specs import needed_digests
from scheduling.store.trash import discard_results, discard_tiles
from scheduling.store.users import lock_users

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One job as the user asks for it."""

    job_id: str
    branch: str
    job_type: str
    parameters: dict[str, Any] = field(default_factory=dict)
    slide: UUID | None = None
    #: Where on the slide it works: a rectangle or GeoJSON, as given; None = as the workflow says.
    region: Any = None
    #: An annotation of the slide in place of a tissue mask.
    annotation: UUID | None = None
    #: Ids of jobs of the same workflow that must have SUCCEEDED before this one starts.
    depends_on: tuple[str, ...] = ()
    #: False forbids the re-use of finished tiles and results; None = as the workflow says.
    cache: bool | None = None
    #: Seconds that the job may be RUNNING in one attempt; None = no limit of its own.
    timeout_s: float | None = None
    #: The kind of worker that computes it, one of its type's `devices`.
    requires: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class WorkflowRequest:
    """A workflow as the user asks for it; jobs in order of submission."""

    jobs: tuple[JobRequest, ...]
    name: str = ""
    slide: UUID | None = None
    #: Of every job that names none.
    region: Any = None
    branch_scope: str = "workflow"
    on_failure: str = "continue"
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """A client's Idempotency-Key and the SHA-256 (hex) of the body it came with."""

    key: str
    body_sha256: str


def workflow_submit(*, user: User, request: WorkflowRequest, idempotency: Idempotency | None = None) -> Workflow:
    """Insert a workflow. Raises Invalid naming the field; with a key already used, answers or raises as idempotent_replay.

    All checks come before the transaction, which on SQLite keeps every other writer out; in it only what may have changed is looked at again.
    """
    request = _settled(request)
    _check_names(request)
    slides = _slides_of(user, request)
    jobs = _jobs_of(user, request, slides)
    owners = {slide.owner_id for slide in slides.values()}
    try:
        return _insert(user, owners, request, jobs, idempotency)
    except IntegrityError:
        # Another request with the same key was faster; its answer is this one's.
        if idempotency is None or (first := idempotent_replay(user=user, idempotency=idempotency)) is None:
            raise
        return first


def template_settle(template: WorkflowRequest) -> WorkflowRequest:
    """The template, settled once for all its slides. Raises Invalid, naming the field, for what is wrong whatever the slide is."""
    _check_names(template)
    settled = _settled(template, is_on_slides=True)
    for i, job in enumerate(template.jobs):
        _check_requires(job, f"jobs[{i}].requires")
    check_limits(template.region, [(job.job_type, Asked(region=job.region, annotation=job.annotation)) for job in template.jobs])
    return settled


def _settled(request: WorkflowRequest, *, is_on_slides: bool = False) -> WorkflowRequest:
    """The request with the parameters of its jobs on slides as they will be stored. Looks at files, so it comes before the transaction."""
    is_real = [is_on_slides or (job.slide or request.slide) is not None for job in request.jobs]
    jobs = (_settled_job(job, f"jobs[{i}]") if real else job for i, (job, real) in enumerate(zip(request.jobs, is_real, strict=True)))
    return replace(request, jobs=tuple(jobs))


def _settled_job(job: JobRequest, where: str) -> JobRequest:
    _check_type(job, f"{where}.job_type")
    _check_parameters(job, is_simulated=False, where=f"{where}.parameters")
    try:
        return replace(job, parameters=registry.get(job.job_type).settled(job.parameters, settings.DATA_DIR))
    except BadParameter as error:
        raise Invalid(str(error), field=f"{where}.parameters.{error.name}") from error


def _insert(
    user: User, owners: Collection[int], request: WorkflowRequest, jobs: Sequence[Job], idempotency: Idempotency | None
) -> Workflow:
    now = timezone.now()
    with waking():
        # The owners of the slides as well, so that no slide is deleted between this look at it and the end of the transaction.
        locked = lock_users({user.pk, *owners})[user.pk]
        _refuse_gone(locked, request, jobs)
        workflow = Workflow(
            owner=locked, name=request.name, slide_id=request.slide, branch_scope=request.branch_scope, on_failure=request.on_failure
        )
        if idempotency is not None:
            IdempotencyKey.objects.filter(user=locked, created_at__lt=now - IDEMPOTENCY_KEPT).delete()
            IdempotencyKey.objects.create(
                user=locked, key=idempotency.key, body_sha256=idempotency.body_sha256, workflow_uuid=workflow.uuid
            )
        store.insert_workflow(locked, workflow, jobs, now, depends_on={job.job_id: job.depends_on for job in request.jobs})
    return workflow


def _refuse_gone(user: User, request: WorkflowRequest, jobs: Sequence[Job]) -> None:
    """What the jobs work on may have been deleted since they were checked. Raises Invalid with the field."""
    _slides_of(user, request)
    refuse_gone_annotations(jobs)


def idempotent_replay(*, user: User, idempotency: Idempotency) -> Workflow | None:
    """The workflow that this key made within 24 hours, None when it made none. Raises KeyReused when the body differs."""
    used = IdempotencyKey.objects.filter(user=user, key=idempotency.key, created_at__gte=timezone.now() - IDEMPOTENCY_KEPT).first()
    if used is None:
        return None
    if used.body_sha256 != idempotency.body_sha256:
        raise KeyReused(field="Idempotency-Key")
    # The workflow may have been deleted since: the first answer is given all the same.
    return Workflow.objects.filter(uuid=used.workflow_uuid).first() or Workflow(uuid=used.workflow_uuid, owner=user)


def workflow_cancel(*, workflow: Workflow, actor: str) -> None:
    """Cancel what is unfinished. Raises Conflict when nothing is."""
    _change(workflow, lambda user, flow, jobs: store.cancel_jobs(user, flow, jobs, timezone.now(), actor=actor), "already finished")


def workflow_retry(*, workflow: Workflow, actor: str) -> None:
    """Put FAILED and CANCELLED jobs back in their places. Raises Conflict when there is none, or what one works on was deleted."""
    _change(workflow, lambda user, flow, jobs: _retry(user, flow, jobs, actor), "no failed or cancelled job")


def workflow_pause(*, workflow: Workflow, actor: str) -> None:
    """Pause a workflow: running jobs wait again within one bundle, tiles kept. Raises Conflict when it has finished."""
    _set_paused(workflow, actor, paused=True)


def workflow_resume(*, workflow: Workflow, actor: str) -> None:
    """Let a paused workflow go on. Raises Conflict when it has finished."""
    _set_paused(workflow, actor, paused=False)


def _set_paused(workflow: Workflow, actor: str, *, paused: bool) -> None:
    def change(user: User, locked: Workflow, _: list[Job]) -> int:
        if locked.status in FINISHED_WORKFLOW:
            return 0
        store.set_paused(user, locked, timezone.now(), paused=paused, actor=actor)
        return 1

    _change(workflow, change, "already finished")


def job_cancel(*, job: Job, actor: str) -> None:
    """As workflow_cancel, for one job."""
    _change(job.workflow, lambda user, flow, _: store.cancel_jobs(user, flow, [job], timezone.now(), actor=actor), "already finished")


def job_retry(*, job: Job, actor: str) -> None:
    """As workflow_retry, for one job."""
    _change(job.workflow, lambda user, flow, _: _retry(user, flow, [job], actor), "neither failed nor cancelled")


def workflow_delete(*, workflow: Workflow, actor: str) -> None:
    """Delete a finished workflow and its results. Raises Conflict while a job is unfinished, NotFound when it is gone."""
    with transaction.atomic():
        lock_users([workflow.owner_id])
        jobs = list(Job.objects.filter(workflow=workflow))
        if not jobs:
            raise NotFound
        if any(job.state in UNFINISHED for job in jobs):
            raise Conflict("The workflow is unfinished; cancel it first.")
        record([workflow_event("workflow.deleted", workflow, actor=actor)])
        updates.workflow_changed(workflow.owner_id, workflow.uuid)
        Workflow.objects.filter(pk=workflow.pk).delete()
    for job in jobs:
        discard_results(settings.DATA_DIR, job.uuid)
    # A job claimed from now on for the same work finds its folder gone, and is planned again.
    digests = {job.digest for job in jobs}
    for digest in digests - needed_digests(digests):
        discard_tiles(settings.DATA_DIR, digest)


@contextmanager
def waking() -> Iterator[None]:
    """A transaction that wakes the scheduler once it is committed, before anybody who only looks on is told."""
    with transaction.atomic():
        transaction.on_commit(poke, robust=True)
        yield


def poke() -> None:
    """Wake the scheduler; without Redis it wakes by itself within a second."""
    try:
        _inbox().poke()
    except RedisError as error:
        logger.warning("the scheduler was not woken: %s", error, extra={"action": "poke_failed"})


@cache
def _inbox() -> Inbox:
    return Inbox(connect(settings.ENV.redis_url, timeout_s=2))


def _change(workflow: Workflow, change: Callable[[User, Workflow, list[Job]], int], refusal: str) -> None:
    with waking():
        user = lock_users([workflow.owner_id])[workflow.owner_id]
        locked = Workflow.objects.filter(pk=workflow.pk).first()
        if locked is None:
            raise NotFound
        if not change(user, locked, list(Job.objects.filter(workflow=locked))):
            raise Conflict(f"Nothing to do: {refusal}.")


def _retry(user: User, workflow: Workflow, jobs: Sequence[Job], actor: str) -> int:
    for name in ("slide", "annotation"):
        deleted = {f"{name}__deleted_at__isnull": False}
        gone = Job.objects.filter(pk__in=[job.pk for job in jobs], state__in=RETRYABLE, **deleted).first()
        if gone is not None:
            raise Conflict(f"The {name} of job {gone.job_id} was deleted.")
    return store.retry_jobs(user, workflow, jobs, timezone.now(), actor=actor)


def _jobs_of(user: User, request: WorkflowRequest, slides: Mapping[UUID | None, Slide]) -> list[Job]:
    """Unsaved jobs, checked against the rules of the domain."""
    jobs = [_job_of(user, job, slides.get(job.slide or request.slide), f"jobs[{i}]") for i, job in enumerate(request.jobs)]
    set_limits(jobs, [Asked(region=job.region, annotation=job.annotation) for job in request.jobs], request.region)
    for job, asked in zip(jobs, request.jobs, strict=True):
        job.cache = request.cache if asked.cache is None else asked.cache
        job.timeout_s = asked.timeout_s
    return jobs


def _check_names(request: WorkflowRequest) -> None:
    """Each job_id once, and dependencies on jobs that are there, without a cycle. Raises Invalid."""
    seen: set[str] = set()
    for i, job in enumerate(request.jobs):
        if job.job_id in seen:
            raise Invalid(f"job_id {job.job_id!r} is used twice.", field=f"jobs[{i}].job_id")
        seen.add(job.job_id)
    check_dependencies([Needing(job_id=job.job_id, branch=job.branch, depends_on=job.depends_on) for job in request.jobs])


def _slides_of(user: User, request: WorkflowRequest) -> dict[UUID | None, Slide]:
    wanted = [("slide", request.slide), *((f"jobs[{i}].slide", job.slide) for i, job in enumerate(request.jobs))]
    keys = {key for _, key in wanted if key is not None}
    if not keys:
        return {}
    known = Slide.objects.filter(pk__in=keys, deleted_at__isnull=True)
    slides = known if user.is_staff else known.filter(owner=user)
    found: dict[UUID | None, Slide] = {slide.pk: slide for slide in slides}
    for name, key in wanted:
        if key is not None and key not in found:
            raise Invalid(f"There is no slide {key}.", field=name)
    return found


def _job_of(user: User, job: JobRequest, slide: Slide | None, where: str) -> Job:
    _check_type(job, f"{where}.job_type")
    if slide is None and job.job_type not in simulated.PROFILES:
        raise Invalid(f"{job.job_type} needs a slide.", field=f"{where}.slide")
    if slide is not None and slide.mpp is None:
        raise Invalid(f"Slide {slide.name!r} states no microns per pixel; set them with PATCH /slide/{slide.pk}.", field=f"{where}.slide")
    if slide is None:  # those of the others were checked before they were settled
        _check_parameters(job, is_simulated=True, where=f"{where}.parameters")
    _check_requires(job, f"{where}.requires")
    return Job(
        owner=user,
        job_id=job.job_id,
        branch=job.branch,
        job_type=job.job_type,
        parameters=job.parameters,
        slide=slide,
        queue=job.requires,
        tiles_total=simulated.tiles_total(job.job_type, job.parameters) if slide is None else None,
    )


def _check_type(job: JobRequest, field: str) -> None:
    if job.job_type not in registry.names():
        raise Invalid(f"{job.job_type!r} is not a job type; there are {', '.join(registry.names())}.", field=field)


def _check_requires(job: JobRequest, field: str) -> None:
    if job.requires == "cpu":  # every type does with that
        return
    devices = registry.get(job.job_type).devices
    if job.requires not in devices:
        raise Invalid(f"{job.job_type} can use no {job.requires}: it computes on a {' or '.join(devices)} alone.", field=field)


#: By job type and whether it is simulated; making one takes longer than a check.
_validators: dict[tuple[str, bool], Draft202012Validator] = {}


def _validator(job_type: str, is_simulated: bool) -> Draft202012Validator:
    schema = registry.parameter_schema(job_type, simulated=is_simulated)
    kept = _validators.get((job_type, is_simulated))
    if kept is None or kept.schema is not schema:
        kept = _validators[job_type, is_simulated] = Draft202012Validator(schema)
    return kept


def _check_parameters(job: JobRequest, *, is_simulated: bool, where: str) -> None:
    for error in _validator(job.job_type, is_simulated).iter_errors(job.parameters):
        name = ".".join([where, *(str(part) for part in error.absolute_path)])
        raise Invalid(error.message[:500], field=name)
    if any(isinstance(value, float) and not math.isfinite(value) for value in job.parameters.values()):
        raise Invalid("Numbers must be finite.", field=where)
    if is_simulated and job.parameters.get("fail_at_tile", 0) >= simulated.tiles_total(job.job_type, job.parameters):
        raise Invalid("fail_at_tile counts from 0 and must be below the number of tiles.", field=f"{where}.fail_at_tile")
