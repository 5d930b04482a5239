"""How many cells lie where: counts on a grid of small bins, cheap to keep with every tile and to add up over a slide.

Each core is cut into `side` x `side` bins. The counts of all tiles together are one mosaic, from which any window of any
level is taken by area: what a pixel covers of a bin, it gets of its cells, so that no cell is lost or counted twice.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.tiling import Box

Counts = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]
#: Side of a bin, about: a nucleus. Ten thousand megapixels at 0.25 microns a pixel are ten million bins.
_BIN_UM = 8.0
#: On coarse slides bins have at least so many full-resolution pixels, so that a mosaic stays a small part of its slide.
_LEAST_PX = 16
_HEAD = struct.Struct("<4sBBHii")
_MAGIC = b"DEN1"


def bins_a_side(core_px: float, mpp: float) -> int:
    """Bins along a side of a core of `core_px` full-resolution pixels."""
    return max(1, min(255, int(core_px // _LEAST_PX), round(core_px * mpp / _BIN_UM)))


def counted(x: Floats, y: Floats, classes: npt.NDArray[np.uint8], core: Box, side: int) -> Counts:
    """uint16 (classes, side, side): centroids in full-resolution pixels by class and bin; one outside its core is put to the edge."""
    column, row = (
        np.clip(np.floor((place - begin) * side / core.width).astype(np.int64), 0, side - 1)
        for place, begin in ((x, core.left), (y, core.top))
    )
    planes = int(classes.max(initial=0)) + 1
    flat = np.bincount((classes.astype(np.int64) * side + row) * side + column, minlength=planes * side * side)
    return flat.astype(np.uint16).reshape(planes, side, side)


def to_bytes(counts: Counts, corner: tuple[int, int]) -> bytes:
    """Compressed, with the upper left corner of the core; the same counts give the same bytes."""
    head = _HEAD.pack(_MAGIC, counts.shape[0] - 1, counts.shape[1], 0, *corner)
    return head + zlib.compress(counts.astype("<u2").tobytes(), 6)


def from_bytes(data: bytes, corner: tuple[int, int], side: int) -> Counts:
    """Inverse of to_bytes. Raises ValueError when they are damaged, not of this core, or of other bins."""
    try:
        magic, planes, bins, _, left, top = _HEAD.unpack_from(data)
        if (magic, (left, top), bins) != (_MAGIC, corner, side):
            raise ValueError("counts of another core")
        return np.frombuffer(zlib.decompress(data[_HEAD.size :]), "<u2").reshape(planes + 1, side, side)
    except (struct.error, zlib.error) as error:
        raise ValueError(f"damaged counts: {error}") from error


class Mosaic:
    """The counts of many cores of one grid, side by side; cores that are not there count nothing."""

    def __init__(self, *, left: float, top: float, core_px: float, columns: int, rows: int, side: int) -> None:
        """`left`, `top` of core 0 and `core_px` in full-resolution pixels; `side` bins along each side of a core."""
        self.counts: Counts = np.zeros((1, rows * side, columns * side), np.uint16)
        self._corner, self._core_px, self._columns, self._side = (left, top), core_px, columns, side

    def put(self, core: int, counts: Counts) -> None:
        """Set the counts of core number `core`."""
        if len(counts) > len(self.counts):
            more = np.zeros((len(counts) - len(self.counts), *self.counts.shape[1:]), np.uint16)
            self.counts = np.concatenate([self.counts, more])
        row, column = divmod(core, self._columns)
        rows, columns = (slice(place * self._side, (place + 1) * self._side) for place in (row, column))
        self.counts[: len(counts), rows, columns] = counts

    def window(self, x_px: Floats, y_px: Floats) -> npt.NDArray[np.float32]:
        """float32 (classes, rows, columns): cells between the edges given, ascending, in full-resolution pixels."""
        x, y = (
            np.clip((edges - begin) * self._side / self._core_px, 0, size)
            for edges, begin, size in zip((x_px, y_px), self._corner, self.counts.shape[:0:-1], strict=True)
        )
        (left, right), (top, bottom) = (_blocks(edges) for edges in (x, y))
        parts = self.counts[:, top:bottom, left:right]
        return np.stack([_by_area(_by_area(part, y - top).T, x - left).T for part in parts]).astype(np.float32)


def _block(edges: Floats) -> int:
    """Bins that are added up whole before any is divided: the power of two below what lies between two edges."""
    return 1 << max(0, int(np.diff(edges).max(initial=1)).bit_length() - 1)


def _blocks(edges: Floats) -> tuple[int, int]:
    """The bins that the edges enclose, from the border of a block on, wherever the edges are."""
    begin, block = int(edges[0]), _block(edges)
    return begin // block * block, -(-int(np.ceil(edges[-1])) // block) * block


def _by_area(counts: npt.NDArray[Any], edges: Floats) -> Floats:
    """Sums over the rows of `counts` between edges in units of its bins; bins that an edge cuts are divided by area."""
    if not counts.size:
        return np.zeros((len(edges) - 1, counts.shape[1]))
    block = _block(edges)
    # The kind of the counts is wide enough for what a slide holds only once they are added up.
    kind = np.float64 if counts.dtype == np.float64 else np.uint32
    wide = np.add.reduceat(counts, np.arange(0, len(counts), block), axis=0, dtype=kind) if block > 1 else counts
    total = np.concatenate([np.zeros((1, wide.shape[1])), np.cumsum(wide, axis=0, dtype=np.float64)])
    place = edges / block
    whole = np.minimum(place.astype(np.int64), len(wide) - 1)
    return np.asarray(np.diff(total[whole] + (place - whole)[:, None] * wide[whole], axis=0))
