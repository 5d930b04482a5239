"""The cells of one tile as an Arrow table: measured, in full-resolution pixels and microns; what a tile file holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.contours import Labels, Outlines, trace
from scheduling.slides.measure import Moments, axes_px, circularities, means, moments, perimeters_px, solidities
from scheduling.slides.stain import Floats
from scheduling.slides.tiling import Box, Grid, cut_labels, owned

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
    "hematoxylin_od_mean",
    "hematoxylin_od_sd",
    "eosin_od_mean",
)
#: `polygon` is a closed ring x0, y0, x1, y1, … along pixel edges, origin at the upper left corner of the slide.
SCHEMA = pa.schema([*((name, pa.float64()) for name in MEASURES), ("polygon", pa.list_(pa.int32()))])
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
    """The cells that the tile owns, in raster order, of the objects in its window; `mpp` is microns per full-resolution pixel."""
    labels, count, densities, min_solidity = detected.nuclei, detected.count, detected.stained, detected.min_solidity
    window = grid.window(tile)
    sums = moments(labels, count, window.left, window.top)
    rings = trace(labels, count)
    keep = owned(grid.core(tile), sums.area, sums.x, sums.y)
    keep[cut_labels(labels, window, grid.width, grid.height) - 1] = False
    measures = _measures(sums, rings, labels, count, densities, downsample, mpp)
    keep &= measures["solidity"] >= min_solidity
    chosen = np.flatnonzero(keep)
    columns: list[Any] = [np.round(measures[name][chosen], _DECIMALS) for name in MEASURES]
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


def rings_of(cells: pa.Table) -> list[npt.NDArray[np.int32]]:
    """(vertices, 2) closed ring of each cell."""
    column = cells["polygon"].combine_chunks()
    points = np.asarray(column.flatten()).reshape(-1, 2)
    offsets = np.asarray(column.offsets) // 2
    return np.split(points, (offsets[1:-1] - offsets[0]).tolist()) if len(cells) else []


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
    hematoxylin, deviation = means(labels, count, densities[0])
    return {
        "centroid_x_px": (sums.x / sums.area + 0.5) * downsample,
        "centroid_y_px": (sums.y / sums.area + 0.5) * downsample,
        "area_um2": sums.area.astype(np.float64) * pixel_um**2,
        "perimeter_um": lengths * pixel_um,
        "circularity": circularities(sums.area, lengths),
        "solidity": solidities(rings),
        "major_axis_um": major * pixel_um,
        "minor_axis_um": minor * pixel_um,
        "hematoxylin_od_mean": hematoxylin,
        "hematoxylin_od_sd": deviation,
        "eosin_od_mean": means(labels, count, densities[1])[0],
    }


def _polygon_column(rings: Outlines, chosen: npt.NDArray[np.int64], window: Box, downsample: int) -> pa.Array:
    sizes = np.diff(rings.offsets)[chosen]
    at = np.repeat(rings.offsets[:-1][chosen] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
    points = (rings.points[at] + np.array([window.left, window.top], np.int32)) * downsample
    offsets = np.concatenate([[0], np.cumsum(sizes) * 2]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(points.reshape(-1).astype(np.int32)))
