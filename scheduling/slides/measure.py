"""Measurements of labelled objects: exact moments by np.bincount, shape from the outlines. Sizes in microns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from scheduling.slides.contours import Labels, Outlines
from scheduling.slides.stain import Floats

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Mean ratio of the true length of a curve to that of its pixel staircase with halved corners (Kulpa 1977).
_STAIRCASE = 0.948


@dataclass(frozen=True)
class Moments:
    """Exact integer sums over the pixels of each object, in global model coordinates (int64, one entry for each object)."""

    area: Ints
    x: Ints
    y: Ints
    xx: Ints
    xy: Ints
    yy: Ints


def moments(labels: Labels, count: int, left: int, top: int) -> Moments:
    """Moments of the labels 1…count of a window whose first pixel has the global coordinates (left, top)."""
    at = np.flatnonzero(labels)
    ids = labels.reshape(-1)[at]
    y, x = np.divmod(at, labels.shape[1])

    def total(values: Ints) -> Ints:
        # Sums of integers in doubles are exact below 2**53; window coordinates keep them far below.
        return np.bincount(ids, values, count + 1)[1:].astype(np.int64)

    area = np.bincount(ids, minlength=count + 1)[1:].astype(np.int64)
    sx, sy, sxx, sxy, syy = total(x), total(y), total(x * x), total(x * y), total(y * y)
    return Moments(
        area=area,
        x=sx + left * area,
        y=sy + top * area,
        xx=sxx + 2 * left * sx + left * left * area,
        xy=sxy + left * sy + top * sx + left * top * area,
        yy=syy + 2 * top * sy + top * top * area,
    )


def axes_px(m: Moments) -> tuple[Doubles, Doubles]:
    """Lengths of the major and minor axis of the ellipse with the same second moments; a pixel is a unit square."""
    # In integers, as variances of large coordinates cancel.
    square = m.area.astype(np.float64) ** 2
    var_x = (m.area * m.xx - m.x * m.x) / square + 1 / 12
    var_y = (m.area * m.yy - m.y * m.y) / square + 1 / 12
    covariance = (m.area * m.xy - m.x * m.y) / square
    middle = (var_x + var_y) / 2
    spread = np.sqrt(((var_x - var_y) / 2) ** 2 + covariance**2)
    return 4 * np.sqrt(middle + spread), 4 * np.sqrt(np.maximum(middle - spread, 0))


def means(labels: Labels, count: int, values: Floats) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation of `values` (h, w) over each object 1…count."""
    at = np.flatnonzero(labels)
    ids = labels.reshape(-1)[at]
    inside = values.reshape(-1)[at].astype(np.float64)
    area = np.bincount(ids, minlength=count + 1)[1:]
    mean = np.bincount(ids, inside, count + 1)[1:] / area
    square = np.bincount(ids, inside * inside, count + 1)[1:] / area
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


def perimeters_px(rings: Outlines) -> Doubles:
    """Length of each outline, its staircase smoothed: corners count half a diagonal, the whole is scaled for its bias."""
    steps = np.abs(np.diff(rings.points.astype(np.int64), axis=0)).sum(axis=1)
    total = np.concatenate([[0], np.cumsum(np.append(steps, 0))])
    length = total[rings.offsets[1:] - 1] - total[rings.offsets[:-1]]
    corners = np.diff(rings.offsets) - 1
    return np.asarray(_STAIRCASE * (length - corners * (1 - np.sqrt(0.5))))


def polygons(rings: Outlines) -> npt.NDArray[np.object_]:
    """Shapely polygons of the rings, in order."""
    if not len(rings):
        return np.empty(0, np.object_)
    owners = np.repeat(np.arange(len(rings)), np.diff(rings.offsets))
    return np.asarray(shapely.polygons(shapely.linearrings(rings.points.astype(np.float64), indices=owners)))


def solidities(rings: Outlines) -> Doubles:
    """Area over the area of the convex hull."""
    shapes = polygons(rings)
    return np.asarray(shapely.area(shapes) / shapely.area(shapely.convex_hull(shapes)))


def circularities(areas_px: Ints, lengths_px: Doubles) -> Doubles:
    """4 pi A / P², 1 for a disk; clipped at 1, as digital disks come out a little above."""
    return np.minimum(1.0, 4 * np.pi * areas_px / lengths_px**2)
