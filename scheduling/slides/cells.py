"""The cells of one tile as an Arrow table: measured, in full-resolution pixels and microns; what a tile file holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.contours import Labels, Outlines, trace
from scheduling.slides.measure import Moments, axes_px, circularities, moments, perimeters_px, solidities, spread
from scheduling.slides.stain import Floats
from scheduling.slides.tiling import GUARD_PX, Box, Grid, cut_labels, depths_px, owned

#: Columns of numbers, in the order in which they are written everywhere.
MEASURES = (
    "centroid_x_px",
    "centroid_y_px",
    "area_um2",
    "perimeter_um",
    "circularity",
    "solidity",
    "major_axis_um",
    "minor_axis_um",
    *(f"{stain}_od_{figure}" for stain in ("hematoxylin", "eosin") for figure in ("mean", "sum", "sd", "min", "max")),
)
#: `polygon` is a closed ring x0, y0, x1, y1, … along pixel edges, origin at the upper left corner of the slide.
#: `depth_px`: how deep in the tile's core the centroid lies, in model pixels; 0 or less in the guard band.
SCHEMA = pa.schema([("depth_px", pa.float64()), *((name, pa.float64()) for name in MEASURES), ("polygon", pa.list_(pa.int32()))])
_DECIMALS = 4


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The labelled objects 1…count of a window; the nucleus and the cell of one number belong together."""

    #: int32 (h, w), each object one 4-connected piece without holes, or absent.
    nuclei: Labels
    count: int
    #: Densities of hematoxylin and eosin, float32 (h, w).
    stained: tuple[Floats, Floats]
    #: Outlines of whole cells, int32 (h, w), where the method finds them.
    cells: Labels | None = None
    #: Objects that fill less of their convex hull are dropped.
    min_solidity: float = 0.0


def cells_of_window(detected: Detected, grid: Grid, tile: int, *, downsample: int, mpp: float) -> pa.Table:
    """The cells in the tile's core and its guard band, in raster order, of the objects in its window; `mpp` is microns per full-resolution pixel."""
    labels, count, densities, min_solidity = detected.nuclei, detected.count, detected.stained, detected.min_solidity
    window = grid.window(tile)
    sums = moments(labels, count, window.left, window.top)
    rings = trace(labels, count)
    core = grid.core(tile)
    keep = owned(core.dilated(GUARD_PX), sums.area, sums.x, sums.y)
    keep[cut_labels(labels, window, grid.width, grid.height) - 1] = False
    measures = _measures(sums, rings, labels, count, densities, downsample, mpp)
    keep &= measures["solidity"] >= min_solidity
    chosen = np.flatnonzero(keep)
    depth = depths_px(core, sums.area, sums.x, sums.y)
    columns: list[Any] = [depth[chosen], *(np.round(measures[name][chosen], _DECIMALS) for name in MEASURES)]
    columns.append(_polygon_column(rings, chosen, window, downsample))
    return pa.table(columns, schema=SCHEMA)


def encode(cells: pa.Table, metadata: dict[str, bytes] | None = None) -> bytes:
    """Arrow stream, zstd, with `metadata` in its head; the same cells give the same bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, SCHEMA.with_metadata(metadata), options=options) as writer:
        writer.write_table(cells.combine_chunks())
    return bytes(sink.getvalue())


def decode(payload: bytes) -> pa.Table:
    """Inverse of encode, without the metadata."""
    with pa.ipc.open_stream(payload) as reader:
        return reader.read_all().replace_schema_metadata(None)


def outlines_of(cells: pa.Table, name: str = "polygon") -> Outlines:
    """The closed rings of a column; a null or empty one has no vertex."""
    column = cells[name].combine_chunks()
    column = column.fill_null([]) if column.null_count else column
    offsets = np.asarray(column.offsets, np.int64) // 2
    return Outlines(points=np.asarray(column.flatten(), np.int32).reshape(-1, 2), offsets=offsets - offsets[0])


def rings_of(cells: pa.Table) -> list[npt.NDArray[np.int32]]:
    """(vertices, 2) closed ring of each cell."""
    found = outlines_of(cells)
    return np.split(found.points, found.offsets[1:-1].tolist()) if len(found) else []


def inside_mask(cells: pa.Table, mask: npt.NDArray[np.uint8], downsample: int) -> pa.Table:
    """Only the cells whose centroid lies on the mask, whose pixels are `downsample` full-resolution pixels wide."""
    x, y = (np.asarray(cells[name]) for name in ("centroid_x_px", "centroid_y_px"))
    column = np.minimum((x // downsample).astype(np.int64), mask.shape[1] - 1)
    row = np.minimum((y // downsample).astype(np.int64), mask.shape[0] - 1)
    return cells.filter(pa.array(mask[row, column] > 0))


def _measures(
    sums: Moments, rings: Outlines, labels: Labels, count: int, densities: tuple[Floats, Floats], downsample: int, mpp: float
) -> dict[str, npt.NDArray[np.float64]]:
    pixel_um = downsample * mpp
    major, minor = axes_px(sums)
    lengths = perimeters_px(rings)
    return {
        "centroid_x_px": (sums.x / sums.area + 0.5) * downsample,
        "centroid_y_px": (sums.y / sums.area + 0.5) * downsample,
        "area_um2": sums.area.astype(np.float64) * pixel_um**2,
        "perimeter_um": lengths * pixel_um,
        "circularity": circularities(sums.area, lengths),
        "solidity": solidities(rings),
        "major_axis_um": major * pixel_um,
        "minor_axis_um": minor * pixel_um,
        **_densities("hematoxylin", labels, count, densities[0]),
        **_densities("eosin", labels, count, densities[1]),
    }


def _densities(stain: str, labels: Labels, count: int, values: Floats) -> dict[str, npt.NDArray[np.float64]]:
    found = spread(labels, count, values)
    return {f"{stain}_od_{figure}": getattr(found, figure) for figure in ("mean", "sum", "sd", "min", "max")}


def _polygon_column(rings: Outlines, chosen: npt.NDArray[np.int64], window: Box, downsample: int) -> pa.Array:
    sizes = np.diff(rings.offsets)[chosen]
    at = np.repeat(rings.offsets[:-1][chosen] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
    points = (rings.points[at] + np.array([window.left, window.top], np.int32)) * downsample
    offsets = np.concatenate([[0], np.cumsum(sizes) * 2]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(points.reshape(-1).astype(np.int32)))
