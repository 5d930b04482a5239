"""How a slide is cut into tiles so that every object belongs to exactly one of them.

One global grid of half-open square cores partitions the plane; a tile reads its core and a halo around it. An object is
emitted by the tile whose core holds its centroid, decided on integer sums, so that neighbours who see the same pixels
agree to the bit. Model pixels are `downsample` full-resolution pixels wide, which need be no whole number.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.resampling import Taps, resampled
from scheduling.slides.reading.scale import Scale

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: Brightest colour of padding: JPEG does not keep it quite black.
_PADDING = (9, 9, 9)
#: Model pixels around its core in which a tile emits objects too, as its neighbour may see them a little elsewhere.
GUARD_PX = 8
#: How deep a centroid on an edge lies in the core that does not own it.
_ON_THE_EDGE_PX = 1e-6


@dataclass(frozen=True, kw_only=True)
class Box:
    """Half-open rectangle in model pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def dilated(self, margin: int) -> Box:
        """The same with `margin` pixels more on each side."""
        return Box(left=self.left - margin, top=self.top - margin, right=self.right + margin, bottom=self.bottom + margin)

    def clipped(self, width: int, height: int) -> Box:
        """What of it lies on a slide of this size."""
        return Box(left=max(0, self.left), top=max(0, self.top), right=min(width, self.right), bottom=min(height, self.bottom))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cores that cover a slide of `width` x `height` model pixels.

    `offset_x`, `offset_y` in [0, core_px) move the whole grid left and up; the result must not depend on them.
    """

    width: int
    height: int
    core_px: int
    halo_px: int
    offset_x: int = 0
    offset_y: int = 0

    @classmethod
    def for_slide(cls, width: int, height: int, downsample: Scale, core_px: int, halo_px: int, offset: tuple[int, int] = (0, 0)) -> Grid:
        """The grid of a slide of `width` x `height` full-resolution pixels."""
        return cls(
            width=int(-(-width // downsample)),
            height=int(-(-height // downsample)),
            core_px=core_px,
            halo_px=halo_px,
            offset_x=offset[0],
            offset_y=offset[1],
        )

    @property
    def columns(self) -> int:
        return -(-(self.width + self.offset_x) // self.core_px)

    @property
    def rows(self) -> int:
        return -(-(self.height + self.offset_y) // self.core_px)

    @property
    def window_px(self) -> int:
        """Side of every window."""
        return self.core_px + 2 * self.halo_px

    def __len__(self) -> int:
        return self.columns * self.rows

    def core(self, index: int) -> Box:
        """Core number `index`, row by row; it may reach beyond the slide. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, self.columns)
        left, top = column * self.core_px - self.offset_x, row * self.core_px - self.offset_y
        return Box(left=left, top=top, right=left + self.core_px, bottom=top + self.core_px)

    def window(self, index: int) -> Box:
        """The core and its halo: the same size for every tile."""
        core, halo = self.core(index), self.halo_px
        return Box(left=core.left - halo, top=core.top - halo, right=core.right + halo, bottom=core.bottom + halo)

    def meeting(self, mask: npt.NDArray[np.uint8], mask_downsample: float | Fraction) -> list[int]:
        """Indices of the cores that hold at least one pixel of `mask`, whose pixels are `mask_downsample` model pixels wide."""
        return [index for index in range(len(self)) if _meets(self.core(index), mask, mask_downsample)]


def cores_meeting(grid: Grid, box: Box) -> list[int]:
    """Numbers of the cores of `grid` that share a pixel with `box`, in order."""
    left, top = (max(0, edge // grid.core_px) for edge in (box.left + grid.offset_x, box.top + grid.offset_y))
    right = min(grid.columns, -(-(box.right + grid.offset_x) // grid.core_px))
    bottom = min(grid.rows, -(-(box.bottom + grid.offset_y) // grid.core_px))
    return [row * grid.columns + column for row in range(top, bottom) for column in range(left, right)]


def _meets(core: Box, mask: npt.NDArray[np.uint8], downsample: float | Fraction) -> bool:
    left, top = (max(0, int(edge // downsample)) for edge in (core.left, core.top))
    right, bottom = (max(0, int(-(-edge // downsample))) for edge in (core.right, core.bottom))
    return bool(mask[top:bottom, left:right].any())


def read_window(reader: SlideReader, box: Box, downsample: Scale) -> RGB:
    """uint8 (box.height, box.width, 3) at model resolution: the exact area mean of full-resolution pixels; white outside.

    Where model pixels are smaller than the slide's, they are interpolated. Raises UnreadableSlide.
    """
    if isinstance(downsample, Fraction):
        columns, rows = Taps.of(box.left, box.right, downsample), Taps.of(box.top, box.bottom, downsample)
        needed = Box(left=columns.begin, top=rows.begin, right=columns.end, bottom=rows.end)
        return resampled(_without_padding(reader, needed), columns, rows)
    left, top, right, bottom = (edge * downsample for edge in (box.left, box.top, box.right, box.bottom))
    pixels = _without_padding(reader, Box(left=left, top=top, right=right, bottom=bottom))
    if downsample == 1:
        return pixels
    return np.asarray(cv2.resize(pixels, (box.width, box.height), interpolation=cv2.INTER_AREA), np.uint8)


def _without_padding(reader: SlideReader, box: Box) -> RGB:
    """Full-resolution pixels. Black, with which some scanners pad what they did not scan, is white too: it is no stain."""
    pixels = reader.read(box.left, box.top, box.width, box.height).copy()
    pixels[cv2.inRange(pixels, (0, 0, 0), _PADDING) > 0] = 255
    return pixels


def owned(core: Box, areas: Ints, sum_x: Ints, sum_y: Ints) -> Bools:
    """Whether the centroid of each object lies in `core`; exact.

    `sum_x` and `sum_y` are the sums over its pixels of their global model coordinates; the centre of pixel x is x + 1/2.
    """
    twice_x, twice_y = 2 * sum_x + areas, 2 * sum_y + areas
    return np.asarray(
        (twice_x >= 2 * areas * core.left)
        & (twice_x < 2 * areas * core.right)
        & (twice_y >= 2 * areas * core.top)
        & (twice_y < 2 * areas * core.bottom)
    )


def depths_px(core: Box, areas: Ints, sum_x: Ints, sum_y: Ints) -> npt.NDArray[np.float64]:
    """Distance of each centroid to the nearest edge line of its `core`, 0 or more where `owned` says so and negative elsewhere."""
    x, y = sum_x / areas + 0.5, sum_y / areas + 0.5
    depth = np.minimum(np.minimum(x - core.left, core.right - x), np.minimum(y - core.top, core.bottom - y))
    # On an edge the half-open cores decide, not the rounded distance.
    return np.where(owned(core, areas, sum_x, sum_y), np.maximum(depth, 0), np.minimum(depth, -_ON_THE_EDGE_PX))


def cut_labels(labels: npt.NDArray[np.int32], window: Box, width: int, height: int) -> Ints:
    """Labels that touch an edge of the window which lies inside the slide (`width` x `height`): they may go on beyond it."""
    edges = [
        labels[0] if window.top > 0 else labels[:0, 0],
        labels[-1] if window.bottom < height else labels[:0, 0],
        labels[:, 0] if window.left > 0 else labels[:0, 0],
        labels[:, -1] if window.right < width else labels[:0, 0],
    ]
    found = np.unique(np.concatenate(edges)).astype(np.int64)
    return found[found > 0]
