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
Ints = npt.NDArray[np.int64]


@njit(cache=True)
def runs_of(image: npt.NDArray[Any]) -> Runs:
    """int32 (runs, 4) of what is not 0."""
    height, width = image.shape
    out = np.empty((height * width // 64 + 64, 4), np.int32)
    count = 0
    for y in range(height):
        row, x = image[y], 0
        while x < width:
            label, begin = row[x], x
            x = _end_of_run(row, x, label)
            if label != 0:
                out, count = with_run(out, count, y, begin, x, label)
    return out[:count]


@njit(cache=True)
def _end_of_run(row: npt.NDArray[Any], x: int, label: Any) -> int:
    """The first place from `x` on that has another label. Eight at once, as background is long."""
    while x + 8 <= len(row):
        other = row[x] ^ label
        for step in range(1, 8):
            other |= row[x + step] ^ label
        if other != 0:
            break
        x += 8
    while x < len(row) and row[x] == label:
        x += 1
    return x


@njit(cache=True)
def with_run(runs: Runs, count: int, y: int, begin: int, end: int, label: int) -> tuple[Runs, int]:
    """The first `count` runs and one more, in an array that may have room for others; and how many they are now."""
    if count == len(runs):
        longer = np.empty((2 * len(runs), 4), np.int32)
        longer[:count] = runs
        runs = longer
    runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3] = y, begin, end, label
    return runs, count + 1


@njit(cache=True)
def parts_of(runs: Runs, image: npt.NDArray[np.uint8]) -> Runs:
    """What of the runs lies where `image` is not 0."""
    out = np.empty((len(runs) + 64, 4), np.int32)
    count = 0
    for index in range(len(runs)):
        y, x, end, label = runs[index]
        row = image[y]
        while x < end:
            if row[x] == 0:
                x += 1
                continue
            begin = x
            while x < end and row[x] != 0:
                x += 1
            out, count = with_run(out, count, y, begin, x, label)
    return out[:count]


@njit(cache=True)
def touching(runs: Runs, rows: int, corner: int) -> Numbers:
    """int32 (runs, 2): which runs, begin and end of their indices, each run touches in the row `rows` (-1 or 1) further down.

    It touches them with a side; with `corner` 1 also with a corner only.
    """
    out = np.zeros((len(runs), 2), np.int32)
    first = 0
    for index in range(len(runs)):
        y, begin, end = runs[index, 0] + rows, runs[index, 1] - corner, runs[index, 2] + corner
        while first < len(runs) and (runs[first, 0] < y or (runs[first, 0] == y and runs[first, 2] <= begin)):
            first += 1
        last = first
        while last < len(runs) and runs[last, 0] == y and runs[last, 1] < end:
            last += 1
        out[index, 0], out[index, 1] = first, last
    return out


@njit(cache=True)
def joined(runs: Runs, corner: int = 0) -> tuple[Numbers, int]:
    """Number of each run's piece of equal labels, from 1 in raster order of their first pixels, and how many pieces there are.

    Pieces are 4-connected; with `corner` 1 they are 8-connected.
    """
    parents, above = np.arange(len(runs)).astype(np.int32), touching(runs, -1, corner)
    for index in range(len(runs)):
        for other in range(above[index, 0], above[index, 1]):
            if runs[other, 3] == runs[index, 3]:
                a, b = _root(parents, index), _root(parents, other)
                parents[max(a, b)] = min(a, b)
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
def euler_numbers(runs: Runs, count: int) -> Ints:
    """int64 (count + 1,): 8-connected pieces of each label less its 4-connected holes, as its runs less what they touch in the row above."""
    out, above = np.zeros(count + 1, np.int64), touching(runs, -1, 1)
    for index in range(len(runs)):
        label = runs[index, 3]
        out[label] += 1
        for other in range(above[index, 0], above[index, 1]):
            if runs[other, 3] == label:
                out[label] -= 1
    return out


@njit(cache=True)
def boxes_of(runs: Runs, numbers: Numbers, count: int) -> tuple[Ints, npt.NDArray[np.int32]]:
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


def renamed(runs: Runs, labels: Numbers) -> Runs:
    """The runs with the labels (runs,), without those of label 0."""
    kept = labels > 0
    out = runs[kept]
    out[:, 3] = labels[kept]
    return out


def consecutive(keep: npt.NDArray[np.bool_]) -> tuple[Numbers, int]:
    """New numbers of the numbers 0…count: from 1 in the same order for those that `keep` (count + 1,), 0 for the others; and how many are kept."""
    kept = keep.copy()
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32), int(kept.sum())


@njit(cache=True)
def paint(out: npt.NDArray[Any], runs: Runs, values: npt.NDArray[Any]) -> None:
    """Give the pixels of each run its value."""
    for index in range(len(runs)):
        out[runs[index, 0], runs[index, 1] : runs[index, 2]] = values[index]
