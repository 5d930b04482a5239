"""Simulated jobs: those without a slide. They sleep tile by tile, and nothing they write is shown as real."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from scheduling.jobtypes.base import JobContext, JobType, Plan, Step, TileFailed

MAX_TILES = 1_000_000
#: A merge pause is cut into steps of this length, so that a cancel acts within one.
PAUSE_STEP_S = 0.25
#: The two cells that the original system exported for every finished segmentation.
ORIGINAL_CELLS = [
    {"id": 1, "polygon": [[1, 1], [2, 1], [2, 2], [1, 2]], "type": "cell"},
    {"id": 2, "polygon": [[3, 3], [4, 3], [4, 4], [3, 4]], "type": "cell"},
]
SIMULATED_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "tiles": {"type": "integer", "minimum": 1, "maximum": MAX_TILES, "description": "Simulated only: number of tiles."},
        "seconds_per_tile": {
            "type": "number",
            "minimum": 0,
            "maximum": 3600,
            "description": "Simulated only: seconds that each tile takes.",
        },
        "fail_at_tile": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_TILES - 1,
            "description": "Simulated only: index of a tile that fails.",
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How one simulated type behaves."""

    tiles: int
    #: Seconds that one batch takes.
    seconds_per_batch: float
    batch: int = 1
    merge_s: float = 0.0
    has_cells: bool = True


PROFILES = {
    "SEGMENT_CELLS": Profile(tiles=20, seconds_per_batch=0.3),
    "TISSUE_MASK": Profile(tiles=30, seconds_per_batch=0.2, has_cells=False),
    "INSTANSEG_WSI": Profile(tiles=60, seconds_per_batch=0.15, batch=8, merge_s=2.0),
}


def tiles_total(job_type: str, parameters: dict[str, Any]) -> int:
    """How many tiles a simulated job has; known at submission. Raises KeyError when the type cannot be simulated."""
    return int(parameters.get("tiles", PROFILES[job_type].tiles))


def batch_of(job_type: str) -> int:
    """How many tiles a simulated job takes at once. Raises KeyError when the type cannot be simulated."""
    return PROFILES[job_type].batch


def seconds_per_tile(job_type: str, parameters: dict[str, Any], setting: float | None) -> float:
    """How long a simulated tile takes; `setting` is SIMULATED_SECONDS_PER_TILE. Raises KeyError when the type cannot be simulated."""
    profile = PROFILES[job_type]
    stated = parameters.get("seconds_per_tile", setting)
    return profile.seconds_per_batch / profile.batch if stated is None else float(stated)


class Simulated(JobType):
    """The simulation of one job type."""

    version: ClassVar[str] = "1"
    parameters: ClassVar[dict[str, Any]] = SIMULATED_PARAMETERS

    def __init__(self, job_type: str) -> None:
        self._profile = PROFILES[job_type]
        self._job_type = job_type

    def plan(self, context: JobContext) -> Plan:
        """Nothing to find out: the number of tiles is a parameter."""
        total = tiles_total(self._job_type, context.spec.parameters)
        batch = self._profile.batch
        return Plan(tiles_total=total, batch=batch, seconds_per_tile=self._seconds(context, batch) / batch)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Sleep as long as the batch takes; the tile `fail_at_tile` fails after its sleep."""
        time.sleep(self._seconds(context, len(tiles)))
        for index in tiles:
            if index == context.spec.parameters.get("fail_at_tile"):
                raise TileFailed(index, "failed as its parameter fail_at_tile asks")
            yield index, b""

    def finish(self, context: JobContext) -> Sequence[Step]:
        """The merge pause in steps, then the original's results.json for the types that find cells."""
        paused = context.settings.simulated_seconds_per_tile is None and self._profile.merge_s > 0
        steps: list[Step] = [partial(time.sleep, PAUSE_STEP_S)] * round(self._profile.merge_s / PAUSE_STEP_S) if paused else []
        if self._profile.has_cells:
            steps.append(partial(self._write_cells, context))
        return steps

    def _seconds(self, context: JobContext, tiles: int) -> float:
        stated = context.spec.parameters.get("seconds_per_tile", context.settings.simulated_seconds_per_tile)
        return self._profile.seconds_per_batch if stated is None else float(stated) * tiles

    @staticmethod
    def _write_cells(context: JobContext) -> None:
        context.put_artifact("results.json", json.dumps(ORIGINAL_CELLS).encode())
