"""What an open slide is to everything above it: uint8 RGB windows in full-resolution pixels, white outside.

A reader implements `_read`; errors of codecs and parsers become UnreadableSlide here, at one place.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import openslide

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.resolution import PLAUSIBLE_MPP, Resolution

__all__ = ["PLAUSIBLE_MPP", "READ_ERRORS", "RGB", "THUMBNAIL_MOST_PX", "Level", "SlideReader", "over_white"]

RGB = npt.NDArray[np.uint8]

#: What codecs and parsers raise on files that are not what they claim to be.
READ_ERRORS = (
    openslide.OpenSlideError,
    OSError,
    ValueError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    cv2.error,
    SyntaxError,  # Pillow's word for a bad checksum
)
_BAND_PIXELS = 8_000_000
#: Some 4 s of decoding on one core.
THUMBNAIL_MOST_PX = 400_000_000


@dataclass(frozen=True, kw_only=True)
class Level:
    """One resolution of the pyramid; `downsample` is full-resolution pixels for each of its pixels."""

    width: int
    height: int
    downsample: float


class SlideReader(ABC):
    """An open slide. Reading is safe from several threads."""

    #: Size at full resolution.
    width: int
    height: int
    #: Microns per pixel at full resolution; None when the file does not say or says something implausible.
    mpp: float | None
    #: Where that comes from, and what was not believed.
    resolution: Resolution = Resolution()
    levels: tuple[Level, ...]
    format: str
    #: What the owner should know of the file, beside what the resolution says.
    warnings: tuple[str, ...] = ()
    #: Pixels that stay in memory while the slide is open, beyond small caches.
    held_bytes: int = 0
    #: False once a read has failed: OpenSlide answers nothing more after an error.
    is_usable: bool = True

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> RGB:
        """uint8 (height, width, 3): a window of `level`, its top-left corner in full-resolution pixels.

        Outside the slide it is white. Raises UnreadableSlide.
        """
        if width < 1 or height < 1 or not 0 <= level < len(self.levels):
            raise ValueError(f"no such window: {width} x {height} on level {level}")
        try:
            return self._read(x, y, width, height, level)
        except READ_ERRORS as error:
            self.is_usable = False
            raise UnreadableSlide(f"The slide could not be read at x={x}, y={y}, level {level}: {error}") from error

    def thumbnail(self, max_px: int) -> RGB:
        """The whole slide, its longer side at most `max_px`; made in bands, so that it never needs the slide in memory.

        Raises UnreadableSlide, also when the slide has no level small enough to be read for a picture.
        """
        scale = max(self.width, self.height) / max_px
        index = self._affordable(self.best_level(max(1.0, scale)))
        scale = max(scale, self.levels[index].downsample)
        if scale <= 1:
            return self.read(0, 0, self.width, self.height)
        columns, rows = max(1, round(self.width / scale)), max(1, round(self.height / scale))
        return self.read_scaled(0, 0, columns, rows, scale)

    def read_scaled(self, x: int, y: int, width: int, height: int, downsample: float) -> RGB:
        """uint8 (height, width, 3), area-averaged, each pixel `downsample` full-resolution pixels wide; white outside."""
        level = self.best_level(downsample)
        band = max(1, int(_BAND_PIXELS / max(1.0, width * (downsample / self.levels[level].downsample) ** 2)))
        parts = [
            self._read_band(x, y + round(row * downsample), width, min(band, height - row), downsample, level)
            for row in range(0, height, band)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def best_level(self, downsample: float) -> int:
        """Index of the coarsest level that is at least as fine as `downsample` (1 % play)."""
        fits = [index for index, level in enumerate(self.levels) if level.downsample <= downsample * 1.01]
        return max(fits, key=lambda index: self.levels[index].downsample, default=0)

    def _affordable(self, index: int) -> int:
        """The level, or the next coarser one that can be read whole in reasonable time. Raises UnreadableSlide."""
        place = self.levels[index]
        affordable = [i for i in range(index, len(self.levels)) if self.levels[i].width * self.levels[i].height <= THUMBNAIL_MOST_PX]
        if not affordable:
            raise UnreadableSlide(
                f"The slide has no level below {place.width:,} x {place.height:,} pixels: too much to read for a picture of the whole. "
                "Convert it to a tiled pyramid."
            )
        return affordable[0]

    def close(self) -> None:
        """Release the file. Reading afterwards raises UnreadableSlide."""
        self.is_usable = False

    @abstractmethod
    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB: ...

    def _read_band(self, x: int, y: int, width: int, height: int, downsample: float, level: int) -> RGB:
        ratio = downsample / self.levels[level].downsample
        source = self.read(x, y, max(1, round(width * ratio)), max(1, round(height * ratio)), level)
        if source.shape[:2] == (height, width):
            return source
        return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def over_white(rgba: npt.NDArray[np.uint8]) -> RGB:
    """RGB of straight-alpha RGBA laid over white: transparent padding is glass, not ink."""
    rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
    alpha = rgba[:, :, 3]
    if alpha.min() == 255:
        return rgb
    weight = alpha[:, :, None].astype(np.uint16)
    return ((rgb * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
