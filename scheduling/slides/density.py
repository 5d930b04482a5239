"""How many cells lie where: counts on a grid of small bins, cheap to keep with every tile and to add up over a slide.

Each core is cut into `side` x `side` bins. The counts of all tiles together are one mosaic, from which any window of any
level is taken by area: what a pixel covers of a bin, it gets of its cells, so that no cell is lost or counted twice.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduling.slides.tiling import Box

Counts = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]
#: Full-resolution pixels of a bin, about.
BIN_PX = 32
_MOST_BINS = 64
_HEAD = struct.Struct("<4sBBHii")
_MAGIC = b"DEN1"


def bins_a_side(core_px: int) -> int:
    """Bins along a side of a core of `core_px` full-resolution pixels."""
    return max(1, min(_MOST_BINS, round(core_px / BIN_PX)))


def bin_px(core_px: int) -> float:
    """Full-resolution pixels along a side of a bin."""
    return core_px / bins_a_side(core_px)


def counted(x: Floats, y: Floats, classes: npt.NDArray[np.uint8], core: Box) -> Counts:
    """uint16 (classes, side, side): centroids in full-resolution pixels by class and bin; one outside its core is put to the edge."""
    side = bins_a_side(core.width)
    column, row = (
        np.clip(np.floor((place - begin) * side / core.width).astype(np.int64), 0, side - 1)
        for place, begin in ((x, core.left), (y, core.top))
    )
    planes = int(classes.max(initial=0)) + 1
    flat = np.bincount((classes.astype(np.int64) * side + row) * side + column, minlength=planes * side * side)
    return flat.astype(np.uint16).reshape(planes, side, side)


def to_bytes(counts: Counts, core: Box) -> bytes:
    """Compressed; the same counts give the same bytes."""
    head = _HEAD.pack(_MAGIC, counts.shape[0] - 1, counts.shape[1], 0, core.left, core.top)
    return head + zlib.compress(counts.astype("<u2").tobytes(), 6)


def from_bytes(data: bytes, core: Box) -> Counts:
    """Inverse of to_bytes. Raises ValueError when they are damaged or not of this core."""
    try:
        magic, planes, side, _, left, top = _HEAD.unpack_from(data)
        if (magic, left, top, side) != (_MAGIC, core.left, core.top, bins_a_side(core.width)):
            raise ValueError("counts of another core")
        return np.frombuffer(zlib.decompress(data[_HEAD.size :]), "<u2").reshape(planes + 1, side, side)
    except (struct.error, zlib.error) as error:
        raise ValueError(f"damaged counts: {error}") from error


@dataclass(kw_only=True)
class Mosaic:
    """The counts of many cores of one grid, side by side; cores that are not there count nothing."""

    #: Full-resolution pixels: place of the first core, size of each.
    left: int
    top: int
    core_px: int
    columns: int
    rows: int

    def __post_init__(self) -> None:
        self.side = bins_a_side(self.core_px)
        self.counts: Counts = np.zeros((1, self.rows * self.side, self.columns * self.side), np.uint16)

    def put(self, core: int, counts: Counts) -> None:
        """Set the counts of core number `core`."""
        if len(counts) > len(self.counts):
            more = np.zeros((len(counts) - len(self.counts), *self.counts.shape[1:]), np.uint16)
            self.counts = np.concatenate([self.counts, more])
        row, column = divmod(core, self.columns)
        rows, columns = (slice(place * self.side, (place + 1) * self.side) for place in (row, column))
        self.counts[: len(counts), rows, columns] = counts

    def window(self, x_px: Floats, y_px: Floats) -> npt.NDArray[np.float32]:
        """float32 (classes, rows, columns): cells between the edges given, ascending, in full-resolution pixels."""
        size = bin_px(self.core_px)
        x, y = (x_px - self.left) / size, (y_px - self.top) / size
        return np.stack([_by_area(_by_area(plane, y, 0), x, 1) for plane in self.counts]).astype(np.float32)


def _by_area(counts: npt.NDArray[np.generic], edges: Floats, axis: int) -> Floats:
    """Sums of `counts` along an axis between edges in units of its bins, bins that an edge cuts divided by area."""
    length = counts.shape[axis]
    edges = np.clip(edges, 0, length)
    block = 1 << max(0, int(np.diff(edges).max(initial=1)).bit_length() - 1)
    begin, end = int(edges[0]) // block * block, min(length, -(-int(np.ceil(edges[-1])) // block) * block)
    if end <= begin:
        return np.zeros([len(edges) - 1 if at == axis else size for at, size in enumerate(counts.shape)])
    part = counts[begin:end] if axis == 0 else counts[:, begin:end]
    wide = np.add.reduceat(part, np.arange(0, end - begin, block), axis=axis, dtype=np.float64)
    total = np.concatenate([np.zeros_like(wide.take([0], axis)), np.cumsum(wide, axis)], axis)
    place = (edges - begin) / block
    whole = np.minimum(place.astype(np.int64), wide.shape[axis] - 1)
    part_of = (place - whole)[:, None] if axis == 0 else place - whole
    return np.asarray(np.diff(total.take(whole, axis) + part_of * wide.take(whole, axis), axis=axis))
