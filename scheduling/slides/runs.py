"""Label images as runs: the stretches of equal labels in their rows. Most of an image is background, which runs leave out.

A run is (y, begin, end, label), int32, with end exclusive; runs are in raster order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Runs = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int32]


@njit(cache=True)
def runs_of(image: npt.NDArray[Any]) -> Runs:
    """int32 (runs, 4) of what is not 0."""
    height, width = image.shape
    out = np.empty((height * width // 16 + 64, 4), np.int32)
    count = 0
    for y in range(height):
        row = image[y]
        x = 0
        while x < width:
            if row[x] == 0:
                x += 1
                continue
            label, begin = row[x], x
            while x < width and row[x] == label:
                x += 1
            if count == len(out):
                larger = np.empty((2 * count, 4), np.int32)
                larger[:count] = out
                out = larger
            out[count, 0], out[count, 1], out[count, 2], out[count, 3] = y, begin, x, label
            count += 1
    return out[:count]


@njit(cache=True)
def joined(runs: Runs) -> tuple[Numbers, int]:
    """Number of each run's 4-connected piece of equal labels, from 1 in raster order of their first pixels, and how many pieces there are."""
    parents = np.arange(len(runs)).astype(np.int32)
    above = 0
    for index in range(len(runs)):
        y, begin, end = runs[index, 0], runs[index, 1], runs[index, 2]
        while runs[above, 0] < y - 1 or (runs[above, 0] == y - 1 and runs[above, 2] <= begin):
            above += 1
        other = above
        while runs[other, 0] == y - 1 and runs[other, 1] < end:
            if runs[other, 3] == runs[index, 3]:
                a, b = _root(parents, index), _root(parents, other)
                parents[max(a, b)] = min(a, b)
            other += 1
    numbers = np.zeros(len(runs), np.int32)
    count = 0
    for index in range(len(runs)):
        root = _root(parents, index)
        if root == index:
            count += 1
            numbers[index] = count
        else:
            numbers[index] = numbers[root]
    return numbers, count


@njit(cache=True)
def _root(parents: Numbers, index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


@njit(cache=True)
def boxes_of(runs: Runs, numbers: Numbers, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of each number 0…count its pixels, int64 (count + 1,), and its box: left, top, right, bottom, int32 (count + 1, 4), all 0 for none."""
    areas, boxes = np.zeros(count + 1, np.int64), np.zeros((count + 1, 4), np.int32)
    for index in range(len(runs)):
        number, y, begin, end = numbers[index], runs[index, 0], runs[index, 1], runs[index, 2]
        if areas[number] == 0:
            boxes[number, 0], boxes[number, 1] = begin, y
        areas[number] += end - begin
        boxes[number, 0] = min(boxes[number, 0], begin)
        boxes[number, 2] = max(boxes[number, 2], end)
        boxes[number, 3] = y + 1
    return areas, boxes


@njit(cache=True)
def paint(out: npt.NDArray[Any], runs: Runs, values: npt.NDArray[Any]) -> None:
    """Give the pixels of each run its value; those of 0 are left as they are."""
    for index in range(len(runs)):
        if values[index] != 0:
            out[runs[index, 0], runs[index, 1] : runs[index, 2]] = values[index]
