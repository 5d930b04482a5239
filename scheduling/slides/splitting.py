"""A mask cut into objects by seeds: each pixel to the seed that is nearest along the mask, within a distance.

Pixels are taken up in the order of their distance, equal ones in an order that follows from the raster order of the seeds: two
windows that see the same surroundings cut alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.contours import Labels
from scheduling.slides.runs import Numbers, Runs

Bytes = npt.NDArray[np.uint8]

#: Lengths of a step to the side and of one across a corner (Borgefors 1986), and more than one step can be long.
_SIDE, _CORNER, _BUCKETS = 5, 7, 8


@njit(cache=True)
def nearest_along(seeds: Bytes, mask: Bytes, most_px: int) -> tuple[Labels, int]:
    """int32 (h, w) labels 1…count of the mask's pixels at most `most_px` from a seed, which is an 8-connected piece of `seeds`, and count."""
    height, width = mask.shape
    labels, distances = np.zeros((height, width), np.int32), np.full((height, width), 0xFFFF, np.uint16)
    # A pixel is queued each time that it comes nearer: lists of pixels, one for each distance that is not reached yet.
    pixels, following = np.empty(1024, np.int64), np.empty(1024, np.int64)
    heads, tails = np.full(_BUCKETS, -1, np.int64), np.full(_BUCKETS, -1, np.int64)
    count, used = _label_seeds(seeds, labels)
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                distances[y, x] = 0
                pixels, following, used = _queue(pixels, following, used, heads, tails, 0, y * width + x)
    for distance in range(_SIDE * most_px + 1):
        bucket = distance % _BUCKETS
        at = heads[bucket]
        heads[bucket] = -1
        while at >= 0:
            y, x = pixels[at] // width, pixels[at] % width
            at = following[at]
            if distances[y, x] != distance:
                continue
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    further = distance + (_SIDE if u == x or v == y else _CORNER)
                    if mask[v, u] > 0 and further < distances[v, u] and further <= _SIDE * most_px:
                        distances[v, u], labels[v, u] = further, labels[y, x]
                        pixels, following, used = _queue(pixels, following, used, heads, tails, further % _BUCKETS, v * width + u)
    return labels, count


@njit(cache=True)
def _queue(pixels: Any, following: Any, used: int, heads: Any, tails: Any, bucket: int, pixel: int) -> tuple[Any, Any, int]:
    """Append a pixel to a list; the arrays grow as needed."""
    if used == len(pixels):
        pixels, following = np.concatenate((pixels, pixels)), np.concatenate((following, following))
    pixels[used], following[used] = pixel, -1
    if heads[bucket] < 0:
        heads[bucket] = used
    else:
        following[tails[bucket]] = used
    tails[bucket] = used
    return pixels, following, used + 1


@njit(cache=True)
def _label_seeds(seeds: Bytes, labels: Labels) -> tuple[int, int]:
    """Number the 8-connected pieces of the seeds in raster order, in place: (their number, 0)."""
    height, width = seeds.shape
    stack = np.empty(seeds.sum() + 1, np.int64)
    count = 0
    for y in range(height):
        for x in range(width):
            if seeds[y, x] == 0 or labels[y, x] > 0:
                continue
            count += 1
            labels[y, x], stack[0], size = count, y * width + x, 1
            while size:
                size -= 1
                row, column = stack[size] // width, stack[size] % width
                for v in range(max(0, row - 1), min(height, row + 2)):
                    for u in range(max(0, column - 1), min(width, column + 2)):
                        if seeds[v, u] > 0 and labels[v, u] == 0:
                            labels[v, u], stack[size] = count, v * width + u
                            size += 1
    return count, 0


@njit(cache=True)
def without_labels(mask: Bytes, labels: Labels) -> Bytes:
    """1 where the mask has no label."""
    out = np.zeros(mask.shape, np.uint8)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            out[y, x] = mask[y, x] > 0 and labels[y, x] == 0
    return out


@njit(cache=True)
def untouched(labels: Labels, runs: Runs, pieces: Numbers, count: int) -> npt.NDArray[np.bool_]:
    """bool (count + 1,): pieces of runs without a label, none of whose pixels has one of the four neighbours labelled."""
    height, width = labels.shape
    out = np.ones(count + 1, np.bool_)
    out[0] = False
    for index in range(len(runs)):
        y, begin, end = runs[index, 0], runs[index, 1], runs[index, 2]
        is_touched = (begin > 0 and labels[y, begin - 1] > 0) or (end < width and labels[y, end] > 0)
        for row in (y - 1, y + 1):
            if 0 <= row < height and not is_touched:
                is_touched = labels[row, begin:end].any()
        if is_touched:
            out[pieces[index]] = False
    return out


@njit(cache=True)
def renumbered(labels: Labels, numbers: Labels) -> Labels:
    """The labels replaced by `numbers[label]`."""
    out = np.zeros_like(labels)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                out[y, x] = numbers[labels[y, x]]
    return out
