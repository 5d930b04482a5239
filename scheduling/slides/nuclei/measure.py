"""Measurements of labelled objects: exact integer moments, shape from the outlines. Sizes in microns."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import shapely
from numba import njit

from scheduling.slides.nuclei.contours import Labels, Outlines, ring_areas, trace
from scheduling.slides.nuclei.runs import Runs, runs_of
from scheduling.slides.nuclei.stain import Floats

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Mean ratio of the true length of a curve to that of its pixel staircase with halved corners (Kulpa 1977).
STAIRCASE = 0.948


@dataclass(frozen=True)
class Moments:
    """Exact integer sums over the pixels of each object, in global model coordinates (int64, one entry for each object)."""

    area: Ints
    x: Ints
    y: Ints
    xx: Ints
    xy: Ints
    yy: Ints

    def moved(self, left: int, top: int) -> Moments:
        """The same with the first pixel of the window at (left, top)."""
        area, sx, sy = self.area, self.x, self.y
        return Moments(
            area=area,
            x=sx + left * area,
            y=sy + top * area,
            xx=self.xx + 2 * left * sx + left * left * area,
            xy=self.xy + left * sy + top * sx + left * top * area,
            yy=self.yy + 2 * top * sy + top * top * area,
        )

    def or_where_absent(self, other: Moments) -> Moments:
        """Those of `other` for objects without a pixel here."""
        if self is other or self.area.all():
            return self
        return Moments(*(np.where(self.area > 0, mine, theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Measured:
    """The objects 1…count of one label image; one without a pixel has area 0 and an outline without a vertex."""

    #: In window coordinates.
    moments: Moments
    rings: Outlines
    #: Of hematoxylin and eosin.
    spreads: tuple[Spread, Spread]


def measured(labels: Labels, count: int, stained: tuple[Floats, Floats]) -> Measured:
    """All that is measured on pixels; each object is one 4-connected piece, or absent."""
    runs = runs_of(labels)
    return Measured(moments(runs, count), trace(labels, count), spreads(runs, count, stained))


def moments(runs: Runs, count: int) -> Moments:
    """Moments of the objects 1…count in the coordinates of their window."""
    return Moments(*_sums(runs, count)[:, 1:])


@njit(cache=True)
def _sums(runs: Runs, count: int) -> Ints:
    """int64 (6, count + 1): number of pixels, sums of x, y, x², xy, y² of each label; of a run by the sums of whole numbers and of their squares."""
    out = np.zeros((6, count + 1), np.int64)
    for index in range(len(runs)):
        y, begin, end, label = np.int64(runs[index, 0]), np.int64(runs[index, 1]), np.int64(runs[index, 2]), runs[index, 3]
        pixels = end - begin
        x = (begin + end - 1) * pixels // 2
        out[0, label] += pixels
        out[1, label] += x
        out[2, label] += y * pixels
        out[3, label] += ((end - 1) * end * (2 * end - 1) - (begin - 1) * begin * (2 * begin - 1)) // 6
        out[4, label] += x * y
        out[5, label] += y * y * pixels
    return out


def axes_px(m: Moments) -> tuple[Doubles, Doubles]:
    """Lengths of the major and minor axis of the ellipse with the same second moments; a pixel is a unit square."""
    # In integers, as variances of large coordinates cancel.
    square = np.maximum(m.area, 1).astype(np.float64) ** 2
    var_x = (m.area * m.xx - m.x * m.x) / square + 1 / 12
    var_y = (m.area * m.yy - m.y * m.y) / square + 1 / 12
    covariance = (m.area * m.xy - m.x * m.y) / square
    middle = (var_x + var_y) / 2
    spread = np.sqrt(((var_x - var_y) / 2) ** 2 + covariance**2)
    return 4 * np.sqrt(middle + spread), 4 * np.sqrt(np.maximum(middle - spread, 0))


@dataclass(frozen=True)
class Spread:
    """How values are spread over the pixels of each object (float64, one entry for each object)."""

    mean: Doubles
    sum: Doubles
    sd: Doubles
    min: Doubles
    max: Doubles


def spreads(runs: Runs, count: int, stained: tuple[Floats, Floats]) -> tuple[Spread, Spread]:
    """The spread of both images over each object 1…count."""
    return (spread(runs, count, stained[0]), spread(runs, count, stained[1]))


def spread(runs: Runs, count: int, values: Floats) -> Spread:
    """Mean, sum, standard deviation, minimum and maximum of `values` (h, w) over each object 1…count; not a number for one without a pixel."""
    pixels, total, square, least, most = _value_sums(runs, count, values)[:, 1:]
    area = np.where(pixels > 0, pixels, np.nan)
    mean = total / area
    return Spread(mean, np.where(pixels > 0, total, np.nan), np.sqrt(np.maximum(square / area - mean * mean, 0)), least, most)


@njit(cache=True)
def _value_sums(runs: Runs, count: int, values: Floats) -> Doubles:
    """float64 (5, count + 1): pixels, sums of values and of squares, minimum, maximum; run by run in raster order, so the same in every window."""
    out = np.zeros((5, count + 1), np.float64)
    out[3:] = np.nan
    for index in range(len(runs)):
        y, begin, end, label = runs[index]
        total, square, least, most = 0.0, 0.0, values[y, begin], values[y, begin]
        for x in range(begin, end):
            value = values[y, x]
            total += value
            square += np.float64(value) * value
            least, most = min(least, value), max(most, value)
        is_first = out[0, label] == 0
        out[0, label] += end - begin
        out[1, label] += total
        out[2, label] += square
        out[3, label] = least if is_first else min(out[3, label], least)
        out[4, label] = most if is_first else max(out[4, label], most)
    return out


def perimeters_px(rings: Outlines) -> Doubles:
    """Length of each outline, its staircase smoothed: corners count half a diagonal, the whole is scaled for its bias. 0 for none."""
    steps = np.abs(np.diff(rings.points.astype(np.int64), axis=0)).sum(axis=1)
    total = np.concatenate([[0], np.cumsum(np.append(steps, 0))])
    length = total[np.maximum(rings.offsets[1:] - 1, rings.offsets[:-1])] - total[rings.offsets[:-1]]
    corners = np.maximum(np.diff(rings.offsets) - 1, 0)
    return np.asarray(STAIRCASE * (length - corners * (1 - np.sqrt(0.5))))


def polygons(rings: Outlines) -> npt.NDArray[np.object_]:
    """Shapely polygons of the rings that have any vertex, in order."""
    sizes = np.diff(rings.offsets)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return np.empty(0, np.object_)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return np.asarray(shapely.polygons(shapely.linearrings(rings.points.astype(np.float64), indices=owners)))


def solidities(rings: Outlines) -> Doubles:
    """Area over the area of the convex hull; 0 for an outline without a vertex."""
    areas, hulls = ring_areas(rings), _hull_areas(rings.points, rings.offsets)
    return np.asarray(areas / np.where(hulls > 0, hulls, 1.0))


@njit(cache=True)
def _hull_areas(points: npt.NDArray[np.int32], offsets: Ints) -> Doubles:
    """Area of the convex hull of each ring of pixel corners: of every row the outermost corners, linked by two convex chains."""
    out = np.zeros(len(offsets) - 1, np.float64)
    for ring in range(len(offsets) - 1):
        corners = points[offsets[ring] : offsets[ring + 1]]
        if len(corners) == 0:
            continue
        top = corners[:, 1].min()
        rows = corners[:, 1].max() - top + 1
        # Row by row the smallest and (negated, so that one chain serves both) the largest x.
        ends = np.full((2, rows), np.int64(1) << 40)
        for x, y in corners:
            ends[0, y - top] = min(ends[0, y - top], np.int64(x))
            ends[1, y - top] = min(ends[1, y - top], -np.int64(x))
        twice = 0
        for side in range(2):
            twice -= _twice_under_chain(ends[side])
        out[ring] = twice / 2
    return out


@njit(cache=True)
def _twice_under_chain(ends: Ints) -> int:
    """Twice the integral of the lower convex chain through (row, ends[row]); rows without a corner hold 2**40 and are left out."""
    chain = np.empty(len(ends), np.int64)
    size = 0
    for row in range(len(ends)):
        if ends[row] == np.int64(1) << 40:
            continue
        while size > 1:
            a, b = chain[size - 2], chain[size - 1]
            if (ends[b] - ends[a]) * (row - a) < (ends[row] - ends[a]) * (b - a):
                break
            size -= 1
        chain[size] = row
        size += 1
    total = 0
    for index in range(1, size):
        a, b = chain[index - 1], chain[index]
        total += (ends[a] + ends[b]) * (b - a)
    return total


def circularities(areas_px: Ints, lengths_px: Doubles) -> Doubles:
    """4 pi A / P², 1 for a disk; clipped at 1, as digital disks come out a little above."""
    return np.asarray(np.minimum(1.0, 4 * np.pi * areas_px / np.where(lengths_px > 0, lengths_px, 1.0) ** 2))
