"""What a worker is told of a job, and the digest that names its work: equal work of one owner has one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from scheduling.jobtypes import registry
from scheduling.jobtypes.base import SUMMARY, AnnotationRef, InputRef, JobSpec, ReuseRef, SlideRef
from scheduling.jobtypes.parameters import filled
from scheduling.models import Job, Slide
from scheduling.states import JobState

# As the index `job_by_digest` has it: SQLite takes a partial index only when it can read the condition in the query.
_NONE = RawSQL("''", ())


def spec_of(job: Job, inputs: Sequence[Job]) -> JobSpec:
    """The job as it travels to workers; `inputs` are the jobs whose artifacts it reads."""
    slide = _slide_ref(job.slide)
    refs = tuple(InputRef(job=str(i.uuid), job_type=i.job_type, digest=_digest_of(_lasting(i.artifacts))) for i in inputs)
    digest = _digest_of(_work_of(job, refs))
    return JobSpec(
        id=str(job.uuid),
        owner=job.owner.username,
        job_type=job.job_type,
        parameters=job.parameters,
        slide=slide,
        inputs=refs,
        region=job.region,
        annotation=AnnotationRef(path=job.annotation.path, sha256=job.annotation.sha256) if job.annotation else None,
        digest=digest,
        keeps_tiles=job.slide_id is not None,
        reuse=_same_work(job, digest) if _is_shared(job) else None,
        device=job.queue,
    )


def begins_at(job: Job, spec: JobSpec) -> float:
    """Where in its tiles a job begins: 0, 1/2, 1/4, 3/4, … the more jobs are at the same work, so that none computes what another does."""
    beside = by_digest(spec.digest).filter(state=JobState.RUNNING).exclude(pk=job.pk).count() if _is_shared(job) else 0
    place, part = 0.0, 0.5
    while beside:
        place += part * (beside & 1)
        beside, part = beside >> 1, part / 2
    return place


def by_digest(*digests: str) -> QuerySet[Job]:
    """Jobs that were claimed for this work."""
    return Job.objects.filter(digest__in=digests).exclude(digest=_NONE)


def needs_no_tiles() -> Q:
    """Jobs whose artifacts are complete and whose tiles nobody looks at: simulated ones. Those on a slide are what its viewer shows."""
    return Q(state=JobState.SUCCEEDED, slide=None)


def needed_digests(digests: Iterable[str]) -> set[str]:
    """Those of these tile folders that a job needs: to go on, to be retried, to be looked at, or as the store of its work."""
    return set(by_digest(*digests).exclude(needs_no_tiles()).values_list("digest", flat=True))


def _is_shared(job: Job) -> bool:
    """Whether what the job finishes may serve others of its owner. Nothing simulated is answered from a store."""
    return job.slide_id is not None and job.cache


def _work_of(job: Job, inputs: Sequence[InputRef]) -> dict[str, Any]:
    """Everything that the tiles depend on. A job that shares nothing is a work of its own."""
    runner = registry.runner(job.job_type, simulated=job.slide_id is None)
    return {
        "job": None if _is_shared(job) else str(job.uuid),
        "owner": job.owner_id,
        "slide": job.slide and {"fingerprint": job.slide.fingerprint, "mpp": job.slide.mpp},
        "type": [job.job_type, runner.version],
        "parameters": filled(runner.parameters, job.parameters),
        "inputs": sorted([ref.job_type, ref.digest] for ref in inputs),
        **_limits_of(job),
        **_device_of(job),
    }


def _limits_of(job: Job) -> dict[str, Any]:
    """Where the job looks, of a job that is limited at all: the digests of all others stay what they were."""
    annotation = {"annotation": job.annotation.sha256} if job.annotation else {}
    return annotation | ({"region": job.region} if job.region else {})


def _device_of(job: Job) -> dict[str, Any]:
    """The kind of device, since tiles are equal to the byte on one kind only; the digests of jobs on the cpu stay what they were."""
    return {} if job.queue == "cpu" else {"device": job.queue}


def _same_work(job: Job, digest: str) -> ReuseRef | None:
    """The last job that did the same work and has its results."""
    done = by_digest(digest).filter(owner_id=job.owner_id, state=JobState.SUCCEEDED, cache=True, tiles_total__isnull=False)
    found = done.exclude(pk=job.pk).order_by("-pk").first()
    if found is None:
        return None
    return ReuseRef(
        job=str(found.uuid), tiles_total=found.tiles_total or 0, artifacts=tuple(found.artifacts), warnings=tuple(found.warnings)
    )


def _slide_ref(slide: Slide | None) -> SlideRef | None:
    if slide is None:
        return None
    return SlideRef(
        id=str(slide.pk), name=slide.name, root=slide.root, path=slide.path, fingerprint=slide.fingerprint, mpp=slide.mpp or 0.0
    )


def _lasting(artifacts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are the same when the same work is done again."""
    return [artifact for artifact in artifacts if artifact["name"] != SUMMARY]


def _digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
