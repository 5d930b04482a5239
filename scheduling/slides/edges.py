"""Where the edge of a nucleus runs: half way in level between its inside and the tissue around it; what has no edge is left out.

Each object is judged by sums over its own pixels and its near surroundings, in raster order: every window that sees it
draws it the same.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.contours import Labels
from scheduling.slides.stain import Floats

cv2.setNumThreads(1)

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


def local_mean(levels: Bytes, weights: Bytes, reach_px: int, prior_level: int) -> Floats:
    """float32 (h, w): mean level where `weights` is 1 in the square that reaches `reach_px` from each pixel.

    It is drawn to `prior_level` where such pixels are rare.
    """
    side = 2 * reach_px + 1
    prior = _PRIOR * side * side
    # Sums of integers are exact, so that every window gives the same.
    total, number = (
        np.asarray(cv2.boxFilter(image, cv2.CV_32S, (side, side), normalize=False), np.int32)
        for image in (cv2.multiply(levels, weights), weights)
    )
    return _quotient(total, number, prior * prior_level, prior)


@njit(cache=True)
def _quotient(total: Labels, number: Labels, add_total: float, add_number: float) -> Floats:
    out = np.empty(total.shape, np.float32)
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            out[y, x] = (total[y, x] + add_total) / (number[y, x] + add_number)
    return out


def at_half_height(labels: Labels, levels: Bytes, stained: tuple[Floats, Floats], around: Floats) -> Labels:
    """Each object drawn back to where its level is half way between its inside and its surroundings, in a new array.

    A threshold low enough for pale nuclei lies outside of the edge of dark ones. What hardly stands out from the tissue around it,
    and what has the colour of ink or of keratin and blood, is left out.
    """
    count = int(labels.max())
    area, level, surrounding, hematoxylin, eosin = object_means(labels, count, levels, stained[0], stained[1], around)
    inside = means_above(labels, count, levels, level)
    ratio = eosin / np.maximum(hematoxylin, _LEAST_OD)
    keep = (inside - surrounding > _MIN_CONTRAST * inside) & (ratio > _INK) & (ratio < _RED) & (area > 0)
    cut = np.where(keep, surrounding + _HEIGHT * (inside - surrounding), np.inf)
    return above(labels, levels, cut)


@njit(cache=True)
def object_means(
    labels: Labels, count: int, levels: Bytes, hematoxylin: Floats, eosin: Floats, around: Floats
) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    """Area of each label 0…count, and means over it of the four images. Summed in raster order: the same in every window."""
    out = np.zeros((5, count + 1), np.float64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0:
                out[0, label] += 1
                out[1, label] += levels[y, x]
                out[2, label] += around[y, x]
                out[3, label] += hematoxylin[y, x]
                out[4, label] += eosin[y, x]
    area = np.maximum(out[0], 1.0)
    return out[0], out[1] / area, out[2] / area, out[3] / area, out[4] / area


@njit(cache=True)
def means_above(labels: Labels, count: int, levels: Bytes, least: Doubles) -> Doubles:
    """Mean level of each label's pixels that have at least the level `least[label]`: its inside, without the slope of its edge."""
    area, total = np.zeros(count + 1, np.float64), np.zeros(count + 1, np.float64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and levels[y, x] >= least[label]:
                area[label] += 1
                total[label] += levels[y, x]
    return total / np.maximum(area, 1.0)


@njit(cache=True)
def above(labels: Labels, levels: Bytes, cut: Doubles) -> Labels:
    """The labels where the level exceeds `cut[label]`, 0 elsewhere."""
    out = np.zeros_like(labels)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and levels[y, x] > cut[label]:
                out[y, x] = label
    return out
