"""INSTANSEG_WSI on a slide. It needs a trained model, which this version cannot install yet, and says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from scheduling.jobtypes.base import JobContext, JobFailed, JobType, Plan, Step
from scheduling.jobtypes.instanseg_wsi_schema import PARAMETERS, settled_model

NO_MODEL = (
    "INSTANSEG_WSI needs a trained InstanSeg model, and none is installed on this server. "
    "Use SEGMENT_CELLS for classical nucleus segmentation of H&E slides."
)


class InstansegWsi(JobType):
    """InstanSeg over a whole slide; refuses as long as no model is installed."""

    name: ClassVar[str] = "INSTANSEG_WSI"
    title: ClassVar[str] = "InstanSeg"
    description: ClassVar[str] = "InstanSeg over the whole slide. On a slide it fails with a message until a model is installed."
    version: ClassVar[str] = "0"
    parameters: ClassVar[dict[str, Any]] = PARAMETERS
    consumes: ClassVar[tuple[str, ...]] = ("TISSUE_MASK",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "gpu")

    @classmethod
    def settled(cls, parameters: dict[str, Any], data_dir: Path) -> dict[str, Any]:
        """With the model that is meant now: one that gets the same name later is not this job's."""
        return settled_model(parameters, data_dir)

    def plan(self, context: JobContext) -> Plan:
        """Raises JobFailed: no model is installed."""
        raise JobFailed(NO_MODEL)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """Raises JobFailed: no model is installed."""
        raise JobFailed(NO_MODEL)

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Raises JobFailed: no model is installed."""
        raise JobFailed(NO_MODEL)
