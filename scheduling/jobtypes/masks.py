"""Where a segmentation looks: in its annotation, else in the tissue mask before it in its branch, else in one made here.

A region then limits that. Masks are asked by the pixel when tiles are planned; region and annotation exactly, by centroid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from scheduling.errors import Invalid
from scheduling.jobtypes.base import AnnotationRef, JobContext, JobFailed
from scheduling.slides.areas.annotation import MAX_DRAWN_VERTICES, Area, from_geojson, on_slide, polygons_only, read_drawing
from scheduling.slides.areas.regions import Region, rasterised
from scheduling.slides.reading.interface import SlideReader
from scheduling.slides.reading.pyramid import from_png
from scheduling.slides.tissue.mask import TissueMask, TissueParameters, mask_downsample, tissue_of

NO_TISSUE = "No tissue was found on this slide, so there is nothing to segment. Check the tissue mask's parameters."
NONE_IN_REGION = "No tissue was found in this region, so there is nothing to segment. Check the region and the tissue mask."
#: Beside mask.png of a job that has a region: the mask of the whole slide.
WHOLE_MASK = "mask_unclipped.png"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Mask:
    """uint8 (h, w), not 0 where cells are sought; a pixel is `downsample` full-resolution pixels wide."""

    pixels: Bytes
    downsample: int
    warnings: tuple[str, ...] = ()
    #: The same of the whole slide, where a region has clipped `pixels` already.
    whole: Bytes | None = None

    def within(self, limit: Region | None) -> Bytes:
        """The pixels that have any part of `limit` in them. Raises JobFailed when there is none."""
        pixels = clipped(self.pixels, self.downsample, limit)
        if not pixels.any():
            raise JobFailed(NONE_IN_REGION)
        return pixels

    def area_mm2(self, mpp: float, limit: Region | None = None) -> float:
        """Area where cells are sought, within `limit` exactly; `mpp` is microns per full-resolution pixel."""
        return covered_px(self.pixels, self.downsample, limit) * (mpp * self.downsample / 1000) ** 2


def clipped(pixels: Bytes, downsample: int, limit: Region | None) -> Bytes:
    """A mask without the pixels that `limit` does not touch."""
    if limit is None:
        return pixels
    height, width = pixels.shape
    return pixels & rasterised(limit, width, height, downsample)


def covered_px(pixels: Bytes, downsample: int, limit: Region | None) -> float:
    """Mask pixels that are not 0, each counted for the part of it that lies within `limit`."""
    if limit is None:
        return float(np.count_nonzero(pixels))
    height, width = pixels.shape
    return float(limit.coverage(width, height, downsample)[pixels > 0].sum(dtype=np.float64))


def limited(found: TissueMask, limit: Region | None) -> TissueMask:
    """The tissue of a slide, only where `limit` touches it; a warning when that leaves nothing."""
    mask = clipped(found.mask, found.downsample, limit)
    lost = ("There is tissue on this slide, but none in the region.",) if found.mask.any() and not mask.any() else ()
    return replace(found, mask=mask, warnings=found.warnings + lost)


def within(polygons: Sequence[shapely.Polygon], limit: Region | None) -> list[shapely.Polygon]:
    """The parts of polygons that lie in `limit`, largest first."""
    if limit is None:
        return list(polygons)
    parts = shapely.get_parts([polygons_only(shapely.intersection(polygon, limit.area)) for polygon in polygons])
    return sorted(parts, key=lambda part: -part.area)


def mask_of(context: JobContext, reader: SlideReader, mpp: float) -> Mask:
    """The mask of a job, whatever its region. Raises JobFailed when it is damaged or there is nothing on it, UnreadableSlide."""
    mask = _of_annotation(context, reader, mpp) or _of_earlier_job(context) or _made_here(reader, mpp)
    if not mask.pixels.any():
        raise JobFailed(NO_TISSUE)
    return mask


def limit_of(context: JobContext, reader: SlideReader) -> Region | None:
    """The exact area in which a job's centroids lie: its region and its annotation; None when it has neither. Raises JobFailed."""
    region = orjson.dumps(context.spec.region) if context.spec.region else None
    return _limit(context.settings.data_dir, region, context.spec.annotation, reader.width, reader.height)


@lru_cache(maxsize=4)
def _limit(data_dir: Path, region: bytes | None, annotation: AnnotationRef | None, width: int, height: int) -> Region | None:
    areas: list[Area] = [from_geojson(orjson.loads(region))] if region else []
    if annotation:
        areas.append(_annotated(data_dir, annotation, width, height))
    if len(areas) == 2:
        areas = [polygons_only(areas[0].intersection(areas[1]))]
    return Region(area=areas[0]) if areas else None


@lru_cache(maxsize=4)
def _annotated(data_dir: Path, annotation: AnnotationRef, width: int, height: int) -> Area:
    """The area of an annotation. Raises JobFailed when the file is not the one that was given."""
    try:
        data = (data_dir / annotation.path).read_bytes()
    except OSError as error:
        raise JobFailed("The annotation of this job is gone.") from error
    if hashlib.sha256(data).hexdigest() != annotation.sha256:
        raise JobFailed("The annotation of this job is damaged: it is not what was uploaded.")
    try:
        return on_slide(read_drawing(orjson.loads(data), max_vertices=MAX_DRAWN_VERTICES).area, width, height)[0]
    except Invalid as error:
        raise JobFailed(f"The annotation of this job cannot be used: {error.message}") from error


def _of_annotation(context: JobContext, reader: SlideReader, mpp: float) -> Mask | None:
    """The pixels that the annotation touches."""
    if context.spec.annotation is None:
        return None
    downsample = mask_downsample(reader.width, reader.height, mpp)
    width, height = -(-reader.width // downsample), -(-reader.height // downsample)
    area = _annotated(context.settings.data_dir, context.spec.annotation, reader.width, reader.height)
    return Mask(pixels=rasterised(Region(area=area), width, height, downsample), downsample=downsample)


def _of_earlier_job(context: JobContext) -> Mask | None:
    """The mask of the TISSUE_MASK job before this one, if there is one."""
    path, summary = (context.input_artifact("TISSUE_MASK", name) for name in ("mask.png", "summary.json"))
    if path is None or summary is None:
        return None
    unclipped = path.with_name(WHOLE_MASK)
    try:
        whole = from_png(unclipped.read_bytes()) if unclipped.exists() else None
        downsample = int(orjson.loads(summary.read_bytes())["mask"]["downsample"])
        return Mask(pixels=from_png(path.read_bytes()), downsample=downsample, whole=whole)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise JobFailed(f"The tissue mask before this job cannot be read: {error}") from error


def _made_here(reader: SlideReader, mpp: float) -> Mask:
    found = tissue_of(reader, mpp, TissueParameters())
    return Mask(pixels=found.mask, downsample=found.downsample, warnings=found.warnings)
