"""What the viewer lays over a slide while a job finds cells, and afterwards: the manifest, vector tiles, overlay pictures.

Everything is read from the finished tiles on the disk, whatever state the job is in. A tile that is finished never changes,
so the picture of a place is a function of which tiles around it are finished: their token is what makes its address immutable.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from django.conf import settings

from scheduling.errors import NotFound, NotYet
from scheduling.jobtypes import registry
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.segmentation import Segmentation
from scheduling.jobtypes.shown import ShownTiles, core_boxes
from scheduling.models import Job
from scheduling.selectors.mosaics import live_mosaic
from scheduling.slides.reading.interface import Level
from scheduling.states import UNFINISHED
from scheduling.tilestore.tilefiles import CorruptTile, MissingTile, TileFolder, to_ranges
from scheduling.viewer import overlay, vectortiles
from scheduling.viewer.caches import Cache
from scheduling.viewer.cell_rows import shapes_of
from scheduling.viewer.overlay import OverlayLevel, overlay_levels

Ints = npt.NDArray[np.int64]
#: Pictures of all jobs.
PICTURES: Cache[bytes] = Cache(64 << 20)
#: Drawing takes a core; more at once only wait for each other, each with its memory.
_drawing = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """The cells of a job as they lie over its slide."""

    job: Job
    shown: ShownTiles
    levels: tuple[OverlayLevel, ...]
    #: (tiles, 4): left, top, right, bottom of each core in full-resolution pixels.
    boxes: npt.NDArray[Any]

    @cached_property
    def version(self) -> str:
        """Names the work, the way it is drawn, and how its seams were settled; what was kept under another one is of no use."""
        said = f"{self.job.digest}/{overlay.STYLE}/{vectortiles.VERSION}{self.shown.exceptions or ''}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def core_px(self) -> float:
        """Full-resolution pixels."""
        return self.shown.layout.full_px(self.shown.layout.grid.core_px)

    @property
    def halo_px(self) -> float:
        """Full-resolution pixels; no cell reaches further beyond its core."""
        return self.shown.layout.full_px(self.shown.layout.grid.halo_px)

    def level(self, number: int) -> OverlayLevel:
        """Raises NotFound."""
        if number >= len(self.levels):
            raise NotFound("The overlay has no such level.")
        return self.levels[number]

    def touching(self, level: OverlayLevel, column: int, row: int) -> Ints:
        """Tiles whose cells may show in a tile of the overlay, ascending."""
        span, reach = level.tile_px * level.downsample, overlay.reach_px(level, self.halo_px)
        left, top, right, bottom = self.boxes.T
        meets_x = (left < (column + 1) * span + reach) & (right > column * span - reach)
        meets_y = (top < (row + 1) * span + reach) & (bottom > row * span - reach)
        return np.flatnonzero(meets_x & meets_y)


def overlay_of(job: Job) -> Overlay:
    """What there is to see of a job. Raises NotFound, which says why, for one that finds no cells or is not planned."""
    if job.slide is None:
        raise NotFound("A simulated job has no cells to show.")
    if not _finds_cells(job.job_type):
        raise NotFound(f"A job of type {job.job_type} has no cells to show.")
    if not job.digest:
        raise NotYet("The job is not planned yet.")
    tiles = TileFolder(Path(settings.DATA_DIR) / "tiles" / job.digest)
    layout, boxes = _layout(tiles, is_unfinished=job.state in UNFINISHED)
    mpp = float(job.slide.mpp or 1.0)
    levels = overlay_levels([Level(**level) for level in job.slide.levels], mpp)
    return Overlay(job=job, shown=ShownTiles(tiles=tiles, layout=layout, mpp=mpp), levels=levels, boxes=boxes)


def _finds_cells(job_type: str) -> bool:
    try:
        return isinstance(registry.usable_runner(job_type, simulated=False), Segmentation)
    except registry.Unusable:
        return False


def _layout(tiles: TileFolder, *, is_unfinished: bool) -> tuple[Layout, npt.NDArray[Any]]:
    """Raises NotFound."""
    if not tiles.path.is_dir() and not is_unfinished:
        raise NotFound("The tiles of this job are not there any more.")
    try:
        return read_layout(tiles.path)
    except MissingTile:
        raise (NotYet if is_unfinished else NotFound)("The job is not planned yet.") from None
    except ValueError:
        raise NotFound("The tiles of this job were made by an earlier version and cannot be shown.") from None


@lru_cache(maxsize=32)
def read_layout(path: Path) -> tuple[Layout, npt.NDArray[Any]]:
    """A layout never changes once it is published: the folder's name says all that it depends on."""
    layout = Layout.from_json(TileFolder(path).read_part("layout"))
    return layout, core_boxes(layout)


