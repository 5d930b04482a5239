"""Where the edge of a nucleus runs: half way in level between its inside and the tissue around it; what has no edge is left out.

Each object is judged by sums over its own pixels and its near surroundings, in raster order: every window that sees it
draws it the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.runs import Ints, Runs
from scheduling.slides.nuclei.stain import Floats

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

#: Part of the square that counts as tissue of the prior level, so that a few pixels of it do not decide alone.
_PRIOR = 0.04
#: Where an outline runs between the level of the surroundings (0) and of the inside (1).
_HEIGHT = 0.5
#: What a nucleus exceeds its surroundings by, as a part of its own level.
_MIN_CONTRAST = 0.38
#: Eosin over hematoxylin: ink takes less green than its red alone explains, keratin and blood far more.
_INK, _RED = -0.05, 0.7
_LEAST_OD = 0.01
#: A pixel in a sum that also holds a total below it.
_ONE = np.int64(1) << 32


@njit(cache=True)
def local_mean(levels: Bytes, weights: Bytes, reach_px: int, prior_level: int) -> Floats:
    """float32 (h, w): mean level where `weights` is 1, and not 0, in the square that reaches `reach_px` from each pixel.

    It is drawn to `prior_level` where such pixels are rare. Beyond the image there are none.
    """
    height, width = levels.shape
    prior = _PRIOR * (2 * reach_px + 1) ** 2
    # Sums of integers are exact, so that every window gives the same. One number holds the count (above bit 32) and the sum.
    columns, sums = np.zeros(width + 2 * reach_px, np.int64), np.zeros(width + 2 * reach_px + 1, np.int64)
    out = np.empty((height, width), np.float32)
    for bottom in range(height + reach_px):
        if bottom < height:
            _add_row(columns[reach_px:], levels[bottom], weights[bottom], 1)
        if bottom > 2 * reach_px:
            top = bottom - 2 * reach_px - 1
            _add_row(columns[reach_px:], levels[top], weights[top], -1)
        if bottom >= reach_px:
            _means_of_row(columns, sums, out[bottom - reach_px], prior * prior_level, prior)
    return out


@njit(cache=True)
def _add_row(columns: Ints, levels: npt.NDArray[np.uint8], weights: npt.NDArray[np.uint8], sign: int) -> None:
    for x in range(len(levels)):
        columns[x] += sign * np.int64(weights[x]) * (_ONE + np.int64(levels[x]))


@njit(cache=True)
def _means_of_row(columns: Ints, sums: Ints, out: npt.NDArray[np.float32], add_total: float, add_number: float) -> None:
    total = np.int64(0)
    for x in range(len(columns)):
        total += columns[x]
        sums[x + 1] = total
    side = len(columns) - len(out) + 1
    for x in range(len(out)):
        within = sums[x + side] - sums[x]
        out[x] = (np.float64(within & (_ONE - 1)) + add_total) / (np.float64(within >> 32) + add_number)


def half_height(objects: Runs, count: int, levels: Bytes, stained: tuple[Floats, Floats], around: Floats) -> Bytes:
    """uint8 (h, w): 1 where the level of an object 1…count exceeds half the way from its surroundings to its inside, 0 elsewhere.

    A threshold low enough for pale nuclei lies outside of the edge of dark ones. What hardly stands out from the tissue around it,
    and what has the colour of ink or of keratin and blood, is left out.
    """
    area, level, surrounding, hematoxylin, eosin = object_means(objects, count, levels, stained[0], stained[1], around)
    inside = means_above(objects, count, levels, level)
    ratio = eosin / np.maximum(hematoxylin, _LEAST_OD)
    keep = (inside - surrounding > _MIN_CONTRAST * inside) & (ratio > _INK) & (ratio < _RED) & (area > 0)
    return above(objects, levels, np.where(keep, surrounding + _HEIGHT * (inside - surrounding), np.inf))


@njit(cache=True)
def object_means(
    objects: Runs, count: int, levels: Bytes, hematoxylin: Floats, eosin: Floats, around: Floats
) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    """Area of each object 0…count, and means over it of the four images. Summed in raster order: the same in every window."""
    out = np.zeros((5, count + 1), np.float64)
    for index in range(len(objects)):
        y, begin, end, label = objects[index]
        inside, outside, blue, pink = 0, 0.0, 0.0, 0.0
        for x in range(begin, end):
            inside += levels[y, x]
            outside += around[y, x]
            blue += hematoxylin[y, x]
            pink += eosin[y, x]
        out[0, label] += end - begin
        out[1, label] += inside
        out[2, label] += outside
        out[3, label] += blue
        out[4, label] += pink
    area = np.maximum(out[0], 1.0)
    return out[0], out[1] / area, out[2] / area, out[3] / area, out[4] / area


@njit(cache=True)
def means_above(objects: Runs, count: int, levels: Bytes, least: Doubles) -> Doubles:
    """Mean level of each object's pixels that have at least the level `least[label]`: its inside, without the slope of its edge."""
    area, total = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for index in range(len(objects)):
        y, begin, end, label = objects[index]
        for x in range(begin, end):
            if levels[y, x] >= least[label]:
                area[label] += 1
                total[label] += levels[y, x]
    return total / np.maximum(area, 1)


@njit(cache=True)
def above(objects: Runs, levels: Bytes, cut: Doubles) -> Bytes:
    """1 where an object's level exceeds `cut[label]`, 0 elsewhere."""
    out = np.zeros(levels.shape, np.uint8)
    for index in range(len(objects)):
        y, begin, end, label = objects[index]
        for x in range(begin, end):
            out[y, x] = levels[y, x] > cut[label]
    return out
