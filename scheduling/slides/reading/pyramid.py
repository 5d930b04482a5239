"""JPEG tiles and thumbnails of a slide, as the viewer asks for them: native levels, no resampling."""

from __future__ import annotations

import cv2
import numpy as np

from scheduling.slides.reading.interface import RGB, SlideReader

TILE_PX = 512
_QUALITY = 85


def tile_jpeg(reader: SlideReader, level: int, column: int, row: int, tile_px: int = TILE_PX) -> bytes:
    """JPEG of one tile of `levels[level]` (0 = full resolution); tiles at the right and lower border are cut at the slide.

    Raises LookupError when there is no such tile, UnreadableSlide.
    """
    if not 0 <= level < len(reader.levels) or column < 0 or row < 0:
        raise LookupError("no such tile")
    place = reader.levels[level]
    width, height = min(tile_px, place.width - column * tile_px), min(tile_px, place.height - row * tile_px)
    if width < 1 or height < 1:
        raise LookupError("no such tile")
    x, y = (round(index * tile_px * place.downsample) for index in (column, row))
    return to_jpeg(reader.read(x, y, width, height, level))


def thumbnail_jpeg(reader: SlideReader, max_px: int = 512) -> bytes:
    """JPEG of the whole slide, its longer side at most `max_px`. Raises UnreadableSlide."""
    return to_jpeg(reader.thumbnail(max_px))


def to_jpeg(rgb: RGB) -> bytes:
    """JPEG, quality 85."""
    return _encoded(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def to_png(image: RGB) -> bytes:
    """PNG of RGB (h, w, 3) or grey (h, w); the same pixels give the same bytes."""
    return _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def from_png(data: bytes) -> RGB:
    """Inverse of to_png. Raises ValueError for anything else."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("not a PNG")
    return np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _encoded(suffix: str, image: RGB, options: list[int]) -> bytes:
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise ValueError(f"the image could not be encoded as {suffix}")
    return bytes(data)
