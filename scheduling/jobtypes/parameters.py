"""Parameters of a job with the defaults of its schema filled in, and the provenance that every summary carries."""

from __future__ import annotations

from typing import Any

import scheduling
from scheduling.jobtypes.base import JobContext, JobFailed, JobType, SlideRef


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
