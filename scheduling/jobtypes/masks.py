"""Where a segmentation looks: the tissue mask before it in its branch, else one made here with the default parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from scheduling.jobtypes.base import JobContext, JobFailed
from scheduling.slides.interface import SlideReader
from scheduling.slides.pyramid import from_png
from scheduling.slides.tissue import TissueParameters, tissue_of

NO_TISSUE = "No tissue was found on this slide, so there is nothing to segment. Check the tissue mask's parameters."


@dataclass(frozen=True, kw_only=True)
class Mask:
    """uint8 (h, w), not 0 where cells are sought; a pixel is `downsample` full-resolution pixels wide."""

    pixels: npt.NDArray[np.uint8]
    downsample: int
    warnings: tuple[str, ...] = ()

    def area_mm2(self, mpp: float) -> float:
        """Area where cells are sought; `mpp` is microns per full-resolution pixel."""
        return float(np.count_nonzero(self.pixels) * (mpp * self.downsample / 1000) ** 2)


def mask_of(context: JobContext, reader: SlideReader, mpp: float) -> Mask:
    """The mask of a job. Raises JobFailed when the given one is damaged or there is nothing on it, UnreadableSlide."""
    mask = _of_earlier_job(context) or _made_here(reader, mpp)
    if not mask.pixels.any():
        raise JobFailed(NO_TISSUE)
    return mask


def _of_earlier_job(context: JobContext) -> Mask | None:
    """The mask of the TISSUE_MASK job before this one, if there is one."""
    path, summary = (context.input_artifact("TISSUE_MASK", name) for name in ("mask.png", "summary.json"))
    if path is None or summary is None:
        return None
    try:
        return Mask(pixels=from_png(path.read_bytes()), downsample=int(orjson.loads(summary.read_bytes())["mask"]["downsample"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise JobFailed(f"The tissue mask before this job cannot be read: {error}") from error


def _made_here(reader: SlideReader, mpp: float) -> Mask:
    found = tissue_of(reader, mpp, TissueParameters())
    return Mask(pixels=found.mask, downsample=found.downsample, warnings=found.warnings)
