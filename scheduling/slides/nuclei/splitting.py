"""A mask cut into objects by seeds: each pixel to the seed that is nearest along the mask, within a distance.

Of equally near seeds the first one in raster order has the pixel: two windows that see the same surroundings cut alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.runs import Numbers, Runs, joined, runs_of, touching, with_run

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.int32]

#: A pixel's key is its distance times this, and its label: the least key is that of the nearest seed, of several the first one.
_DISTANCE = 1 << 22
_FAR = np.int32(1 << 30)
#: Lengths of a step to the side and of one across a corner (Borgefors 1986), as keys.
_SIDE, _CORNER = np.int32(5 * _DISTANCE), np.int32(7 * _DISTANCE)


def nearest_along(seeds: Bytes, mask: Bytes, most_px: int) -> tuple[Runs, Numbers, int]:
    """The mask cut into 4-connected pieces: runs, with the label of their seed, the number of each run's piece, and how many pieces there are.

    A seed is an 8-connected piece of `seeds`; it has the pixels that are nearest to it along the mask and at most `most_px` away. Pixels
    too far from every seed have label 0. Raises ValueError when there are more than 4 million seeds or `most_px` exceeds 50.
    """
    places = runs_of(seeds)
    labels, count = joined(places, 1)
    most = most_px * int(_SIDE) + _DISTANCE - 1
    if count >= _DISTANCE or most >= _FAR:
        raise ValueError("too many seeds, or too far apart")
    # A frame, so that no step needs to ask whether it leaves the image.
    keys = np.full((mask.shape[0] + 2, mask.shape[1] + 2), _FAR, np.int32)
    _plant(keys, places, labels)
    runs = runs_of(mask)
    _spread(keys, runs)
    cut = _cut(keys, runs, most)
    return cut, *joined(cut)


@njit(cache=True)
def _plant(keys: Keys, places: Runs, labels: Numbers) -> None:
    for index in range(len(places)):
        y, begin, end, _ = places[index]
        keys[y + 1, begin + 1 : end + 1] = labels[index]


@njit(cache=True)
def _spread(keys: Keys, runs: Runs) -> None:
    """Sweep over the runs downward and upward, each time over those whose neighbours have changed, until every key is the least. In place."""
    above, below = touching(runs, -1, 1), touching(runs, 1, 1)
    changed = np.ones(len(runs), np.bool_)
    _sweep(keys, runs, above, changed, 1)
    changed = _sweep(keys, runs, below, changed, -1)
    while changed.any():
        changed = _sweep(keys, runs, above, changed, 1)
        changed = _sweep(keys, runs, below, changed, -1)


@njit(cache=True)
def _sweep(keys: Keys, runs: Runs, beside: Numbers, changed: Bools, step: int) -> Bools:
    """Carry keys right and down (`step` 1) or left and up (-1), from runs that have `changed` and that change: those that change by it.

    `beside` are the runs that each one touches in the row from which keys come.
    """
    flat, width = keys.reshape(-1), keys.shape[1]
    now = np.zeros(len(runs), np.bool_)
    for number in range(len(runs)):
        index = number if step > 0 else len(runs) - 1 - number
        is_due = changed[index]
        for other in range(beside[index, 0], beside[index, 1]):
            is_due |= changed[other] | now[other]
        if is_due:
            y, begin, end, _ = runs[index]
            first = (y + 1) * width + (begin + 1 if step > 0 else end)
            now[index] = _carry(flat, first, end - begin, step, step * width)
    return now


@njit(cache=True)
def _carry(keys: Numbers, pixel: int, length: int, step: int, rows: int) -> bool:
    """Give `length` pixels on from `pixel` what they have from the one before, `step` back, and from the three beside it, `rows` back: whether any changes."""
    key, change = keys[pixel - step], np.int32(0)
    for _ in range(length):
        old, above = keys[pixel], pixel - rows
        key = min(np.int32(min(key, keys[above]) + _SIDE), np.int32(min(keys[above - 1], keys[above + 1]) + _CORNER))
        key = min(key, old)
        change |= key ^ old
        keys[pixel] = key
        pixel += step
    return bool(change != 0)


@njit(cache=True)
def _cut(keys: Keys, runs: Runs, most: int) -> Runs:
    """The runs cut where the label changes; what has a key above `most` has label 0."""
    out = np.empty((2 * len(runs) + 64, 4), np.int32)
    count = 0
    for index in range(len(runs)):
        y, x, end, _ = runs[index]
        row = keys[y + 1]
        while x < end:
            begin, label = x, _label(row[x + 1], most)
            while x < end and _label(row[x + 1], most) == label:
                x += 1
            out, count = with_run(out, count, y, begin, x, label)
    return out[:count]


@njit(cache=True)
def _label(key: int, most: int) -> int:
    return key & (_DISTANCE - 1) if key <= most else 0


@njit(cache=True)
def leftovers(runs: Runs, numbers: Numbers, count: int) -> Bools:
    """bool (count + 1,): the pieces of label 0, numbered by `numbers`, that touch a piece of another label with a side."""
    out, above = np.zeros(count + 1, np.bool_), touching(runs, -1, 0)
    for index in range(len(runs)):
        if index > 0 and runs[index - 1, 0] == runs[index, 0] and runs[index - 1, 2] == runs[index, 1]:
            _mark(out, runs, numbers, index, index - 1)
        for other in range(above[index, 0], above[index, 1]):
            _mark(out, runs, numbers, index, other)
    return out


@njit(cache=True)
def _mark(out: Bools, runs: Runs, numbers: Numbers, one: int, other: int) -> None:
    if runs[one, 3] == 0 and runs[other, 3] > 0:
        out[numbers[one]] = True
    if runs[other, 3] == 0 and runs[one, 3] > 0:
        out[numbers[other]] = True
