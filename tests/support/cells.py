"""Tiles of cells made in no time, for tests and benchmarks of what is shown of them."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.shown import ShownTiles, core_box
from scheduling.slides.nuclei.cells import MEASURES, SCHEMA, encode
from scheduling.slides.nuclei.contours import outlines
from scheduling.slides.nuclei.stain import Stains
from scheduling.slides.reading.scale import Scale
from scheduling.slides.reading.tiling import Grid
from scheduling.tilestore.tilefiles import TileFolder

Points = npt.NDArray[np.int64]


def made_layout(*, tiles: int, core_px: int = 512, downsample: Scale = 1, offset: tuple[int, int] = (0, 0)) -> Layout:
    """A square of so many tiles at least, the first of them on tissue."""
    side = math.ceil(math.sqrt(tiles))
    size = round(side * core_px * downsample)
    grid = Grid.for_slide(size, size, downsample, core_px, 64, offset)
    return Layout(
        grid=grid, cores=tuple(range(tiles)), downsample=downsample, mask_downsample=32, stains=Stains(background=(240.0, 240.0, 240.0))
    )


@cache
def shapes() -> tuple[Points, ...]:
    """Closed rings of ellipses along pixel edges around 0, 0, some with dents."""
    rng, labels = np.random.default_rng(11), np.zeros((40, 40 * 60), np.int32)
    for number in range(60):
        axes = int(rng.integers(5, 11)), int(rng.integers(4, 9))
        cv2.ellipse(labels, (40 * number + 20, 20), axes, float(rng.uniform(0, 180)), 0, 360, number + 1, -1)
        cv2.circle(labels, (40 * number + 20 + axes[0], 20), int(rng.integers(1, 4)), 0, -1)
    rings, _ = outlines(labels)
    return tuple(rings.ring(number).astype(np.int64) - (40 * number + 20, 20) for number in range(60))


def made_cells(layout: Layout, tile: int, count: int, seed: int = 0) -> pa.Table:
    """`count` cells of the tile, their centroids in its core; they may overlap."""
    rng, core = np.random.default_rng((seed, tile)), core_box(layout, tile)
    chosen = [shapes()[number] * layout.downsample for number in rng.integers(len(shapes()), size=count)]
    places = rng.integers((core.left, core.top), (core.right, core.bottom), size=(count, 2))
    return table_of([ring + place for ring, place in zip(chosen, places, strict=True)], places + 0.5)


def table_of(rings: list[Points], centroids: npt.NDArray[np.float64], **more: Any) -> pa.Table:
    """A tile's table of these closed rings; `more` columns of one value each."""
    values = {name: np.zeros(len(rings)) for name in ("depth_px", *MEASURES)}
    values |= {"centroid_x_px": centroids[:, 0], "centroid_y_px": centroids[:, 1], "area_um2": np.full(len(rings), 40.0)}
    polygons = pa.array([ring.reshape(-1).astype(np.int32) for ring in rings], pa.list_(pa.int32()))
    table = pa.table([polygons if name == "polygon" else pa.array(values[name]) for name in SCHEMA.names], schema=SCHEMA)
    for name, value in more.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, pa.array(value)) if at < 0 else table.set_column(at, name, pa.array(value))
    return table


def made_tile(layout: Layout, tile: int, count: int, seed: int = 0, mpp: float = 0.5) -> bytes:
    """As a worker publishes it."""
    cells = made_cells(layout, tile, count, seed)
    shown = ShownTiles(tiles=TileFolder(Path()), layout=layout, mpp=mpp)
    return encode(cells, shown.metadata(cells, tile))


def slide_levels(layout: Layout) -> list[dict[str, float]]:
    """Of the slide under it: as a scanner writes them, each a quarter of the one before."""
    width, height = (size * layout.downsample for size in (layout.grid.width, layout.grid.height))
    return [{"width": -(-width // step), "height": -(-height // step), "downsample": float(step)} for step in (1, 4, 16)]


def job_at(tiles: TileFolder, layout: Layout, *, mpp: float = 0.5) -> Any:
    """A job, in no database, whose tiles these are."""
    from scheduling.models import Job, Slide
    from scheduling.states import JobState

    slide = Slide(width=layout.grid.width, height=layout.grid.height, mpp=mpp, levels=slide_levels(layout), format="made")
    return Job(slide=slide, job_type="SEGMENT_CELLS", digest=tiles.path.name, state=JobState.RUNNING)