def manifest(job: Job) -> dict[str, Any]:
    """Where the tiles lie, which are finished, and what a viewer needs to ask for vector tiles and pictures. Raises NotFound."""
    seen = overlay_of(job)
    layout, total = seen.shown.layout, len(seen.shown.layout.cores)
    grid = layout.grid
    return {
        "version": seen.version,
        "state": job.state,
        "slide": str(job.slide_id),
        "mpp": seen.shown.mpp,
        "downsample": layout.full_px(1),
        "core_px": seen.core_px,
        "halo_px": seen.halo_px,
        "left": layout.full_px(-grid.offset_x),
        "top": layout.full_px(-grid.offset_y),
        "columns": grid.columns,
        "rows": grid.rows,
        "tiles_total": total,
        "cores": list(layout.cores),
        "finished": to_ranges(_present(seen.shown.tiles, range(total))),
        "classes": [{"number": number, "name": name, "color": _hex(number)} for number, name in enumerate(seen.shown.class_names)],
        "overlay": {"tile_px": OverlayLevel.tile_px, "levels": [_level_body(seen, level) for level in seen.levels]},
    }


def _hex(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*overlay.color_of(number))


def _level_body(seen: Overlay, level: OverlayLevel) -> dict[str, Any]:
    return {
        "width": level.width,
        "height": level.height,
        "downsample": level.downsample,
        "columns": level.columns,
        "rows": level.rows,
        "draws": "cells" if level.draws_cells else "density",
        "reach_px": overlay.reach_px(level, seen.halo_px),
    }


def _present(tiles: TileFolder, wanted: Sequence[int] | Ints) -> list[int]:
    """Finished tiles by name, ascending."""
    return tiles.present(int(tile) for tile in wanted)


def vector_tile(job: Job, tile: int) -> tuple[str, Callable[[], bytes]]:
    """Version and bytes of a vector tile. Raises NotFound, the bytes too; NotYet when it is not finished yet."""
    seen = overlay_of(job)
    if tile >= len(seen.boxes):
        raise NotFound("The job has no such tile.")
    if not _present(seen.shown.tiles, [tile]):
        raise _not_finished(job, tile)

    def read() -> bytes:
        try:
            return seen.shown.vector(tile)
        except (MissingTile, CorruptTile):
            raise _not_finished(job, tile) from None

    return seen.version, read


def _not_finished(job: Job, tile: int) -> NotFound:
    return (NotYet if job.state in UNFINISHED else NotFound)(f"Tile {tile} is not finished.")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A PNG and the token of the tiles that are in it."""

    png: bytes
    token: str


def overlay_tile(job: Job, number: int, column: int, row: int) -> tuple[str, Callable[[], Drawn]]:
    """The token of a tile of the overlay as it is now, and a function that draws it. Raises NotFound.

    While it is being drawn another tile may be finished, or one prove to be damaged: the picture says what is in it.
    """
    seen = overlay_of(job)
    level = seen.level(number)
    try:
        level.size(column, row)
    except LookupError:
        raise NotFound("The overlay has no such tile.") from None
    finished = _present(seen.shown.tiles, seen.touching(level, column, row))
    token = overlay.token_of(seen.version, finished)
    key = (seen.shown.tiles.path, number, column, row)

    def draw() -> Drawn:
        kept = PICTURES.get((*key, token))
        if kept is not None:
            return Drawn(png=kept, token=token)
        with _drawing:
            image, drawn = _draw(seen, level, column, row, finished)
            png = overlay.to_png(image)
        made = Drawn(png=png, token=overlay.token_of(seen.version, drawn))
        PICTURES.put((*key, made.token), png, len(png))
        return made

    return token, draw


def _draw(seen: Overlay, level: OverlayLevel, column: int, row: int, finished: list[int]) -> tuple[overlay.Picture, list[int]]:
    """The picture, and the tiles that are in it."""
    classes = len(seen.shown.class_names)
    if level.draws_cells:
        read = list(seen.shown.cells(finished))
        return overlay.draw_cells([shapes_of(cells) for _, cells in read], level, column, row, classes), sorted(tile for tile, _ in read)
    live, place = live_mosaic(seen.shown, seen.version), overlay.pixel_edges(level, column, row)
    counts, drawn = live.window(seen.shown, finished, seen.touching(level, column, row), *place)
    return overlay.draw_density(counts, level.downsample * seen.shown.mpp, classes), drawn
