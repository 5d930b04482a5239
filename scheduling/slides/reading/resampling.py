"""Pixels of a size that is no whole number of the slide's, the same to the bit in every window that holds them.

What a model pixel takes from which full-resolution pixels follows from its place on the slide in whole numbers: larger pixels
are the exact mean of the area they cover, smaller ones lie on the straight line between the two pixels next to their centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from numba import njit

RGB = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Taps:
    """What the model pixels begin, …, end - 1 along an axis take: pixel i `weights[i, k] / total` of full-resolution pixel `first[i] + k`."""

    #: int64 (pixels,), ascending.
    first: npt.NDArray[np.int64]
    #: int32 (pixels, taps).
    weights: Ints
    #: Of each row of weights.
    total: int

    @property
    def begin(self) -> int:
        """First full-resolution pixel that is taken from."""
        return int(self.first[0])

    @property
    def end(self) -> int:
        """One beyond the last one."""
        return int(self.first[-1] + self.weights.shape[1])

    @classmethod
    def of(cls, begin: int, end: int, scale: Fraction) -> Taps:
        """Of model pixels that are `scale` full-resolution pixels wide."""
        return _means(begin, end, scale) if scale > 1 else _lines(begin, end, scale)


def _means(begin: int, end: int, scale: Fraction) -> Taps:
    """In units of 1 / denominator: pixel j is [jq, (j + 1)q), model pixel i is [ip, (i + 1)p); the weight is what they share."""
    p, q = scale.numerator, scale.denominator
    low = np.arange(begin, end, dtype=np.int64) * p
    first = low // q
    edges = (first[:, None] + np.arange(-(-p // q) + 2)) * q
    shared = np.minimum(edges[:, 1:], low[:, None] + p) - np.maximum(edges[:, :-1], low[:, None])
    return Taps(first=first, weights=np.maximum(shared, 0).astype(np.int32), total=p)


def _lines(begin: int, end: int, scale: Fraction) -> Taps:
    """The centre of model pixel i lies at ((2i + 1)p - q) / 2q, counted from the centre of pixel 0."""
    p, q = scale.numerator, scale.denominator
    first, beyond = np.divmod((2 * np.arange(begin, end, dtype=np.int64) + 1) * p - q, 2 * q)
    return Taps(first=first, weights=np.column_stack([2 * q - beyond, beyond]).astype(np.int32), total=2 * q)


def resampled(pixels: RGB, columns: Taps, rows: Taps) -> RGB:
    """uint8 (rows, columns, 3) from full-resolution pixels, uint8 (rows.end - rows.begin, columns.end - columns.begin, 3); halves go up."""
    across, down = ((taps.first - taps.begin).astype(np.int32) for taps in (columns, rows))
    return _weighted(np.ascontiguousarray(pixels), across, down, columns.weights, rows.weights, columns.total * rows.total)


@njit(cache=True, nogil=True)
def _weighted(pixels: RGB, columns: Ints, rows: Ints, across: Ints, down: Ints, total: int) -> RGB:
    width = pixels.shape[1] * 3
    flat = pixels.reshape(pixels.shape[0], width)
    out = np.empty((len(rows), len(columns), 3), np.uint8)
    line, half = np.empty(width, np.int32), np.int64(total) // 2
    for y in range(len(rows)):
        line[:] = 0
        for tap in range(down.shape[1]):
            weight = down[y, tap]
            if weight:
                source = flat[rows[y] + tap]
                for at in range(width):
                    line[at] += weight * np.int32(source[at])
        for x in range(len(columns)):
            begin = 3 * columns[x]
            red, green, blue = half, half, half
            for tap in range(across.shape[1]):
                weight = np.int64(across[x, tap])
                red += weight * line[begin + 3 * tap]
                green += weight * line[begin + 3 * tap + 1]
                blue += weight * line[begin + 3 * tap + 2]
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = red // total, green // total, blue // total
    return out
