"""SEGMENT_CELLS on a slide: classical detection of nuclei in H&E, tile by tile over the tissue.

Planning fixes the mask and the slide's constants once; they are published, first one wins, and read back, so that all
workers agree. The result is a function of the slide, the mask and the parameters alone: not of the order of the tiles,
the number of workers, or retries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from scheduling.jobtypes import cell_export
from scheduling.jobtypes.base import JobContext, JobFailed, JobType, Plan, Step
from scheduling.jobtypes.parameters import filled, provenance, slide_of
from scheduling.jobtypes.segment_cells_schema import PARAMETERS
from scheduling.slides.calibration import Calibration, calibrate
from scheduling.slides.cells import cells_of_window, encode, inside_mask
from scheduling.slides.interface import SlideReader
from scheduling.slides.nuclei import NucleusLimits, nuclei_labels
from scheduling.slides.pyramid import from_png, to_png
from scheduling.slides.reader import cached_reader
from scheduling.slides.stain import densities
from scheduling.slides.tiling import Grid, model_downsample, read_window
from scheduling.slides.tissue import TissueParameters, find_tissue, mask_downsample, read_overview

cv2.setNumThreads(1)
pa.set_cpu_count(1)

MODEL_MPP = 0.5
_FINE_MPP = 0.75
_COARSEST_MPP = 1.25
#: Added to the diameter of the largest nucleus: what the filters reach beyond it.
_REACH_PX = 16
#: Below it something is wrong; even fat and scar tissue hold more nuclei.
_SPARSE_PER_MM2 = 20.0
METHOD = "H&E colour deconvolution, frozen Otsu thresholds, nearest-seed split, half-height outlines"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The plan of a job as it is published: where the tiles are and what holds for all of them."""

    grid: Grid
    #: Core numbers of the tiles, in order.
    cores: tuple[int, ...]
    #: Full-resolution pixels in a model pixel, and in a pixel of the mask.
    downsample: int
    mask_downsample: int
    calibration: Calibration
    warnings: tuple[str, ...]

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return orjson.dumps({**asdict(self), "calibration": self.calibration.to_json()}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> Layout:
        """Inverse of to_json."""
        values = orjson.loads(data)
        values |= {"grid": Grid(**values["grid"]), "calibration": Calibration.from_json(values["calibration"])}
        return cls(**values | {"cores": tuple(values["cores"]), "warnings": tuple(values["warnings"])})


@dataclass(frozen=True, kw_only=True)
class _Mask:
    pixels: npt.NDArray[np.uint8]
    downsample: int
    warnings: tuple[str, ...] = ()


class SegmentCells(JobType):
    """Nuclei of an H&E slide with their outlines and measurements."""

    name: ClassVar[str] = "SEGMENT_CELLS"
    title: ClassVar[str] = "Cell segmentation"
    description: ClassVar[str] = (
        "Finds every nucleus of an H&E slide by classical image analysis, with outline and measurements; exports for QuPath, CSV and Parquet. "
        "Uses the tissue mask before it in its branch, else makes its own."
    )
    version: ClassVar[str] = "2"
    parameters: ClassVar[dict[str, Any]] = PARAMETERS
    consumes: ClassVar[tuple[str, ...]] = ("TISSUE_MASK",)
    #: Moves the tile grid, which must not change the cells; for tests.
    grid_offset: ClassVar[tuple[int, int]] = (0, 0)

    def plan(self, context: JobContext) -> Plan:
        """Mask, calibration and tiles. Raises JobFailed when there is no tissue or the slide is too coarse, UnreadableSlide."""
        try:
            layout = self._layout(context)
        except FileNotFoundError:
            self._publish_layout(context)
            layout = self._layout(context)
        return Plan(tiles_total=len(layout.cores), seconds_per_tile=0.2, warnings=layout.warnings)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """The cells owned by each tile, as an Arrow stream. Raises UnreadableSlide."""
        layout, reader, slide = self._layout(context), self._reader(context), slide_of(context)
        mask = from_png(context.tiles.read_part("mask.png"))
        limits = self._limits(context, layout)
        for index in tiles:
            core = layout.cores[index]
            stained = densities(read_window(reader, layout.grid.window(core), layout.downsample), layout.calibration.stains)
            labels, count = nuclei_labels(stained, limits)
            cells = cells_of_window(
                labels,
                count,
                stained,
                layout.grid,
                core,
                downsample=layout.downsample,
                mpp=slide.mpp,
                min_solidity=limits.min_solidity,
            )
            yield index, encode(inside_mask(cells, mask, layout.mask_downsample))

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Chunks of a few tiles into parts, then each artifact from its parts, then publication."""
        layout = self._layout(context)
        export = cell_export.Export(context=context, tiles=len(layout.cores), fingerprint=slide_of(context).fingerprint)
        return [*export.steps(), partial(self._write_summary, context, export), export.publish]

    def _layout(self, context: JobContext) -> Layout:
        return Layout.from_json(context.tiles.read_part("layout"))

    def _reader(self, context: JobContext) -> SlideReader:
        return cached_reader(context.slide_path, slide_of(context).fingerprint)

    def _limits(self, context: JobContext, layout: Layout) -> NucleusLimits:
        parameters = filled(self.parameters, context.spec.parameters)
        return NucleusLimits(
            mpp=slide_of(context).mpp * layout.downsample,
            dark_level=layout.calibration.dark_level,
            pale_level=layout.calibration.pale_level,
            **{name: parameters[name] for name in ("min_area_um2", "max_area_um2", "min_solidity")},
        )

    def _publish_layout(self, context: JobContext) -> None:
        """Publish the mask, then the layout made from the mask that was published."""
        reader, mpp = self._reader(context), slide_of(context).mpp
        parameters = filled(self.parameters, context.spec.parameters)
        downsample = model_downsample(mpp, MODEL_MPP)
        if mpp * downsample > _COARSEST_MPP:
            raise JobFailed(f"The slide has {mpp:g} microns per pixel; nuclei need {_COARSEST_MPP:g} or finer.")
        if parameters["max_area_um2"] <= parameters["min_area_um2"]:
            raise JobFailed("max_area_um2 must be larger than min_area_um2.")
        mask = _input_mask(context) or _own_mask(reader, mpp)
        context.tiles.publish_part("mask.png", to_png(mask.pixels))
        pixels = from_png(context.tiles.read_part("mask.png"))
        if not pixels.any():
            raise JobFailed("No tissue was found on this slide, so there is nothing to segment. Check the tissue mask's parameters.")
        grid = self._grid(reader, downsample, mpp * downsample, parameters)
        layout = Layout(
            grid=grid,
            cores=tuple(grid.meeting(pixels, mask.downsample / downsample)),
            downsample=downsample,
            mask_downsample=mask.downsample,
            calibration=calibrate(
                reader,
                pixels,
                mask.downsample / downsample,
                downsample,
                mpp * downsample,
                estimate_stains=parameters["stain_vectors"] == "estimated",
                threshold_od=parameters["threshold_od"],
            ),
            warnings=mask.warnings + _resolution_warnings(mpp * downsample),
        )
        context.tiles.publish_part("layout", layout.to_json())

    def _grid(self, reader: SlideReader, downsample: int, mpp: float, parameters: dict[str, Any]) -> Grid:
        # A nucleus of the largest area, were it round, must fit between the core and the edge of the window.
        needed = math.ceil(2 * math.sqrt(parameters["max_area_um2"] / math.pi) / mpp) + _REACH_PX
        halo = max(parameters["halo_px"], needed)
        return Grid.for_slide(reader.width, reader.height, downsample, parameters["tile_px"], halo, self.grid_offset)

    def _write_summary(self, context: JobContext, export: cell_export.Export) -> None:
        layout, slide = self._layout(context), slide_of(context)
        parameters = filled(self.parameters, context.spec.parameters)
        mask = from_png(context.tiles.read_part("mask.png"))
        tissue_mm2 = np.count_nonzero(mask) * (slide.mpp * layout.mask_downsample / 1000) ** 2
        totals = export.totals()
        doubts = _doubts(int(totals["cells"]), float(tissue_mm2))
        context.warnings.extend(doubts)
        summary = {
            **provenance(self, context, parameters),
            **cell_export.figures(totals, float(tissue_mm2)),
            "method": {"name": METHOD, "calibration": layout.calibration.to_json()},
            "model": {"name": METHOD, "hash": _hash(self.version, layout.calibration.to_json(), parameters)},
            "mpp": slide.mpp * layout.downsample,
            "tiles": {
                "total": len(layout.cores),
                "tile_px": layout.grid.core_px * layout.downsample,
                "overlap_px": layout.grid.halo_px * layout.downsample,
            },
            "warnings": [*layout.warnings, *doubts],
        }
        with context.write_part("summary.json") as file:
            file.write(orjson.dumps(summary, option=orjson.OPT_INDENT_2))


def _input_mask(context: JobContext) -> _Mask | None:
    """The mask of the TISSUE_MASK job before this one, if there is one. Raises JobFailed when it is damaged."""
    path, summary = (context.input_artifact("TISSUE_MASK", name) for name in ("mask.png", "summary.json"))
    if path is None or summary is None:
        return None
    try:
        return _Mask(pixels=from_png(path.read_bytes()), downsample=int(orjson.loads(summary.read_bytes())["mask"]["downsample"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise JobFailed(f"The tissue mask before this job cannot be read: {error}") from error


def _own_mask(reader: SlideReader, mpp: float) -> _Mask:
    downsample = mask_downsample(reader.width, reader.height, mpp)
    found = find_tissue(read_overview(reader, downsample), downsample, mpp, TissueParameters())
    return _Mask(pixels=found.mask, downsample=downsample, warnings=found.warnings)


def _resolution_warnings(mpp: float) -> tuple[str, ...]:
    if mpp <= _FINE_MPP:
        return ()
    return (f"The slide has {mpp:.2g} microns per pixel; nuclei are best found at {MODEL_MPP:g} or finer.",)


def _doubts(cells: int, tissue_mm2: float) -> list[str]:
    if not cells:
        return ["No nuclei were found; check the staining and the parameters."]
    if cells < _SPARSE_PER_MM2 * tissue_mm2:
        return [f"Only {cells / tissue_mm2:.0f} nuclei per mm² of tissue were found; check the staining and the parameters."]
    return []


def _hash(*values: Any) -> str:
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
