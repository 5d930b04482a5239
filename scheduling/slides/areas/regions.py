"""Areas against pixels and points: which mask pixels an area touches and how much of each, and which centroids lie in it.

A point on an outline belongs to the area on its right and below, so that areas which share a border share no cell and lose
none. Everything is in full-resolution pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely
from numba import njit

from scheduling.slides.areas.annotation import Area

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: Less of a pixel is rounding.
_LEAST = 1e-9


@dataclass(frozen=True, kw_only=True)
class Region:
    """An area, made ready for many questions."""

    area: Area

    @cached_property
    def edges(self) -> Doubles:
        """float64 (n, 4): x0, y0, x1, y1 of every edge, along its ring; holes run against their shells."""
        rings = shapely.get_rings(shapely.get_parts(shapely.normalize(self.area)))
        points, ring = shapely.get_coordinates(rings, return_index=True)
        joined = ring[:-1] == ring[1:]
        return np.ascontiguousarray(np.hstack([points[:-1][joined], points[1:][joined]]))

    @cached_property
    def _sorted(self) -> Doubles:
        """The edges, each from its upper end: both neighbours of a border compute the same crossing."""
        edges = self.edges
        return np.where((edges[:, 1] <= edges[:, 3])[:, None], edges, edges[:, [2, 3, 0, 1]])

    def holds(self, x: Doubles, y: Doubles) -> Bools:
        """Whether each point lies inside; on an outline when the inside is on its right or below it."""
        if not len(x):
            return np.zeros(0, np.bool_)
        edges = self._sorted
        near = (edges[:, 1] <= y.max()) & (edges[:, 3] > y.min()) & (np.maximum(edges[:, 0], edges[:, 2]) >= x.min())
        return _crossed_oddly(np.ascontiguousarray(edges[near]), x, y)

    def coverage(self, width: int, height: int, downsample: float) -> npt.NDArray[np.float32]:
        """float32 (height, width): the part of each pixel, `downsample` full-resolution pixels wide, that is inside; exact."""
        return self._drawn(width, height, downsample)[0]

    def _drawn(self, width: int, height: int, downsample: float) -> tuple[npt.NDArray[np.float32], Bools]:
        """Coverage, and which pixels an edge runs through."""
        covered, passed = np.zeros((height, width), np.float32), np.zeros((height, width), np.bool_)
        edges = np.clip(self.edges / downsample, 0, [width, height, width, height])
        left, top = (int(edges[:, i::2].min(initial=limit)) for i, limit in ((0, width), (1, height)))
        right, bottom = (int(np.ceil(edges[:, i::2].max(initial=0))) for i in (0, 1))
        if left < right and top < bottom:
            # Only where the area is: sums take eight bytes a pixel, and most regions are small.
            sums = np.zeros((bottom - top, right - left + 1), np.float64)
            _draw(edges - [left, top, left, top], sums, passed[top:bottom, left:right])
            np.abs(np.cumsum(sums, axis=1, out=sums), out=sums)
            covered[top:bottom, left:right] = np.minimum(sums, 1, out=sums)[:, :-1]
        return covered, passed


def rasterised(region: Region, width: int, height: int, downsample: float) -> Bytes:
    """uint8 (height, width), 255 where a pixel, `downsample` full-resolution pixels wide, has any part of the region in it."""
    covered, passed = region._drawn(width, height, downsample)
    return ((covered > _LEAST) | passed).astype(np.uint8) * 255


def inside_region(cells: pa.Table, region: Region) -> pa.Table:
    """Only the cells whose centroid lies in the region."""
    x, y = (np.asarray(cells[name], np.float64) for name in ("centroid_x_px", "centroid_y_px"))
    return cells.filter(pa.array(region.holds(x, y)))


@njit(cache=True)
def _crossed_oddly(edges: Doubles, xs: Doubles, ys: Doubles) -> Bools:
    """Whether a ray to the right of each point crosses the edges, which run downwards, an odd number of times."""
    out = np.zeros(xs.size, np.bool_)
    for i in range(xs.size):
        x, y, odd = xs[i], ys[i], False
        for e in range(edges.shape[0]):
            if edges[e, 1] <= y < edges[e, 3]:
                part = (y - edges[e, 1]) / (edges[e, 3] - edges[e, 1])
                if x < edges[e, 0] + part * (edges[e, 2] - edges[e, 0]):
                    odd = not odd
        out[i] = odd
    return out


@njit(cache=True)
def _draw(edges: Doubles, sums: Doubles, passed: Bools) -> None:
    """Add to `sums` what running totals along its rows turn into signed coverage, and mark the pixels inside of which edges pass.

    An edge that falls by d within a pixel, at mean distance m from the pixel's left side, covers d(1 - m) of that pixel and d of
    every pixel on its right (Green's theorem, pixel by pixel).
    """
    height, width = passed.shape
    for e in range(edges.shape[0]):
        x0, y0, x1, y1 = edges[e, 0], edges[e, 1], edges[e, 2], edges[e, 3]
        sign = 1.0
        if y0 > y1:
            x0, y0, x1, y1, sign = x1, y1, x0, y0, -1.0
        slope = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
        for row in range(min(int(y0), height - 1), min(int(np.ceil(y1)), height - 1) + 1):
            top, bottom = max(y0, float(row)), min(y1, row + 1.0)
            if bottom < top:
                continue
            is_flat = y1 == y0
            left = x0 if is_flat else min(max(x0 + (top - y0) * slope, min(x0, x1)), max(x0, x1))
            right = x1 if is_flat else min(max(x0 + (bottom - y0) * slope, min(x0, x1)), max(x0, x1))
            if left > right:
                left, right = right, left
            for column in range(min(int(left), width - 1), min(int(right), width - 1) + 1):
                a, b = max(left, float(column)), min(right, column + 1.0)
                fall = sign * (bottom - top) * ((b - a) / (right - left) if right > left else 1.0)
                mean = min(max((a + b) / 2 - column, 0.0), 1.0)
                sums[row, column] += fall * (1.0 - mean)
                sums[row, column + 1] += fall * mean
                if bottom > top and 0.0 < mean < 1.0:
                    passed[row, column] = True
