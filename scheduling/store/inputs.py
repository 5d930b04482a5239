"""What jobs read and wait for: the jobs that they depend on, and the earlier ones of their branches whose artifacts they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from scheduling.jobtypes import registry
from scheduling.models import Job
from scheduling.store import sets

#: What a job reads, or why its type cannot be used.
Inputs = list[Job] | registry.Unusable


def needs_of(jobs: Sequence[Job]) -> dict[int, list[Job]]:
    """The jobs that each of these depends on, in order of submission, by key."""
    pairs = sets.ask(_needs_sql(), *sets.keys(job.pk for job in jobs)) if jobs else []
    found = _by_key(need for _, need in pairs)
    needs: dict[int, list[Job]] = {job.pk: [] for job in jobs}
    for key, need in pairs:
        needs[key].append(found[need])
    return needs


@cache
def _needs_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key')}) "  # noqa: S608  (texts of ours)
        "SELECT d.job_id, d.needs_id FROM v JOIN scheduling_dependency d ON d.job_id = v.key ORDER BY d.needs_id"
    )


def inputs_of(jobs: Sequence[Job], needs: Mapping[int, Sequence[Job]]) -> dict[int, Inputs]:
    """One job of each type that each of these reads, on the same slide: the last of those it depends on, else the last before it in its branch."""
    wanted: dict[int, frozenset[str]] = {}
    inputs: dict[int, Inputs] = {}
    for job in jobs:
        try:
            wanted[job.pk] = _wanted(job)
        except registry.Unusable as error:
            inputs[job.pk] = error
    earlier = _earlier([job for job in jobs if wanted.get(job.pk)], wanted)
    for job in jobs:
        if job.pk in wanted:
            named = [need for need in needs[job.pk] if need.slide_id == job.slide_id and need.job_type in wanted[job.pk]]
            inputs[job.pk] = list({found.job_type: found for found in (*earlier.get(job.pk, ()), *named)}.values())
    return inputs


def _wanted(job: Job) -> frozenset[str]:
    """The types of which it reads one job. Raises registry.Unusable."""
    wanted = frozenset(registry.usable_runner(job.job_type, simulated=job.slide_id is None).consumes)
    if job.slide_id is None:
        return frozenset()
    # An annotation is the mask.
    return wanted - {"TISSUE_MASK"} if job.annotation_id is not None else wanted


@cache
def _earlier_sql() -> str:
    return (
        f"WITH v AS ({sets.table(key='key', workflow='key', branch='text', slide='uuid', job_type='text')}) "  # noqa: S608
        "SELECT v.key, MAX(j.id) FROM v JOIN scheduling_job j ON j.workflow_id = v.workflow AND j.branch = v.branch "
        "AND j.slide_id = v.slide AND j.job_type = v.job_type AND j.id < v.key GROUP BY v.key, v.job_type ORDER BY MAX(j.id)"
    )


def _earlier(jobs: Iterable[Job], wanted: Mapping[int, frozenset[str]]) -> dict[int, list[Job]]:
    """Of each wanted type the last job before each of these in its branch, in order of submission."""
    asked = [(job.pk, job.workflow_id, job.branch, job.slide_id, kind) for job in jobs for kind in sorted(wanted[job.pk])]
    pairs = sets.ask(_earlier_sql(), *sets.rows(asked)) if asked else []
    found = _by_key(last for _, last in pairs)
    earlier: dict[int, list[Job]] = {}
    for key, last in pairs:
        earlier.setdefault(key, []).append(found[last])
    return earlier


def _by_key(keys: Iterable[int]) -> dict[int, Job]:
    wanted = set(keys)
    return {job.pk: job for job in sets.models(Job, wanted)} if wanted else {}
