"""What every segmentation of cells shares: mask, slide-wide constants, one global grid, cells measured by tile, artifacts.

A job type says how it cuts the slide (`geometry`), what it fixes once for the whole slide (`constants`), and how it finds the
objects of a window (`detect`); all else is here. Planning publishes mask and layout, first one wins, and reads them back, so that
all workers agree. The result is a function of slide, mask and parameters: not of the order of tiles, of workers, or of retries.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import orjson
import pyarrow as pa

from scheduling.jobtypes import cell_export
from scheduling.jobtypes.base import JobContext, JobType, Plan, Step
from scheduling.jobtypes.layout import Geometry, Layout
from scheduling.jobtypes.masks import Mask, limit_of, mask_of
from scheduling.jobtypes.parameters import filled, provenance, run_of, slide_of
from scheduling.jobtypes.reading import reader_of
from scheduling.jobtypes.shown import ShownTiles
from scheduling.jobtypes.windows import Windows
from scheduling.slides.areas.regions import inside_region
from scheduling.slides.nuclei.cells import Detected, cells_of_window, encode, inside_mask
from scheduling.slides.nuclei.stain import Stains
from scheduling.slides.reading.interface import SlideReader
from scheduling.slides.reading.pyramid import from_png, to_png
from scheduling.slides.reading.tiling import Grid

pa.set_cpu_count(1)

#: Below it something is wrong; even fat and scar tissue hold more nuclei.
_SPARSE_PER_MM2 = 20.0


class Segmentation(JobType):
    """A job type that finds cells tile by tile."""

    consumes: ClassVar[tuple[str, ...]] = ("TISSUE_MASK",)
    #: Without a mask before it the whole slide is read once, at low resolution; a slide of one level has no such.
    plan_s: ClassVar[float] = 60.0
    #: The cells of a whole slide joined to one file.
    step_s: ClassVar[float] = 30.0
    limits: ClassVar[tuple[str, ...]] = ("region", "annotation")
    #: Seconds for a tile, about.
    tile_s: ClassVar[float] = 0.2
    #: Moves the tile grid, which must not change the artifacts; for tests.
    grid_offset: ClassVar[tuple[int, int]] = (0, 0)

    # -- what a job type says

    @abstractmethod
    def geometry(self, context: JobContext, parameters: dict[str, Any]) -> Geometry:
        """How the slide is cut. Raises JobFailed when the parameters contradict each other or the slide is too coarse."""

    @abstractmethod
    def constants(
        self, context: JobContext, reader: SlideReader, mask: Mask, geometry: Geometry, parameters: dict[str, Any]
    ) -> tuple[Stains, dict[str, Any]]:
        """What is fixed once for the slide: its stains, and plain JSON of the job type's own; `mask` is that of the whole slide."""

    @abstractmethod
    def detect(self, context: JobContext, layout: Layout, parameters: dict[str, Any], windows: Windows) -> Iterator[tuple[int, Detected]]:
        """The objects of each window, in the same order. Counts its time for stages of `context.work`."""

    @abstractmethod
    def described(self, layout: Layout, parameters: dict[str, Any]) -> dict[str, Any]:
        """`method` and `model` of the summary."""

    def batch(self, context: JobContext) -> int:
        """Tiles that are computed at once."""
        return 1

    def doubts(self, layout: Layout, mpp: float) -> tuple[str, ...]:
        """Warnings about the slide that planning gives; `mpp` is of a model pixel."""
        return ()

    # -- what is the same for all

    def plan(self, context: JobContext) -> Plan:
        """Mask, constants and tiles. Raises JobFailed when there is no tissue or the slide does not fit, UnreadableSlide."""
        try:
            layout = self.layout(context)
        except FileNotFoundError:
            self._publish_layout(context)
            layout = self.layout(context)
        return Plan(tiles_total=len(layout.cores), batch=self.batch(context), seconds_per_tile=self.tile_s, warnings=layout.warnings)

    def process(self, context: JobContext, tiles: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """The cells of each tile, as an Arrow stream. Raises UnreadableSlide."""
        layout = self.layout(context)
        mask, limit = from_png(context.tiles.read_part("mask.png")), limit_of(context, reader_of(context))
        shown = ShownTiles(tiles=context.tiles, layout=layout, mpp=slide_of(context).mpp)
        parameters = filled(self.parameters, context.spec.parameters)
        windows = Windows(reader=reader_of(context), layout=layout, tiles=tiles, work=context.work)
        for index, detected in self.detect(context, layout, parameters, windows):
            with context.work.stage("post"):
                cells = cells_of_window(detected, layout.grid, layout.cores[index], downsample=layout.downsample, mpp=slide_of(context).mpp)
                cells = inside_mask(cells, mask, layout.mask_downsample)
                cells = inside_region(cells, limit) if limit else cells
            with context.work.stage("write"):
                payload = encode(cells, shown.metadata(cells, index))
            yield index, payload

    def finish(self, context: JobContext) -> Sequence[Step]:
        """Seams, then blocks of cells into parts, then each artifact from its parts, then publication."""
        layout = self.layout(context)
        export = cell_export.Export(context=context, layout=layout, fingerprint=slide_of(context).fingerprint)
        shown = ShownTiles(tiles=context.tiles, layout=layout, mpp=slide_of(context).mpp)
        return [*export.steps(), *shown.gathering(), partial(self._write_summary, context, export), export.publish]

    def layout(self, context: JobContext) -> Layout:
        """What planning has published. Raises MissingTile (a FileNotFoundError)."""
        return Layout.from_json(context.tiles.read_part("layout"))

    def _publish_layout(self, context: JobContext) -> None:
        """Publish the mask, then the layout made from the mask that was published.

        The constants are those of the whole mask, so that a region has the cells that the whole slide has there.
        """
        reader, mpp = reader_of(context), slide_of(context).mpp
        parameters = filled(self.parameters, context.spec.parameters)
        geometry = self.geometry(context, parameters)
        made = mask_of(context, reader, mpp)
        context.tiles.publish_part("mask.png", to_png(made.pixels))
        mask = Mask(pixels=from_png(context.tiles.read_part("mask.png")), downsample=made.downsample, warnings=made.warnings)
        grid = Grid.for_slide(reader.width, reader.height, geometry.downsample, geometry.core_px, geometry.halo_px, self.grid_offset)
        whole = mask if made.whole is None else replace(mask, pixels=made.whole)
        stains, constants = self.constants(context, reader, whole, geometry, parameters)
        layout = Layout(
            grid=grid,
            cores=tuple(grid.meeting(mask.within(limit_of(context, reader)), mask.downsample / geometry.downsample)),
            downsample=geometry.downsample,
            mask_downsample=mask.downsample,
            stains=stains,
            constants=constants,
        )
        warnings = (*mask.warnings, *_doubted(stains), *self.doubts(layout, mpp * geometry.downsample))
        context.tiles.publish_part("layout", replace(layout, warnings=warnings).to_json())

    def _write_summary(self, context: JobContext, export: cell_export.Export) -> None:
        layout, slide = self.layout(context), slide_of(context)
        parameters = filled(self.parameters, context.spec.parameters)
        mask = Mask(pixels=from_png(context.tiles.read_part("mask.png")), downsample=layout.mask_downsample)
        tissue_mm2, totals = mask.area_mm2(slide.mpp, limit_of(context, reader_of(context))), export.totals()
        doubts = _doubts(totals.cells, tissue_mm2)
        context.warnings.extend(doubts)
        summary = {
            **provenance(self, context, parameters),
            **totals.figures(tissue_mm2),
            **self.described(layout, parameters),
            "mpp": slide.mpp * layout.downsample,
            "tiles": {
                "tile_px": round(layout.full_px(layout.grid.core_px), 2),
                "overlap_px": round(layout.full_px(layout.grid.halo_px), 2),
            },
            "run": run_of(context, len(layout.cores), layout.grid.core_px**2 / 1e6),
            "warnings": [*layout.warnings, *doubts],
        }
        context.put_part("summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))


def hash_of(*values: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of what a method depends on."""
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _doubted(stains: Stains) -> list[str]:
    if not stains.doubt:
        return []
    return [f"The stain colours of this slide could not be estimated ({stains.doubt}); the customary ones were used."]


def _doubts(cells: int, tissue_mm2: float) -> list[str]:
    if not cells:
        return ["No cells were found; check the staining and the parameters."]
    if cells < _SPARSE_PER_MM2 * tissue_mm2:
        return [f"Only {cells / tissue_mm2:.0f} cells per mm² of tissue were found; check the staining and the parameters."]
    return []
