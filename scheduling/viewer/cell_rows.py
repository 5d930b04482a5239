"""What is shown of a tile's table of cells: which rows, their outlines, classes and places. Classes and nuclei may be absent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.nuclei.cells import outlines_of
from scheduling.slides.reading.scale import Scale
from scheduling.slides.reading.tiling import Box
from scheduling.viewer.overlay import Shapes
from scheduling.viewer.vectortiles import Rings, VectorTile


def classes_of(cells: pa.Table) -> npt.NDArray[np.uint8]:
    """Class of each cell, 0 where the table has none."""
    if "class" not in cells.column_names:
        return np.zeros(len(cells), np.uint8)
    return np.asarray(cells["class"]).astype(np.uint8)


def centroids_of(cells: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """x and y of each cell, full-resolution pixels."""
    return np.asarray(cells["centroid_x_px"], np.float64), np.asarray(cells["centroid_y_px"], np.float64)


def open_rings(cells: pa.Table, name: str) -> Rings:
    """The rings of a column of closed ones, their last vertices left out; an empty or null one has no vertex."""
    closed = outlines_of(cells, name)
    full = np.diff(closed.offsets) > 0
    keep = np.ones(len(closed.points), bool)
    keep[closed.offsets[1:][full] - 1] = False
    points = closed.points[keep] / 10**closed.decimals if closed.decimals else closed.points[keep].astype(np.int64)
    return Rings(points=points, offsets=closed.offsets - np.concatenate([[0], np.cumsum(full)]))


def shapes_of(cells: pa.Table) -> Shapes:
    """All the table's cells, to be drawn."""
    nuclei = open_rings(cells, "nucleus_polygon") if "nucleus_polygon" in cells.column_names else None
    return Shapes(outlines=open_rings(cells, "polygon"), classes=classes_of(cells), nuclei=nuclei)


def vector_tile(cells: pa.Table, rows: npt.NDArray[np.int64], tile: int, core: Box, scale: Scale) -> VectorTile:
    """These rows of the table as a vector tile; `core` in full-resolution pixels, of which `scale` make a model pixel."""
    chosen = cells.take(pa.array(rows))
    shapes = shapes_of(chosen)
    return VectorTile(
        tile=tile,
        core=core,
        scale=scale,
        rows=rows,
        classes=shapes.classes,
        areas_um2=np.asarray(chosen["area_um2"], np.float32),
        outlines=shapes.outlines,
        nuclei=shapes.nuclei,
    )
