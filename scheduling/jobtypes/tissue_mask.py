"""TISSUE_MASK on a slide: tiles are blocks of a low-resolution image; finishing puts them together and finds the tissue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import orjson

from scheduling.jobtypes.base import JobContext, JobType, Plan, Step
from scheduling.jobtypes.masks import WHOLE_MASK, covered_px, limit_of, limited, within
from scheduling.jobtypes.parameters import filled, provenance, slide_of
from scheduling.slides.geojson import tissue_collection
from scheduling.slides.interface import RGB, SlideReader
from scheduling.slides.pyramid import from_png, to_png
from scheduling.slides.reader import cached_reader
from scheduling.slides.tissue import TissueMask as Found
from scheduling.slides.tissue import TissueParameters, find_tissue, mask_downsample, tissue_polygons

cv2.setNumThreads(1)

_MAX_BLOCKS = 64
_MIN_BLOCK_PX = 32
ARTIFACTS = ("tissue.geojson", "mask.png", "summary.json")


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How the low-resolution image is cut: square blocks, row by row, at most 64 of them."""

    width: int
    height: int
    downsample: int
    block_px: int

    @classmethod
    def of(cls, reader: SlideReader, mpp: float) -> Blocks:
        """The blocks of a slide."""
        downsample = mask_downsample(reader.width, reader.height, mpp)
        width, height = -(-reader.width // downsample), -(-reader.height // downsample)
        block = max(_MIN_BLOCK_PX, math.isqrt(width * height // _MAX_BLOCKS))
        while -(-width // block) * -(-height // block) > _MAX_BLOCKS:
            block += 1
        return cls(width=width, height=height, downsample=downsample, block_px=block)

    @property
    def columns(self) -> int:
        return -(-self.width // self.block_px)

    def __len__(self) -> int:
        return self.columns * -(-self.height // self.block_px)

    def place(self, index: int) -> tuple[int, int, int, int]:
        """(left, top, width, height) of block `index` in the low-resolution image."""
        row, column = divmod(index, self.columns)
        left, top = column * self.block_px, row * self.block_px
        return left, top, min(self.block_px, self.width - left), min(self.block_px, self.height - top)


class TissueMask(JobType):
    """Tissue against glass, at about 8 microns per pixel."""

    name: ClassVar[str] = "TISSUE_MASK"
    title: ClassVar[str] = "Tissue mask"
    description: ClassVar[str] = "Finds the tissue on a slide: a mask at about 8 µm per pixel, its polygons for QuPath, and its area."
    version: ClassVar[str] = "2"
    limits: ClassVar[tuple[str, ...]] = ("region",)
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "method": {
                "type": "string",
                "enum": ["saturation", "grey"],
                "default": "saturation",
                "description": "What tells tissue from glass: colour, or darkness for stains that hardly have any.",
            },
            "threshold": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 255,
                "default": None,
                "description": "Saturation above, or grey level below, which a pixel is tissue; null: chosen by Otsu's method.",
            },
            "min_area_mm2": {
                "type": "number",
                "minimum": 0,
                "maximum": 1000,
                "default": 0.02,
                "description": "Smaller pieces of tissue are dropped (mm²).",
            },
            "max_hole_mm2": {
                "type": "number",
                "minimum": 0,
                "maximum": 1000,
                "default": 0.02,
                "description": "Smaller holes are filled (mm²).",
            },
            "close_um": {
                "type": "number",
                "minimum": 0,
                "maximum": 400,
                "default": 40,
                "description": "Gaps up to twice this width are closed (µm).",
            },
            "dilate_um": {
                "type": "number",
                "minimum": 0,
                "maximum": 400,
                "default": 16,
                "description": "The mask is grown by this margin (µm).",
            },
        },
    }

    def plan(self, context: JobContext) -> Plan:
        """Nothing to fix: the blocks follow from the slide's size."""
        return Plan(tiles_total=len(self._blocks(context)), seconds_per_tile=0.05)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Each block of the low-resolution image as PNG. Raises UnreadableSlide."""
        blocks, reader = self._blocks(context), self._reader(context)
        for index in tiles:
            left, top, width, height = blocks.place(index)
            x, y = left * blocks.downsample, top * blocks.downsample
            yield index, to_png(reader.read_scaled(x, y, width, height, blocks.downsample))

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Find the tissue and write the artifacts, then publish them."""
        return [partial(self._write, context), partial(self._publish, context)]

    def _reader(self, context: JobContext) -> SlideReader:
        return cached_reader(context.slide_path, slide_of(context).fingerprint)

    def _blocks(self, context: JobContext) -> Blocks:
        return Blocks.of(self._reader(context), slide_of(context).mpp)

    def _write(self, context: JobContext) -> None:
        slide, reader, blocks = slide_of(context), self._reader(context), self._blocks(context)
        parameters = filled(self.parameters, context.spec.parameters)
        whole = find_tissue(_assembled(context, blocks), blocks.downsample, slide.mpp, TissueParameters(**parameters))
        limit = limit_of(context, reader)
        found = limited(whole, limit)
        context.warnings.extend(found.warnings)
        polygons = within(tissue_polygons(found, reader.width, reader.height), limit)
        area = covered_px(found.mask, found.downsample, limit) * (found.mpp * found.downsample / 1000) ** 2
        summary = {**provenance(self, context, parameters), **_figures(found, len(polygons), blocks), "tissue_area_mm2": round(area, 6)}
        for name, data in (
            ("tissue.geojson", tissue_collection(polygons, slide.fingerprint, slide.mpp)),
            ("mask.png", to_png(found.mask)),
            ("summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2)),
            *(() if limit is None else ((WHOLE_MASK, to_png(whole.mask)),)),
        ):
            with context.write_part(name) as file:
                file.write(data)

    def _publish(self, context: JobContext) -> None:
        for name in (*ARTIFACTS, *((WHOLE_MASK,) if context.spec.region else ())):
            context.publish_artifact(name)


def _assembled(context: JobContext, blocks: Blocks) -> RGB:
    overview = np.full((blocks.height, blocks.width, 3), 255, np.uint8)
    for index in range(len(blocks)):
        left, top, width, height = blocks.place(index)
        overview[top : top + height, left : left + width] = from_png(context.tiles.read(index))
    return overview


def _figures(found: Found, pieces: int, blocks: Blocks) -> dict[str, Any]:
    return {
        "method": {
            "name": "tissue by saturation or grey level",
            "threshold": found.threshold,
            "separability": round(found.separability, 4),
        },
        "model": {"name": None, "hash": None},
        "tissue_fraction": round(float(np.count_nonzero(found.mask)) / found.mask.size, 6),
        "pieces": pieces,
        "mask": {"width": blocks.width, "height": blocks.height, "downsample": found.downsample, "mpp": found.mpp * found.downsample},
        "tiles": {"total": len(blocks), "tile_px": blocks.block_px * blocks.downsample, "overlap_px": 0},
        "warnings": list(found.warnings),
    }
