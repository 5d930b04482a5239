"""Outlines of labelled objects along the edges of their pixels, so that an outline's area is the pixels' area.

Contours through pixel centres (as OpenCV draws them) lose 13 to 18 % of a nucleus. Kernels are compiled once by numba
and cached on disk. Labels are int32 (height, width), 0 = background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.runs import boxes_of, euler_numbers, joined, paint, runs_of

Labels = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outlines:
    """Closed rings of several objects: object i has the vertices `points[offsets[i]:offsets[i + 1]]`, first = last."""

    #: int32 (n, 2): x, y of pixel corners; the corner (0, 0) is the upper left one of the first pixel.
    points: npt.NDArray[np.int32]
    #: int64 (objects + 1,).
    offsets: Ints
    #: Of a pixel, in which `points` are: 2 = hundredths.
    decimals: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def ring(self, index: int) -> npt.NDArray[np.int32]:
        """(vertices, 2) of one object, closed."""
        return self.points[self.offsets[index] : self.offsets[index + 1]]


def split_pieces(labels: Labels) -> tuple[Labels, int]:
    """Number the 4-connected pieces of equal labels from 1 in raster order of their first pixels."""
    runs = runs_of(labels)
    numbers, count = joined(runs)
    pieces = np.zeros_like(labels)
    paint(pieces, runs, numbers)
    return pieces, count


@njit(cache=True)
def fill_rings(labels: Labels) -> None:
    """Give each object (one piece, numbered without gaps) what it encloses: its outer ring then encloses just its pixels.

    An object that lies wholly inside another one is absorbed and its number left unused.
    """
    runs = runs_of(labels)
    count = 0
    for index in range(len(runs)):
        count = max(count, runs[index, 3])
    areas, boxes = boxes_of(runs, runs[:, 3], count)
    euler = euler_numbers(runs, count)
    for label in range(1, count + 1):
        # One piece less its holes.
        if areas[label] > 0 and euler[label] < 1:
            left, top, right, bottom = boxes[label]
            part = labels[top:bottom, left:right]
            outside = outside_of(part, label)
            for y in range(bottom - top):
                for x in range(right - left):
                    if outside[y, x] == 0:
                        part[y, x] = label


@njit(cache=True)
def outside_of(part: Labels, label: int) -> npt.NDArray[np.uint8]:
    """1 at the label's own pixels, and at those that are reached from the border of `part` by steps to the four neighbours over others."""
    height, width = part.shape
    # A frame that counts as reached, so that no step leaves the image.
    reached = np.ones((height + 2) * (width + 2), np.uint8)
    queue = np.empty(height * width, np.int64)
    end = 0
    for y in range(height):
        for x in range(width):
            at = (y + 1) * (width + 2) + x + 1
            if part[y, x] != label:
                is_border = y in (0, height - 1) or x in (0, width - 1)
                reached[at] = is_border
                if is_border:
                    queue[end] = at
                    end += 1
    begin = 0
    while begin < end:
        for step in (-width - 2, -1, 1, width + 2):
            at = queue[begin] + step
            if reached[at] == 0:
                reached[at] = 1
                queue[end] = at
                end += 1
        begin += 1
    return reached.reshape(height + 2, width + 2)[1:-1, 1:-1]


@njit(cache=True)
def first_pixels(labels: Labels, count: int) -> tuple[Ints, Ints]:
    """Of each label 1…count: the flat index of its first pixel in raster order (-1 = absent) and its number of pixels."""
    width = labels.shape[1]
    first = np.full(count + 1, -1, np.int64)
    areas = np.zeros(count + 1, np.int64)
    for y in range(labels.shape[0]):
        for x in range(width):
            label = labels[y, x]
            if label > 0:
                areas[label] += 1
                if first[label] < 0:
                    first[label] = y * width + x
    return first, areas


@njit(cache=True)
def _is(labels: Labels, x: int, y: int, label: int) -> bool:
    return bool(0 <= y < labels.shape[0] and 0 <= x < labels.shape[1] and labels[y, x] == label)


