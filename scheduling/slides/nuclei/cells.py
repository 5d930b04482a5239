"""The cells of one tile as an Arrow table: measured, in full-resolution pixels and microns; what a tile file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scheduling.slides.nuclei.cell_table import AREA_RATIO, CELLS, FIGURES, HUNDREDTHS, NUCLEI, STAINS, WHOLE
from scheduling.slides.nuclei.contours import Labels, Outlines
from scheduling.slides.nuclei.measure import (
    Doubles,
    Ints,
    Measured,
    Moments,
    Spread,
    axes_px,
    circularities,
    measured,
    perimeters_px,
    solidities,
    spreads,
)
from scheduling.slides.nuclei.runs import runs_of
from scheduling.slides.nuclei.stain import Floats
from scheduling.slides.reading.scale import Scale
from scheduling.slides.reading.tiling import GUARD_PX, Box, Grid, cut_labels, depths_px, owned

#: Of tables of nuclei alone.
MEASURES, SCHEMA = NUCLEI.measures, NUCLEI.schema
_DECIMALS = 4
_NOTHING = float("nan")


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The labelled objects 1…count of a window; the nucleus and the cell of one number belong together."""

    #: int32 (h, w), each object one 4-connected piece without holes, or absent.
    nuclei: Labels
    count: int
    #: Densities of hematoxylin and eosin, float32 (h, w).
    stained: tuple[Floats, Floats]
    #: Whole cells, int32 (h, w), where the method finds them: each one 4-connected piece without holes that holds its nucleus, and
    #: every nucleus has one. A method gives them for all windows or for none.
    cells: Labels | None = None
    #: Nuclei that fill less of their convex hull are dropped.
    min_solidity: float = 0.0


def cells_of_window(detected: Detected, grid: Grid, tile: int, *, downsample: Scale, mpp: float) -> pa.Table:
    """The cells in the tile's core and its guard band, in raster order, of the objects in its window; `mpp` is microns per full-resolution pixel."""
    window, core, scale = grid.window(tile), grid.core(tile), (float(downsample), mpp)
    nuclei = measured(detected.nuclei, detected.count, detected.stained)
    whole = nuclei if detected.cells is None else measured(detected.cells, detected.count, detected.stained)
    sums = nuclei.moments.or_where_absent(whole.moments).moved(window.left, window.top)
    keep = (sums.area > 0) & owned(core.dilated(GUARD_PX), sums.area, sums.x, sums.y)
    keep[cut_labels(detected.nuclei if detected.cells is None else detected.cells, window, grid.width, grid.height) - 1] = False
    columns = _places(sums, scale[0]) | _nucleus_columns(nuclei, scale)
    # One without a nucleus has no number there, and stays.
    keep &= ~(columns["solidity"] < detected.min_solidity)
    if detected.cells is not None:
        columns |= _cell_columns(detected, nuclei, whole, scale)
    chosen = np.flatnonzero(keep)
    depth = depths_px(core, sums.area[chosen], sums.x[chosen], sums.y[chosen])
    return _table(depth, columns, (whole, nuclei), chosen, (window, downsample))


def _table(
    depth: Doubles, columns: dict[str, Doubles], objects: tuple[Measured, Measured], chosen: Ints, place: tuple[Box, Scale]
) -> pa.Table:
    """The chosen rows of the measures and rings; what is not there is null."""
    kind = CELLS if AREA_RATIO in columns else NUCLEI
    numbers = [pa.array(np.round(columns[name][chosen], _DECIMALS), from_pandas=kind is CELLS) for name in kind.measures]
    rings = [_polygon_column(found.rings, chosen, *place) for found, _ in zip(objects, kind.rings, strict=False)]
    return pa.table([depth, *numbers, *rings], schema=kind.schema_at(place[1]))


