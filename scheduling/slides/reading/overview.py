"""The whole slide at mask resolution, about 8 microns per pixel, read block by block so that no read holds much of the slide.

Whoever looks at a slide as a whole reads these blocks, so that all see the same pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduling.slides.reading.interface import RGB, SlideReader

MASK_MPP = 8.0
_MAX_PIXELS = 25_000_000
#: Enough to see a job move and to share it among workers.
_USUAL_BLOCKS = 64
_MIN_BLOCK_PX = 32
#: Pixels of the level it is read from that a block may have: about half a second of decoding JPEG.
_SOURCE_PIXELS = 8_000_000
#: At the usual downsamples, blocks of a multiple of this end where the file's own tiles end.
_STEP_PX = 16


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How the low-resolution image is cut: square blocks, row by row; one pixel is `downsample` full-resolution pixels wide."""

    width: int
    height: int
    downsample: int
    block_px: int

    @classmethod
    def of(cls, reader: SlideReader, mpp: float) -> Blocks:
        """The blocks of a slide: at most about 64, more where the file has no coarse level to read from."""
        downsample = mask_downsample(reader.width, reader.height, mpp)
        width, height = -(-reader.width // downsample), -(-reader.height // downsample)
        ratio = downsample / reader.levels[reader.best_level(downsample)].downsample
        wanted = max(_USUAL_BLOCKS, width * height * ratio**2 / _SOURCE_PIXELS)
        side = max(_MIN_BLOCK_PX, math.isqrt(math.ceil(width * height / wanted)))
        return cls(width=width, height=height, downsample=downsample, block_px=-(-side // _STEP_PX) * _STEP_PX)

    @property
    def columns(self) -> int:
        return -(-self.width // self.block_px)

    def __len__(self) -> int:
        return self.columns * -(-self.height // self.block_px)

    def place(self, index: int) -> tuple[int, int, int, int]:
        """(left, top, width, height) of block `index` in the low-resolution image."""
        row, column = divmod(index, self.columns)
        left, top = column * self.block_px, row * self.block_px
        return left, top, min(self.block_px, self.width - left), min(self.block_px, self.height - top)

    def read(self, reader: SlideReader, index: int) -> RGB:
        """The pixels of block `index`. Raises UnreadableSlide."""
        left, top, width, height = self.place(index)
        return reader.read_scaled(left * self.downsample, top * self.downsample, width, height, self.downsample)

    def empty(self) -> RGB:
        """A white image, uint8 (height, width, 3), to `put` blocks into."""
        return np.full((self.height, self.width, 3), 255, np.uint8)

    def put(self, overview: RGB, index: int, pixels: RGB) -> None:
        """Lay block `index` into the whole."""
        left, top, width, height = self.place(index)
        overview[top : top + height, left : left + width] = pixels


def mask_downsample(width: int, height: int, mpp: float) -> int:
    """Full-resolution pixels in a mask pixel along a side: about 8 microns, coarser where the mask would pass 25 megapixels."""
    downsample = max(1, round(MASK_MPP / mpp))
    while -(-width // downsample) * -(-height // downsample) > _MAX_PIXELS:
        downsample *= 2
    return downsample


def read_overview(reader: SlideReader, mpp: float) -> RGB:
    """uint8 (h, w, 3): the whole slide at mask resolution. Raises UnreadableSlide."""
    blocks = Blocks.of(reader, mpp)
    overview = blocks.empty()
    for index in range(len(blocks)):
        blocks.put(overview, index, blocks.read(reader, index))
    return overview
