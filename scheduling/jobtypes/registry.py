"""Job types by name. Modules are imported on first use: a worker's parent process must not load image libraries."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from scheduling.jobtypes.base import JobType
from scheduling.jobtypes.simulated import PROFILES, SIMULATED_PARAMETERS, Simulated

logger = logging.getLogger(__name__)

ENTRY_POINTS = "workflow_scheduler.job_types"

BUILT_IN = {
    "TISSUE_MASK": "scheduling.jobtypes.tissue_mask:TissueMask",
    "SEGMENT_CELLS": "scheduling.jobtypes.segment_cells:SegmentCells",
    "INSTANSEG_WSI": "scheduling.jobtypes.instanseg_wsi:InstansegWsi",
}


class Unusable(Exception):
    """The job type is not registered any more, or its package does not load."""


@cache
def _locations() -> dict[str, str]:
    return {**{point.name: point.value for point in entry_points(group=ENTRY_POINTS)}, **BUILT_IN}


def names() -> list[str]:
    """Names of the registered job types."""
    return list(_locations())


@cache
def get(name: str) -> type[JobType]:
    """The job type of that name, for jobs on a slide. Raises KeyError."""
    module, _, attribute = _locations()[name].partition(":")
    return cast("type[JobType]", getattr(import_module(module), attribute))


@cache
def runner(name: str, *, simulated: bool) -> JobType:
    """What carries out a job of that type: on a slide the real one, without a slide its simulation. Raises KeyError."""
    return Simulated(name) if simulated else get(name)()


def usable_runner(name: str, *, simulated: bool) -> JobType:
    """As runner, for a job that was accepted earlier, perhaps by another installation. Raises Unusable."""
    try:
        return runner(name, simulated=simulated)
    except KeyError as error:
        raise Unusable(f"The job type {name} is not installed.") from error
    except Exception as error:  # another package's code: one that does not load must end its own jobs, not the scheduler
        logger.exception("job type does not load", extra={"action": "job_type_unusable", "job_type": name})
        raise Unusable(f"The job type {name} does not load: {error}") from error


def parameter_schema(name: str, *, simulated: bool) -> dict[str, Any]:
    """The JSON schema that `parameters` must satisfy. Raises KeyError when the type is unknown or cannot be simulated."""
    return SIMULATED_PARAMETERS if simulated and name in PROFILES else get(name).parameters


def describe() -> list[dict[str, Any]]:
    """All types for people and forms: name, title, description, and one schema of the parameters of both kinds of job."""
    return [_describe(name) for name in names()]


def _describe(name: str) -> dict[str, Any]:
    job_type = get(name)
    simulated = SIMULATED_PARAMETERS["properties"] if name in PROFILES else {}
    schema = {**job_type.parameters, "properties": {**job_type.parameters.get("properties", {}), **simulated}}
    return {"name": name, "title": job_type.title, "description": job_type.description, "parameters": schema}