def encode(cells: pa.Table, metadata: dict[str, bytes] | None = None) -> bytes:
    """Arrow stream, zstd, with `metadata` in its head; the same cells give the same bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, cells.schema.with_metadata(metadata), options=options) as writer:
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
    numbers, decimals = column.flatten(), 0
    if numbers.type == HUNDREDTHS:
        # A decimal is an integer, and is read as one.
        numbers, decimals = numbers.view(WHOLE), HUNDREDTHS.scale
    return Outlines(points=np.asarray(numbers, np.int32).reshape(-1, 2), offsets=offsets - offsets[0], decimals=decimals)


def inside_mask(cells: pa.Table, mask: npt.NDArray[np.uint8], downsample: int) -> pa.Table:
    """Only the cells whose centroid lies on the mask, whose pixels are `downsample` full-resolution pixels wide."""
    x, y = (np.asarray(cells[name]) for name in ("centroid_x_px", "centroid_y_px"))
    column = np.minimum((x // downsample).astype(np.int64), mask.shape[1] - 1)
    row = np.minimum((y // downsample).astype(np.int64), mask.shape[0] - 1)
    return cells.filter(pa.array(mask[row, column] > 0))


def _places(sums: Moments, downsample: float) -> dict[str, Doubles]:
    area = np.maximum(sums.area, 1)
    return {"centroid_x_px": (sums.x / area + 0.5) * downsample, "centroid_y_px": (sums.y / area + 0.5) * downsample}


def _nucleus_columns(nuclei: Measured, scale: tuple[float, float]) -> dict[str, Doubles]:
    return _shape(nuclei, scale) | _densities(nuclei.spreads)


def _cell_columns(detected: Detected, nuclei: Measured, whole: Measured, scale: tuple[float, float]) -> dict[str, Doubles]:
    """What whole cells have beside their nuclei; the cytoplasm is the cell without its nucleus."""
    assert detected.cells is not None
    cytoplasm = spreads(runs_of(np.where(detected.nuclei > 0, 0, detected.cells)), detected.count, detected.stained)
    nucleus_area = np.where(nuclei.moments.area > 0, nuclei.moments.area, _NOTHING)
    return {
        **{f"cell_{name}": values for name, values in _shape(whole, scale).items()},
        **{f"cytoplasm_{name}": values for name, values in _densities(cytoplasm).items()},
        AREA_RATIO: nucleus_area / np.maximum(whole.moments.area, 1),
    }


def _shape(objects: Measured, scale: tuple[float, float]) -> dict[str, Doubles]:
    """The columns SHAPE of all objects, not a number where there is none; `scale`: downsample, microns per full-resolution pixel."""
    pixel_um, area = scale[0] * scale[1], objects.moments.area
    major, minor = axes_px(objects.moments)
    lengths = perimeters_px(objects.rings)
    columns = {
        "area_um2": area.astype(np.float64) * pixel_um**2,
        "perimeter_um": lengths * pixel_um,
        "circularity": circularities(area, lengths),
        "solidity": solidities(objects.rings),
        "major_axis_um": major * pixel_um,
        "minor_axis_um": minor * pixel_um,
    }
    return columns if area.all() else {name: np.where(area > 0, values, _NOTHING) for name, values in columns.items()}


def _densities(of_stains: Sequence[Spread]) -> dict[str, Doubles]:
    """The columns DENSITIES."""
    found = zip(STAINS, of_stains, strict=True)
    return {f"{stain}_od_{figure}": getattr(values, figure) for stain, values in found for figure in FIGURES}


def _polygon_column(rings: Outlines, chosen: Ints, window: Box, downsample: Scale) -> pa.Array:
    """Closed rings in full-resolution pixels, or hundredths of them; null for one without a vertex."""
    sizes = np.diff(rings.offsets)[chosen]
    at = np.repeat(rings.offsets[:-1][chosen] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    points = _full_resolution(rings.points[at] + np.array([window.left, window.top], np.int32), downsample)
    offsets = np.concatenate([[0], np.cumsum(sizes) * 2]).astype(np.int32)
    missing = pa.array(sizes == 0) if not sizes.all() else None
    numbers = pa.array(points.reshape(-1).astype(np.int32)).view(WHOLE if downsample.denominator == 1 else HUNDREDTHS)
    return pa.ListArray.from_arrays(pa.array(offsets), numbers, mask=missing)


def _full_resolution(corners: npt.NDArray[np.int32], downsample: Scale) -> Ints:
    """Corners of model pixels in full-resolution pixels; to the nearest hundredth, counted in those, when they are no whole ones."""
    if downsample.denominator == 1:
        return np.asarray(corners * int(downsample), np.int64)
    # Rounding to whole pixels would take up to one row of a small nucleus.
    return np.asarray((200 * downsample.numerator * corners.astype(np.int64) + downsample.denominator) // (2 * downsample.denominator))
