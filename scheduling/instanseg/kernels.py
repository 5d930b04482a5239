"""The loops of the fast post-processing, compiled by numba; plain arrays, no torch.

Each does what a step of InstanSeg's own forward says, pixel for pixel and tie for tie: seeds are the peaks of the seed map, an
object grows from its seed over the pixels that the classifier gives it, overlapping objects are joined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.contours import Ints, Labels
from scheduling.slides.nuclei.stain import Floats

Bytes = npt.NDArray[np.uint8]

#: How far around an object its surroundings are taken for outside when holes are sought, in pixels.
_NEAR_PX = 3
#: Rounds after which joining stops, converged or not.
_ROUNDS = 100


@njit(cache=True, nogil=True)
def peaks(seed_map: Floats, distance: int, threshold: float) -> Ints:
    """int64 (n, 2): rows and columns of the pixels above the threshold that no other within `distance` equals or tops, in raster order.

    Among equals the first one in raster order counts.
    """
    height, width = seed_map.shape
    level = np.float32(threshold)
    found = np.empty((height * width, 2), np.int64)
    count = 0
    for y in range(height):
        for x in range(width):
            if seed_map[y, x] > level and _is_peak(seed_map, y, x, distance):
                found[count, 0], found[count, 1] = y, x
                count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True)
def _is_peak(seed_map: Floats, y: int, x: int, distance: int) -> bool:
    value = seed_map[y, x]
    height, width = seed_map.shape
    for v in range(max(0, y - distance), min(height, y + distance + 1)):
        for u in range(max(0, x - distance), min(width, x + distance + 1)):
            other = seed_map[v, u]
            if other > value or other != other:
                return False
            if other == value and (v < y or (v == y and u < x)):
                return False
    return True


@njit(cache=True, nogil=True)
def grown(
    probability: Floats, inner: Ints, outer: Ints, seeds: Ints, outer_px: int, width: int, threshold: float
) -> tuple[npt.NDArray[np.int32], Floats, Ints]:
    """The objects around some seeds: flat pixels of the window, their probabilities, and how many of them each object has (-1 = look wider).

    `probability` is (n, s, s): the classifier's answer on the square with corner `inner` (n, 2) around each of `seeds` (n, 2). An object
    is bounded by the larger square with corner `outer` (n, 2) and side `outer_px`; if it touches the rim of the smaller one
    inside the larger one, it may go on beyond, and is not counted.
    """
    number, side = probability.shape[0], probability.shape[1]
    level = np.float32(threshold)
    pixels = np.empty(number * outer_px * outer_px, np.int32)
    values = np.empty(number * outer_px * outer_px, np.float32)
    lengths = np.zeros(number, np.int64)
    inside = np.zeros((outer_px, outer_px), np.uint8)
    queue = np.empty(outer_px * outer_px, np.int32)
    used = 0
    for index in range(number):
        down, across = inner[index, 0] - outer[index, 0], inner[index, 1] - outer[index, 1]
        row, column = seeds[index, 0] - outer[index, 0], seeds[index, 1] - outer[index, 1]
        inside[:] = 0
        count = _flood(probability[index], level, down, across, row, column, inside, queue)
        if count > 0 and _is_cut(queue[:count], down, across, side, outer_px):
            lengths[index] = -1
            continue
        for at in range(count):
            y, x = queue[at] // outer_px, queue[at] % outer_px
            pixels[used] = (outer[index, 0] + y) * width + outer[index, 1] + x
            values[used] = probability[index, y - down, x - across]
            used += 1
        holes = _holes(inside, queue, count)
        for at in range(holes):
            y, x = queue[at] // outer_px, queue[at] % outer_px
            pixels[used] = (outer[index, 0] + y) * width + outer[index, 1] + x
            values[used] = level
            used += 1
        lengths[index] = count + holes
    return pixels[:used].copy(), values[:used].copy(), lengths


@njit(cache=True, nogil=True)
def _flood(
    probability: Floats, level: np.float32, down: int, across: int, row: int, column: int, inside: Bytes, queue: npt.NDArray[np.int32]
) -> int:
    """Mark in `inside`, and list in `queue`, what hangs together with the seed by its eight neighbours, as many steps as the square is wide.

    The first step is taken from the seed whether it is part of the object or not.
    """
    outer, side = inside.shape[0], probability.shape[0]
    begin, end = 0, 0
    for v in range(max(down, row - 1), min(down + side, row + 2)):
        for u in range(max(across, column - 1), min(across + side, column + 2)):
            if probability[v - down, u - across] >= level:
                inside[v, u] = 1
                queue[end] = v * outer + u
                end += 1
    for _ in range(outer - 1):
        last = end
        for at in range(begin, last):
            y, x = queue[at] // outer, queue[at] % outer
            for v in range(max(down, y - 1), min(down + side, y + 2)):
                for u in range(max(across, x - 1), min(across + side, x + 2)):
                    if inside[v, u] == 0 and probability[v - down, u - across] >= level:
                        inside[v, u] = 1
                        queue[end] = v * outer + u
                        end += 1
        if last == end:
            break
        begin = last
    return end


@njit(cache=True, nogil=True)
def _is_cut(listed: npt.NDArray[np.int32], down: int, across: int, side: int, outer: int) -> bool:
    """Whether one of the pixels lies on an edge of the smaller square that is not an edge of the larger one."""
    for at in range(len(listed)):
        y, x = listed[at] // outer, listed[at] % outer
        if (y == down and down > 0) or (y == down + side - 1 and down + side < outer):
            return True
        if (x == across and across > 0) or (x == across + side - 1 and across + side < outer):
            return True
    return False


@njit(cache=True, nogil=True)
def _holes(inside: Bytes, queue: npt.NDArray[np.int32], count: int) -> int:
    """List in `queue` the pixels outside an object that cannot be reached from further than 3 pixels from it; how many. Uses `inside` up.

    Only the box around the object and 4 pixels more need be looked at: all beyond is far, and the rim of that box too.
    """
    outer = inside.shape[0]
    if count == 0:
        return 0
    top, bottom, left, right = outer, 0, outer, 0
    for at in range(count):
        y, x = queue[at] // outer, queue[at] % outer
        top, bottom, left, right = min(top, y), max(bottom, y), min(left, x), max(right, x)
    _mark_near(inside, queue[:count])
    top, bottom = max(0, top - _NEAR_PX - 1), min(outer, bottom + _NEAR_PX + 2)
    left, right = max(0, left - _NEAR_PX - 1), min(outer, right + _NEAR_PX + 2)
    end = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if inside[y, x] == 0:
                queue[end] = y * outer + x
                end += 1
    _reach(inside, queue, end, top, bottom, left, right)
    found = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if inside[y, x] == 2:
                queue[found] = y * outer + x
                found += 1
    return found


@njit(cache=True, nogil=True)
def _mark_near(inside: Bytes, listed: npt.NDArray[np.int32]) -> None:
    """Mark with 2 what is not in the object but within 3 pixels of it, along rows, columns and diagonals."""
    outer = inside.shape[0]
    for at in range(len(listed)):
        y, x = listed[at] // outer, listed[at] % outer
        for v in range(max(0, y - _NEAR_PX), min(outer, y + _NEAR_PX + 1)):
            for u in range(max(0, x - _NEAR_PX), min(outer, x + _NEAR_PX + 1)):
                if inside[v, u] == 0:
                    inside[v, u] = 2


@njit(cache=True, nogil=True)
def _reach(inside: Bytes, queue: npt.NDArray[np.int32], end: int, top: int, bottom: int, left: int, right: int) -> None:
    """Turn 2 into 0 wherever it can be reached from what is listed in `queue`, as many steps as the square is wide."""
    outer = inside.shape[0]
    begin = 0
    for _ in range(outer):
        last = end
        for at in range(begin, last):
            y, x = queue[at] // outer, queue[at] % outer
            for v in range(max(top, y - 1), min(bottom, y + 2)):
                for u in range(max(left, x - 1), min(right, x + 2)):
                    if inside[v, u] == 2:
                        inside[v, u] = 0
                        queue[end] = v * outer + u
                        end += 1
        if last == end:
            return
        begin = last


@njit(cache=True, nogil=True)
def painted(
    pixels: npt.NDArray[np.int32], values: Floats, starts: Ints, lengths: Ints, numbers: npt.NDArray[np.int32], height: int, width: int
) -> Labels:
    """int32 (height, width): each pixel to the object with the highest probability there, the first among equals, by its entry in `numbers`."""
    best = np.full(height * width, -1, np.float32)
    labels = np.zeros(height * width, np.int32)
    for index in range(len(starts)):
        for at in range(starts[index], starts[index] + lengths[index]):
            pixel = pixels[at]
            if values[at] > best[pixel]:
                best[pixel] = values[at]
                labels[pixel] = numbers[index]
    return labels.reshape(height, width)


@njit(cache=True, nogil=True)
def joined(pixels: npt.NDArray[np.int32], starts: Ints, lengths: Ints, size: int, threshold: float) -> npt.NDArray[np.int32]:
    """int32 (objects,): the lowest number (from 1) among the objects that hang together by an IoU above the threshold.

    `size` is the number of pixels of the window.
    """
    first, owners = _owners(pixels, starts, lengths, size)
    pairs = _overlapping(pixels, starts, lengths, first, owners, np.float32(threshold))
    numbers = np.arange(1, len(starts) + 1).astype(np.int32)
    for _ in range(_ROUNDS):
        before = numbers.copy()
        for at in range(len(pairs)):
            a, b = pairs[at, 0], pairs[at, 1]
            numbers[a] = min(numbers[a], before[b])
            numbers[b] = min(numbers[b], before[a])
        if (numbers == before).all():
            break
    return numbers


@njit(cache=True, nogil=True)
def _owners(pixels: npt.NDArray[np.int32], starts: Ints, lengths: Ints, size: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The objects on each pixel p of the window, in order: owners[first[p]:first[p + 1]]."""
    first = np.zeros(size + 2, np.int32)
    for at in range(len(pixels)):
        first[pixels[at] + 2] += 1
    for pixel in range(2, size + 2):
        first[pixel] += first[pixel - 1]
    owners = np.empty(len(pixels), np.int32)
    for index in range(len(starts)):
        for at in range(starts[index], starts[index] + lengths[index]):
            owners[first[pixels[at] + 1]] = index
            first[pixels[at] + 1] += 1
    return first[: size + 1], owners


@njit(cache=True, nogil=True)
def _overlapping(
    pixels: npt.NDArray[np.int32],
    starts: Ints,
    lengths: Ints,
    first: npt.NDArray[np.int32],
    owners: npt.NDArray[np.int32],
    threshold: np.float32,
) -> npt.NDArray[np.int32]:
    """int32 (m, 2): pairs of objects whose intersection over union is above the threshold."""
    shared = np.zeros(len(starts), np.int32)
    touched = np.empty(len(starts), np.int32)
    pairs = np.empty((4 * len(starts) + 16, 2), np.int32)
    found = 0
    for index in range(len(starts)):
        count = 0
        for at in range(starts[index], starts[index] + lengths[index]):
            pixel = pixels[at]
            for place in range(first[pixel], first[pixel + 1]):
                other = owners[place]
                if other > index:
                    if shared[other] == 0:
                        touched[count] = other
                        count += 1
                    shared[other] += 1
        for at in range(count):
            other = touched[at]
            union = lengths[index] + lengths[other] - shared[other]
            if np.float32(shared[other]) / np.float32(union) > threshold:
                if found == len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                pairs[found, 0], pairs[found, 1] = index, other
                found += 1
            shared[other] = 0
    return pairs[:found]