@njit(cache=True)
def _trace(labels: Labels, starts: Ints, points: npt.NDArray[np.int32], offsets: Ints) -> int:
    """Walk around every object with it on the right hand; write a vertex at each turn. Returns the vertices needed.

    Where two pixels touch only by a corner the walk keeps to the pixel it follows: pieces are 4-connected.
    """
    width = labels.shape[1]
    used = 0
    for index in range(len(starts)):
        offsets[index] = used
        if starts[index] < 0:
            continue
        start_x, start_y = starts[index] % width, starts[index] // width
        label = labels[start_y, start_x]
        x, y, dx, dy = start_x, start_y, 1, 0
        begin = used
        while True:
            if used < len(points):
                points[used, 0] = x
                points[used, 1] = y
            used += 1
            while True:
                x += dx
                y += dy
                # The pixels ahead of the corner (x, y), right and left of the direction (dx, dy).
                right = _is(labels, x + (dx - dy - 1) // 2, y + (dy + dx - 1) // 2, label)
                left = _is(labels, x + (dx + dy - 1) // 2, y + (dy - dx - 1) // 2, label)
                if not right:
                    dx, dy = -dy, dx
                    break
                if left:
                    dx, dy = dy, -dx
                    break
            if x == start_x and y == start_y and dx == 1 and dy == 0:
                break
        if used < len(points):
            points[used, 0] = points[begin, 0]
            points[used, 1] = points[begin, 1]
        used += 1
    offsets[len(starts)] = used
    return used


def trace(labels: Labels, count: int) -> Outlines:
    """Outer rings of the labels 1…count, each of them one 4-connected piece; clockwise on the screen, from its first pixel.

    A label without a pixel has a ring without a vertex.
    """
    starts = first_pixels(labels, count)[0][1:]
    offsets = np.zeros(count + 1, np.int64)
    points = np.empty((64 * count + 64, 2), np.int32)
    needed = _trace(labels, starts, points, offsets)
    if needed > len(points):
        points = np.empty((needed, 2), np.int32)
        _trace(labels, starts, points, offsets)
    return Outlines(points[:needed], offsets)


def largest_pieces(labels: Labels, wanted: npt.NDArray[np.bool_] | None = None) -> tuple[Labels, Ints]:
    """One 4-connected piece of each label, numbered from 1, and the labels in the same order (ascending).

    It is the largest one, the first in raster order among equals; where a label has a piece with a pixel of `wanted` (h, w), that one.
    """
    pieces, count = split_pieces(labels)
    first, areas = first_pixels(pieces, count)
    owners = labels.reshape(-1)[first[1:]]
    unwanted = np.ones(count + 1, np.bool_)
    if wanted is not None:
        unwanted[pieces[wanted]] = False
    order = np.lexsort((first[1:], -areas[1:], unwanted[1:], owners))
    kept, at = np.unique(owners[order], return_index=True)
    numbers = np.zeros(count + 1, np.int32)
    numbers[order[at] + 1] = np.arange(1, len(kept) + 1)
    return numbers[pieces], kept.astype(np.int64)


def outlines(labels: Labels) -> tuple[Outlines, Ints]:
    """Outer ring of the largest 4-connected piece of each label, and the labels in the same order (ascending)."""
    pieces, kept = largest_pieces(labels)
    return trace(pieces, len(kept)), kept


def ring_areas(rings: Outlines) -> npt.NDArray[np.float64]:
    """Area enclosed by each ring (shoelace formula), in pixels; 0 for one without a vertex."""
    x, y = rings.points[:, 0].astype(np.int64), rings.points[:, 1].astype(np.int64)
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    total = np.concatenate([[0], np.cumsum(np.append(cross, 0))])
    # The step from one ring's last vertex to the next ring's first is left out.
    last = np.maximum(rings.offsets[1:] - 1, rings.offsets[:-1])
    return np.asarray(np.abs(total[last] - total[rings.offsets[:-1]]) / 2)
