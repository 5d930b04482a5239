"""TISSUE_MASK on a slide: tiles are blocks of a low-resolution image; finishing puts them together and finds the tissue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import orjson
import shapely

from scheduling.jobtypes.base import JobContext, JobType, Plan, Step
from scheduling.jobtypes.masks import WHOLE_MASK, limit_of, limited, within
from scheduling.jobtypes.parameters import filled, provenance, run_of, slide_of
from scheduling.jobtypes.reading import reader_of
from scheduling.jobtypes.tissue_mask_schema import PARAMETERS
from scheduling.slides.export.geojson import tissue_collection
from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.overview import Blocks
from scheduling.slides.reading.pyramid import from_png, to_jpeg, to_png
from scheduling.slides.tissue.mask import TissueMask as Found
from scheduling.slides.tissue.mask import TissueParameters, find_tissue
from scheduling.slides.tissue.outlines import overlay, tissue_polygons

cv2.setNumThreads(1)

ARTIFACTS = ("tissue.geojson", "mask.png", "overlay.jpg", "summary.json")


class TissueMask(JobType):
    """Tissue against glass, at about 8 microns per pixel."""

    name: ClassVar[str] = "TISSUE_MASK"
    title: ClassVar[str] = "Tissue mask"
    description: ClassVar[str] = (
        "Finds the tissue on a slide: a mask at about 8 µm per pixel, its polygons for QuPath, its area, and a picture to check it by."
    )
    version: ClassVar[str] = "4"
    limits: ClassVar[tuple[str, ...]] = ("region",)
    parameters: ClassVar[dict[str, Any]] = PARAMETERS
    #: A mask of 25 megapixels, the largest there is.
    step_s: ClassVar[float] = 6.0

    def plan(self, context: JobContext) -> Plan:
        """Nothing to fix: the blocks follow from the slide's size. Raises UnreadableSlide."""
        return Plan(tiles_total=len(self._blocks(context)), seconds_per_tile=0.1)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Each block of the low-resolution image as PNG. Raises UnreadableSlide."""
        blocks, reader = self._blocks(context), reader_of(context)
        for index in tiles:
            with context.work.stage("read"):
                pixels = blocks.read(reader, index)
            with context.work.stage("write"):
                payload = to_png(pixels)
            yield index, payload

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Find the tissue, write its outlines and the summary, publish."""
        return [partial(self._find, context), partial(self._outline, context), partial(self._publish, context)]

    def _blocks(self, context: JobContext) -> Blocks:
        return Blocks.of(reader_of(context), slide_of(context).mpp)

    def _find(self, context: JobContext) -> None:
        """The mask, as a part for the next step and as artifact; the overlay."""
        blocks = self._blocks(context)
        overview = _assembled(context, blocks)
        with context.work.stage("find"):
            whole = find_tissue(overview, blocks.downsample, slide_of(context).mpp, _parameters(context))
        found = self._final(context, whole)
        mask = to_png(found.mask)
        for name, data in (
            ("mask.png", mask),
            *(((WHOLE_MASK, to_png(whole.mask)),) if context.spec.region else ()),
            ("overlay.jpg", to_jpeg(overlay(overview, found))),
            ("found.png", mask),
            ("removed.png", to_png(found.removed)),
            ("found", orjson.dumps({name: getattr(found, name) for name in ("threshold", "separability", "warnings")})),
        ):
            context.put_part(name, data)

    def _final(self, context: JobContext, whole: Found) -> Found:
        """The mask as every artifact shows it: whatever limits the mask of the whole slide does so here."""
        return limited(whole, limit_of(context, reader_of(context)))

    def _outline(self, context: JobContext) -> None:
        slide, reader = slide_of(context), reader_of(context)
        found = self._found(context)
        polygons = within(tissue_polygons(found.mask, found.downsample, reader.width, reader.height), limit_of(context, reader))
        summary = {
            **provenance(self, context, asdict(_parameters(context))),
            **_figures(found, polygons),
            **_layout(self._blocks(context), slide.mpp),
            "run": run_of(context, len(self._blocks(context))),
        }
        context.warnings.extend(found.warnings)
        context.put_part("tissue.geojson", tissue_collection(polygons, slide.fingerprint, slide.mpp, found.downsample))
        context.put_part("summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))

    def _found(self, context: JobContext) -> Found:
        """What the step before has found."""
        noted = orjson.loads(context.part_path("found").read_bytes())
        return Found(
            mask=from_png(context.part_path("found.png").read_bytes()),
            removed=from_png(context.part_path("removed.png").read_bytes()),
            downsample=self._blocks(context).downsample,
            mpp=slide_of(context).mpp,
            **{**noted, "warnings": tuple(noted["warnings"])},
        )

    def _publish(self, context: JobContext) -> None:
        for name in (*ARTIFACTS, *((WHOLE_MASK,) if context.spec.region else ())):
            context.publish_artifact(name)


def _parameters(context: JobContext) -> TissueParameters:
    return TissueParameters(**filled(PARAMETERS, context.spec.parameters))


def _assembled(context: JobContext, blocks: Blocks) -> RGB:
    overview = blocks.empty()
    for index in range(len(blocks)):
        blocks.put(overview, index, from_png(context.tiles.read(index)))
    return overview


def _figures(found: Found, polygons: Sequence[shapely.Polygon]) -> dict[str, Any]:
    pixel_mm2 = (found.mpp * found.downsample / 1000) ** 2
    return {
        "method": {
            "name": "tissue by saturation, grey level or entropy",
            "threshold": found.threshold,
            "separability": round(found.separability, 4),
        },
        "model": {"name": None, "hash": None},
        "tissue_area_mm2": round(math.fsum(polygon.area for polygon in polygons) * (found.mpp / 1000) ** 2, 6),
        "tissue_fraction": round(float(np.count_nonzero(found.mask)) / found.mask.size, 6),
        "removed_area_mm2": round(int(np.count_nonzero(found.removed)) * pixel_mm2, 6),
        "pieces": len(polygons),
        "warnings": list(found.warnings),
    }


def _layout(blocks: Blocks, mpp: float) -> dict[str, Any]:
    return {
        "mask": {"width": blocks.width, "height": blocks.height, "downsample": blocks.downsample, "mpp": mpp * blocks.downsample},
        "tiles": {"total": len(blocks), "tile_px": blocks.block_px * blocks.downsample, "overlap_px": 0},
    }
