"""What is shown of a tile's table of cells: which rows, their outlines, classes and places. Knows older tables with fewer columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.overlay import Shapes
from scheduling.slides.tiling import Box
from scheduling.slides.vectortiles import Rings, VectorTile

#: Columns that places and classes need; reading no others spares the outlines.
PLACE_COLUMNS = ("centroid_x_px", "centroid_y_px", "depth_px", "class")


def shown_rows(cells: pa.Table) -> npt.NDArray[np.int64]:
    """Rows to show, ascending: a tile's own cells. Those deeper than 0 px outside its core are candidates for its neighbours."""
    if "depth_px" not in cells.column_names:
        return np.arange(len(cells))
    return np.flatnonzero(np.asarray(cells["depth_px"]) >= 0)


def classes_of(cells: pa.Table) -> npt.NDArray[np.uint8]:
    """Class of each cell, 0 where the table has none."""
    if "class" not in cells.column_names:
        return np.zeros(len(cells), np.uint8)
    return np.asarray(cells["class"]).astype(np.uint8)


def centroids_of(cells: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """x and y of each cell, full-resolution pixels."""
    return np.asarray(cells["centroid_x_px"], np.float64), np.asarray(cells["centroid_y_px"], np.float64)


def open_rings(cells: pa.Table, name: str) -> Rings:
    """The rings of a column of closed ones, their last vertices left out; an empty or absent one has no vertex."""
    column = cells[name].combine_chunks()
    column = column.fill_null([]) if column.null_count else column
    points = np.asarray(column.flatten(), np.int64).reshape(-1, 2)
    offsets = np.asarray(column.offsets, np.int64) // 2
    offsets = offsets - offsets[0]
    full = np.diff(offsets) > 0
    keep = np.ones(len(points), bool)
    keep[offsets[1:][full] - 1] = False
    return Rings(points=points[keep], offsets=offsets - np.concatenate([[0], np.cumsum(full)]))


def shapes_of(cells: pa.Table) -> Shapes:
    """All the table's cells, to be drawn."""
    nuclei = open_rings(cells, "nucleus_polygon") if "nucleus_polygon" in cells.column_names else None
    return Shapes(outlines=open_rings(cells, "polygon"), classes=classes_of(cells), nuclei=nuclei)


def vector_tile(cells: pa.Table, rows: npt.NDArray[np.int64], tile: int, core: Box, scale: int) -> VectorTile:
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
