"""SEGMENT_CELLS on a slide: classical detection of nuclei in H&E, tile by tile over the tissue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import cv2

from scheduling.jobtypes.areas import check_areas
from scheduling.jobtypes.base import JobContext, JobFailed
from scheduling.jobtypes.layout import Geometry, Layout
from scheduling.jobtypes.masks import Mask
from scheduling.jobtypes.parameters import slide_of
from scheduling.jobtypes.segment_cells_schema import PARAMETERS
from scheduling.jobtypes.segmentation import Segmentation, hash_of
from scheduling.jobtypes.windows import Windows
from scheduling.slides.nuclei.calibration import calibrate
from scheduling.slides.nuclei.cell_table import CELLS
from scheduling.slides.nuclei.cells import Detected
from scheduling.slides.nuclei.detection import NucleusLimits, nuclei_labels, solid
from scheduling.slides.nuclei.expansion import expanded, reach_px, tissue_of
from scheduling.slides.nuclei.stain import OD_STEP, Stains, densities
from scheduling.slides.reading.interface import SlideReader
from scheduling.slides.reading.scale import model_downsample
from scheduling.slides.reading.tiling import GUARD_PX

cv2.setNumThreads(1)

MODEL_MPP = 0.5
_FINE_MPP = 0.75
_COARSEST_MPP = 1.25
METHOD = "H&E colour deconvolution, frozen Otsu thresholds, nearest-seed split, half-height outlines"


class SegmentCells(Segmentation):
    """Nuclei of an H&E slide, or whole cells, with their outlines and measurements."""

    name: ClassVar[str] = "SEGMENT_CELLS"
    title: ClassVar[str] = "Cell segmentation"
    description: ClassVar[str] = (
        "Finds every nucleus of an H&E slide by classical image analysis, and the cell around it if wanted, with outlines and measurements; "
        "exports for QuPath, CSV and Parquet. "
        "Uses the tissue mask before it in its branch, else makes its own."
    )
    version: ClassVar[str] = "7"
    parameters: ClassVar[dict[str, Any]] = PARAMETERS

    def geometry(self, context: JobContext, parameters: dict[str, Any]) -> Geometry:
        """The longest nucleus, and all that decides on it, must fit between the core and the edge of the window."""
        mpp = slide_of(context).mpp
        downsample = model_downsample(mpp, MODEL_MPP)
        if mpp * downsample > _COARSEST_MPP:
            raise JobFailed(f"The slide has {mpp:g} microns per pixel; nuclei need {_COARSEST_MPP:g} or finer.")
        check_areas(parameters)
        limits = self._limits(mpp * downsample, parameters, {"dark_level": 0, "pale_level": 0})
        needed = limits.max_extent_px + limits.reach_px + GUARD_PX
        if parameters["expansion_um"]:
            # A cell ends half way to its neighbour, all of which must be seen.
            needed += reach_px(parameters["expansion_um"], mpp * downsample) + limits.max_extent_px
        return Geometry(downsample=downsample, core_px=parameters["tile_px"], halo_px=max(parameters["halo_px"], needed))

    def constants(
        self, context: JobContext, reader: SlideReader, mask: Mask, geometry: Geometry, parameters: dict[str, Any]
    ) -> tuple[Stains, dict[str, Any]]:
        """Background, stain vectors and thresholds."""
        found = calibrate(
            reader,
            mask.pixels,
            mask.downsample / geometry.downsample,
            geometry.downsample,
            slide_of(context).mpp * geometry.downsample,
            estimate_stains=parameters["stain_vectors"] == "estimated",
            threshold_od=parameters["threshold_od"],
        )
        classes = {"classes": [CELLS.class_name]} if parameters["expansion_um"] else {}
        return found.stains, {"dark_level": found.dark_level, "pale_level": found.pale_level, **classes}

    def detect(self, context: JobContext, layout: Layout, parameters: dict[str, Any], windows: Windows) -> Iterator[tuple[int, Detected]]:
        """Nuclei by their hematoxylin, and the cells that they grow to."""
        mpp, expansion_um = slide_of(context).mpp * layout.downsample, parameters["expansion_um"]
        limits = self._limits(mpp, parameters, layout.constants)
        for tile, rgb in windows:
            with context.work.stage("detect"):
                stained = densities(rgb, layout.stains)
                nuclei, count = nuclei_labels(stained, limits)
                if expansion_um:
                    nuclei, count = solid(nuclei, count, limits.min_solidity)
                cells = expanded(nuclei, count, tissue_of(stained, mpp), expansion_um / mpp) if expansion_um else None
            yield tile, Detected(nuclei=nuclei, count=count, stained=stained, cells=cells, min_solidity=limits.min_solidity)

    def _limits(self, mpp: float, parameters: dict[str, Any], constants: dict[str, Any]) -> NucleusLimits:
        sizes = {name: parameters[name] for name in ("min_area_um2", "max_area_um2", "min_solidity")}
        return NucleusLimits(mpp=mpp, dark_level=constants["dark_level"], pale_level=constants["pale_level"], **sizes)

    def described(self, layout: Layout, parameters: dict[str, Any]) -> dict[str, Any]:
        """The method and all that it depends on."""
        thresholds_od = {f"{name}_od": round(layout.constants[f"{name}_level"] * OD_STEP, 4) for name in ("dark", "pale")}
        levels = {name: layout.constants[name] for name in ("dark_level", "pale_level")}
        fixed = {**levels, **thresholds_od, "stains": vars(layout.stains)}
        name = f"{METHOD}, grown by {parameters['expansion_um']:g} µm" if parameters["expansion_um"] else METHOD
        return {
            "method": {"name": name, "calibration": fixed},
            "model": {"name": name, "hash": hash_of(self.version, fixed, parameters)},
        }

    def doubts(self, layout: Layout, mpp: float) -> tuple[str, ...]:
        """Coarse slides."""
        if mpp <= _FINE_MPP:
            return ()
        return (f"The slide has {mpp:.2g} microns per pixel; nuclei are best found at {MODEL_MPP:g} or finer.",)
