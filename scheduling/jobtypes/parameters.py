"""Parameters of a job with the defaults of its schema filled in, and what every summary carries: provenance, and how the run went."""

from __future__ import annotations

from typing import Any

import orjson

import scheduling
from scheduling.jobtypes.base import JobContext, JobFailed, JobType, SlideRef
from scheduling.tilestore.stage_times import EXPORT, PLAN, noted


def filled(schema: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given`, and the schema's default for whatever is not given and has one.

    What is then None and has `x-preset-defaults` in its rule takes the value that these have for the parameter `preset`.
    """
    rules = schema.get("properties", {})
    values = {name: rule["default"] for name, rule in rules.items() if "default" in rule} | given
    presets = {name: rule["x-preset-defaults"] for name, rule in rules.items() if "x-preset-defaults" in rule}
    return values | {name: by_preset[values["preset"]] for name, by_preset in presets.items() if values[name] is None}


def slide_of(context: JobContext) -> SlideRef:
    """The job's slide. Raises JobFailed for a job without one."""
    if context.spec.slide is None:
        raise JobFailed("This job has no slide.")
    return context.spec.slide


def provenance(job_type: JobType, context: JobContext, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a result was made from and by; no times, so that the same work gives the same file."""
    slide = slide_of(context)
    return {
        "job_type": job_type.name,
        "job_type_version": job_type.version,
        "software_version": scheduling.__version__,
        "slide": {"name": slide.name, "fingerprint": slide.fingerprint, "mpp": slide.mpp},
        "parameters": parameters,
        "region": context.spec.region,
        "annotation": context.spec.annotation and context.spec.annotation.sha256,
        "inputs": [{"job_type": ref.job_type, "digest": ref.digest} for ref in context.spec.inputs],
    }


def run_of(context: JobContext, tiles: int, tile_mpx: float | None = None) -> dict[str, Any]:
    """`run` of a summary: tiles, and the seconds that all workers together have worked by stage; `tile_mpx` are the megapixels of a tile.

    Tiles and what they took are those of the tile folder, whoever computed them: jobs at the same work, earlier attempts. Settled
    once for a job, first one wins: a step that is repeated must write the same bytes. Raises MissingTile, FolderGone.
    """
    name = f"run.{context.spec.id}"
    context.tiles.publish_part(name, orjson.dumps(_figures_of_run(context, tiles, tile_mpx)))
    figures: dict[str, Any] = orjson.loads(context.tiles.read_part(name))
    return figures


def _figures_of_run(context: JobContext, tiles: int, tile_mpx: float | None) -> dict[str, Any]:
    work = noted(context.tiles.path)
    worked_s = sum(seconds for stage, seconds in work.seconds.items() if stage != PLAN)
    rates = {"tiles_per_worker_s": work.tiles, "mpx_per_worker_s": None if tile_mpx is None else work.tiles * tile_mpx}
    for finishing in (noted(context.part_path("")), context.work):
        work.take_in(finishing)
    stages = sorted(work.seconds, key=lambda stage: (stage != PLAN, stage == EXPORT))
    return {
        "tiles": tiles,
        "tiles_computed": work.tiles,
        "seconds": {stage: round(work.seconds[stage], 3) for stage in stages},
        **{name: round(amount / worked_s, 3) for name, amount in rates.items() if amount is not None and worked_s},
    }
