"""A mask cut into objects by seeds: each pixel to the seed that is nearest along the mask, within a distance.

Pixels are taken up in the order of their distance, equal ones in an order that follows from the raster order of the seeds: two
windows that see the same surroundings cut alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.contours import Ints, Labels
from scheduling.slides.runs import Numbers, Runs

Bytes = npt.NDArray[np.uint8]

#: Lengths of a step to the side and of one across a corner (Borgefors 1986), and more than one step can be long.
_SIDE, _CORNER, _BUCKETS = 5, 7, 8


def nearest_along(seeds: Bytes, mask: Bytes, most_px: int) -> tuple[Labels, int]:
    """int32 (h, w) labels 1…count of the mask's pixels at most `most_px` from a seed, which is an 8-connected piece of `seeds`, and count."""
    # A frame of background, so that no step needs to ask whether it leaves the image.
    free = np.pad(mask, 1)
    labels = np.zeros(free.shape, np.int32)
    places, count = _label_seeds(np.pad(seeds, 1), labels)
    _spread(labels, free, places, _SIDE * most_px)
    return np.ascontiguousarray(labels[1:-1, 1:-1]), count


@njit(cache=True)
def _spread(labels: Labels, free: Bytes, places: Ints, most: int) -> None:
    """Carry the labels from `places` (flat indices) over the pixels of `free`, nearest first, up to a distance of `most`. In place."""
    width = free.shape[1]
    label, free = labels.reshape(-1), free.reshape(-1)
    steps = np.array([-width, -1, 1, width, -width - 1, -width + 1, width - 1, width + 1])
    distances = np.full(len(free), most + 1, np.int32)
    # A pixel is queued each time that it comes nearer: linked lists, one for each distance that is not reached yet.
    queue, after, used = np.empty((2 * len(places) + 1024), np.int64), np.empty(2 * len(places) + 1024, np.int64), 0
    heads, tails = np.full(_BUCKETS, -1, np.int64), np.zeros(_BUCKETS, np.int64)
    for pixel in places:
        distances[pixel] = 0
        queue[used], after[used] = pixel, used + 1
        used += 1
    if used:
        heads[0], after[used - 1] = 0, -1
    for distance in range(most + 1):
        at = heads[distance % _BUCKETS]
        heads[distance % _BUCKETS] = -1
        while at >= 0:
            pixel = queue[at]
            at = after[at]
            if distances[pixel] != distance:
                continue
            if used + 8 > len(queue):
                queue, after = np.concatenate((queue, queue)), np.concatenate((after, after))
            for direction in range(8):
                other = pixel + steps[direction]
                further = distance + (_SIDE if direction < 4 else _CORNER)
                if free[other] > 0 and further < distances[other]:
                    distances[other], label[other] = further, label[pixel]
                    queue[used], after[used] = other, -1
                    bucket = further % _BUCKETS
                    if heads[bucket] < 0:
                        heads[bucket] = used
                    else:
                        after[tails[bucket]] = used
                    tails[bucket] = used
                    used += 1


@njit(cache=True)
def _label_seeds(seeds: Bytes, labels: Labels) -> tuple[Ints, int]:
    """Number the 8-connected pieces of the seeds, which touch no border, in raster order, in place: flat indices of their pixels, number of pieces."""
    width = seeds.shape[1]
    is_seed, label = seeds.reshape(-1), labels.reshape(-1)
    places = np.flatnonzero(is_seed)
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    stack = np.empty(len(places) + 1, np.int64)
    count = 0
    for place in places:
        if label[place] > 0:
            continue
        count += 1
        label[place], stack[0], size = count, place, 1
        while size:
            size -= 1
            pixel = stack[size]
            for step in steps:
                if is_seed[pixel + step] > 0 and label[pixel + step] == 0:
                    label[pixel + step], stack[size] = count, pixel + step
                    size += 1
    return places, count


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
