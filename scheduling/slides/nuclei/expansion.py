"""Whole cells as nuclei grown by a distance: each pixel of tissue goes to the nearest nucleus within reach.

Distances are compared as squares of whole pixels and ties go to the lower label, so that two windows that see the same nuclei
agree on every pixel. A cell depends on nothing further from its nucleus than twice the distance and what `tissue_of` looks around itself.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.contours import Labels, outside_of, split_pieces
from scheduling.slides.nuclei.runs import boxes_of, runs_of
from scheduling.slides.nuclei.stain import OD_STEP, Floats, to_levels

cv2.setNumThreads(1)

Bytes = npt.NDArray[np.uint8]

#: Sum of both stains' densities from which a smoothed pixel is tissue.
_TISSUE_OD = 0.12
_SMOOTH_UM = 1.0
_FAR = np.int32(1 << 14)


def reach_px(expansion_um: float, mpp: float) -> int:
    """How far from a nucleus lie the pixels, and the pixels of other nuclei, that decide on its cell."""
    return 2 * math.ceil(expansion_um / mpp) + (round(6 * _SMOOTH_UM / mpp + 1) | 1) // 2 + 1


def tissue_of(stained: tuple[Floats, Floats], mpp: float) -> Bytes:
    """uint8 (h, w), 1 where there is tissue, smoothed on 8 bits, on which it is exact: cytoplasm is pale and noisy."""
    levels = to_levels(np.asarray(cv2.add(*stained), np.float32))
    smooth = cv2.GaussianBlur(levels, (0, 0), _SMOOTH_UM / mpp)
    return (np.asarray(smooth) > _TISSUE_OD / OD_STEP).astype(np.uint8)


def expanded(nuclei: Labels, count: int, tissue: Bytes, distance_px: float) -> Labels:
    """int32 (h, w): the cells of the nuclei 1…count, each one 4-connected piece without holes around its nucleus.

    A cell that would close around another one keeps to its nucleus.
    """
    cells = _nearest(nuclei, tissue, math.floor(distance_px**2))
    pieces, number = split_pieces(cells)
    cells = _with_nucleus(cells, nuclei, pieces, number)
    _close(cells, nuclei, count)
    return cells


@njit(cache=True)
def _nearest(nuclei: Labels, tissue: Bytes, most: int) -> Labels:
    """The nuclei, and of the other pixels of tissue the nearest nucleus of a squared distance of at most `most`, of equals the lowest label."""
    height, width = nuclei.shape
    steps, found = _nearest_in_columns(nuclei)
    out = nuclei.copy()
    for y in range(height):
        for x in range(width):
            if nuclei[y, x] > 0 or tissue[y, x] == 0:
                continue
            best, label = np.int64(most) + 1, np.int32(0)
            dx = 0
            # An equal distance may still have a lower label.
            while dx * dx <= best and dx * dx <= most:
                for u in (x - dx, x + dx):
                    if 0 <= u < width and found[y, u] > 0:
                        square = dx * dx + np.int64(steps[y, u]) * steps[y, u]
                        if square < best or (square == best and found[y, u] < label):
                            best, label = square, found[y, u]
                dx += 1
            if best <= most:
                out[y, x] = label
    return out


@njit(cache=True)
def _nearest_in_columns(nuclei: Labels) -> tuple[npt.NDArray[np.int32], Labels]:
    """Of each pixel the distance to the nearest label in its column, and that label; of two equally near the lower one, 0 for none."""
    height, width = nuclei.shape
    steps, found = np.full((height, width), _FAR, np.int32), nuclei.copy()
    for y in range(height):
        for x in range(width):
            if nuclei[y, x] > 0:
                steps[y, x] = 0
            elif y > 0 and found[y - 1, x] > 0:
                steps[y, x], found[y, x] = steps[y - 1, x] + 1, found[y - 1, x]
    for y in range(height - 2, -1, -1):
        for x in range(width):
            if found[y + 1, x] > 0:
                step, label = steps[y + 1, x] + 1, found[y + 1, x]
                if step < steps[y, x] or (step == steps[y, x] and label < found[y, x]):
                    steps[y, x], found[y, x] = step, label
    return steps, found


@njit(cache=True)
def _with_nucleus(cells: Labels, nuclei: Labels, pieces: Labels, count: int) -> Labels:
    """Only the pieces of cells that hold their nucleus: tissue between may be missing."""
    keep = np.zeros(count + 1, np.bool_)
    for y in range(cells.shape[0]):
        for x in range(cells.shape[1]):
            if nuclei[y, x] > 0:
                keep[pieces[y, x]] = True
    keep[0] = False
    out = np.zeros_like(cells)
    for y in range(cells.shape[0]):
        for x in range(cells.shape[1]):
            if keep[pieces[y, x]]:
                out[y, x] = cells[y, x]
    return out


@njit(cache=True)
def _close(cells: Labels, nuclei: Labels, count: int) -> None:
    """Fill the holes of each cell in which there is nothing; draw a cell that holds others back to its nucleus. In place."""
    runs = runs_of(cells)
    boxes = boxes_of(runs, runs[:, 3], count)[1]
    before = cells.copy()
    for label in range(1, count + 1):
        left, top, right, bottom = boxes[label]
        if right <= left:
            continue
        part = before[top:bottom, left:right]
        outside = outside_of(part, label)
        has_hole, has_others = False, False
        for y in range(bottom - top):
            for x in range(right - left):
                if part[y, x] != label and outside[y, x] == 0:
                    has_hole = True
                    has_others |= part[y, x] > 0
        if not has_hole:
            continue
        for y in range(bottom - top):
            for x in range(right - left):
                if has_others and part[y, x] == label and nuclei[top + y, left + x] != label:
                    cells[top + y, left + x] = 0
                elif not has_others and part[y, x] == 0 and outside[y, x] == 0:
                    cells[top + y, left + x] = label
