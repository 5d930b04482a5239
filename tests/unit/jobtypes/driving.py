"""Runs a real job type from plan to artifacts in a folder, without scheduler, as the tests of the job types need it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from scheduling.jobtypes.base import InputRef, JobContext, JobSpec, JobType, Plan, SlideRef, WorkerSettings
from scheduling.slides.reading.reader import fingerprint
from scheduling.worker.running import compute, finish, survey


def job_context(
    data_dir: Path, slide: Path, job_type: JobType, *, name: str, mpp: float = 0.5, inputs: tuple[InputRef, ...] = (), **parameters: Any
) -> JobContext:
    """A context whose folders exist, as the scheduler would have made them."""
    ref = SlideRef(id="slide", name=slide.name, path=os.path.relpath(slide, data_dir), fingerprint=fingerprint(slide), mpp=mpp)
    spec = JobSpec(
        id=name, owner="tester", job_type=job_type.name, parameters=parameters, slide=ref, inputs=inputs, digest=f"digest-{name}"
    )
    context = JobContext(spec=spec, settings=WorkerSettings(data_dir=data_dir))
    context.tiles.path.mkdir(parents=True)
    context.results.mkdir(parents=True)
    return context


def run_job(job_type: JobType, context: JobContext, order: Callable[[Sequence[int]], Sequence[int]] = list) -> Plan:
    """Plan, compute all tiles in the given order, finish with a new list of steps for each; the plan."""
    plan = survey(job_type, context).plan
    _, error = compute(job_type, context, order(range(plan.tiles_total)), batch=plan.batch, is_over=lambda: False)
    if error is not None:
        raise error.error
    step: int | None = 0
    while step is not None:
        step = finish(job_type, context, step=step, is_over=lambda: True, tiles_total=plan.tiles_total)
    return plan


def comparable(artifacts: dict[str, bytes]) -> dict[str, bytes]:
    """The artifacts; of the summary what does not tell of this run."""
    summary = orjson.loads(artifacts["summary.json"])
    return artifacts | {"summary.json": orjson.dumps({key: value for key, value in summary.items() if key != "run"})}


def artifacts_of(context: JobContext) -> dict[str, bytes]:
    """The published files."""
    return {file.name: file.read_bytes() for file in sorted(context.results.iterdir()) if file.is_file()}
