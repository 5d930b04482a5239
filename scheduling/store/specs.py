"""What a worker is told of a job, and the digest that names its work: equal work of one owner has one digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from scheduling.jobtypes import registry
from scheduling.jobtypes.base import SUMMARY, AnnotationRef, InputRef, JobSpec, ReuseRef, SlideRef
from scheduling.jobtypes.parameters import filled
from scheduling.models import Job, Slide
from scheduling.states import JobState
from scheduling.store import sets

# As the index `job_by_digest` has it: SQLite takes a partial index only when it can read the condition in the query.
_NONE = RawSQL("''", ())


def spec_of(job: Job, inputs: Sequence[Job]) -> JobSpec:
    """The job as it travels to workers; `inputs` are the jobs whose artifacts it reads. What others have done of it: `SharedWork`."""
    refs = tuple(InputRef(job=str(i.uuid), job_type=i.job_type, digest=_digest_of(_lasting(i.artifacts))) for i in inputs)
    return JobSpec(
        id=str(job.uuid),
        owner=job.owner.username,
        job_type=job.job_type,
        parameters=job.parameters,
        slide=_slide_ref(job.slide),
        inputs=refs,
        region=job.region,
        annotation=AnnotationRef(path=job.annotation.path, sha256=job.annotation.sha256) if job.annotation else None,
        digest=_digest_of(_work_of(job, refs)),
        keeps_tiles=job.slide_id is not None,
        device=job.queue,
    )


@dataclass(frozen=True, kw_only=True)
class SharedWork:
    """What others of its owner have done of a job's work, or are doing."""

    #: Whose results answer the job without any work.
    reuse: ReuseRef | None = None
    #: How many others are at it.
    running: int = 0

    @property
    def begins_at(self) -> float:
        """Where in its tiles the job begins: 0, 1/2, 1/4, 3/4, … the more are at the same work, so that none computes what another does."""
        beside, place, part = self.running, 0.0, 0.5
        while beside:
            place += part * (beside & 1)
            beside, part = beside >> 1, part / 2
        return place


def shared_work(jobs: Iterable[tuple[Job, JobSpec]]) -> dict[int, SharedWork]:
    """Of those of these jobs whose work may be shared, by job. Those among them that are at the same work count as begun in this order."""
    asked = [(job.pk, job.owner_id, spec.digest) for job, spec in jobs if _is_shared(job)]
    if not asked:
        return {}
    found = sets.ask(_shared_sql(), *sets.rows(asked))
    done = {job.pk: job for job in sets.models(Job, {last for _, last, _ in found if last is not None})}
    digests = {key: digest for key, _, digest in asked}
    begun: Counter[str] = Counter()
    shared = {}
    for key, last, running in sorted(found, key=itemgetter(0)):
        shared[key] = SharedWork(reuse=_reuse_of(done[last]) if last in done else None, running=running + begun[digests[key]])
        begun[digests[key]] += 1
    return shared


@cache
def _shared_sql() -> str:
    same = "FROM scheduling_job j WHERE j.digest = v.digest AND j.digest <> '' AND j.id <> v.key"
    done = "j.owner_id = v.owner AND j.state = 'SUCCEEDED' AND j.cache AND j.tiles_total IS NOT NULL"
    return (
        f"WITH v AS ({sets.table(key='key', owner='key', digest='text')}) "  # noqa: S608  (texts of ours)
        f"SELECT v.key, (SELECT MAX(j.id) {same} AND {done}), (SELECT COUNT(*) {same} AND j.state = 'RUNNING') FROM v"
    )


def _reuse_of(done: Job) -> ReuseRef:
    return ReuseRef(job=str(done.uuid), tiles_total=done.tiles_total or 0, artifacts=tuple(done.artifacts), warnings=tuple(done.warnings))


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
