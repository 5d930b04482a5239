"""PNG and JPEG: decoded once, whole, into memory, with smaller levels made from them. Bounded, since every process holds it.

Pixels are as stored: an EXIF orientation is told, not applied, so that coordinates agree with programs that show the file as it is.
Colour profiles are not applied, as for every other format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.interface import READ_ERRORS, RGB, Level, SlideReader
from scheduling.slides.reading.resolution import Resolution, Statement, resolution
from scheduling.slides.reading.samples import Alpha, Meaning, significant_bits

#: 300 MB in memory.
MOST_PX = 100_000_000
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_ORIENTATION = 0x0112
#: Each level is this much smaller than the one above, until the longer side is small enough.
_STEP = 4
_SMALLEST_PX = 1024
#: Where a PNG states the bits of a sample.
_DEPTH_BYTE = 24
_BAND_ROWS = 512


def looks_like_picture(path: Path) -> bool:
    """Whether the first bytes are those of a PNG or JPEG."""
    with path.open("rb") as file:
        return file.read(len(_PNG)).startswith((_PNG, _JPEG))


class PictureReader(SlideReader):
    """A picture as a slide: its pixels are level 0; area means over 4, 16, … are the others."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(_DEPTH_BYTE + 1)
            file.seek(0)
            is_png = head.startswith(_PNG)
            # The plugins themselves, not Image.open: no other format is tried, and the bound is ours.
            image = PngImagePlugin.PngImageFile(file) if is_png else JpegImagePlugin.JpegImageFile(file)
            _check_size(*image.size)
            pixels = _pixels(image, path if is_png and head[_DEPTH_BYTE] == 16 else None)
            self.resolution = _resolution(image, "png.pHYs" if is_png else "jpeg.density")
            self.warnings = _orientation(image)
        self.mpp = self.resolution.mpp
        self.format = "png" if is_png else "jpeg"
        self.height, self.width = pixels.shape[:2]
        self._pixels = [pixels, *_reduced(pixels)]
        self.levels = tuple(
            Level(width=p.shape[1], height=p.shape[0], downsample=(self.width / p.shape[1] + self.height / p.shape[0]) / 2)
            for p in self._pixels
        )
        self.held_bytes = sum(p.nbytes for p in self._pixels)

    def close(self) -> None:
        super().close()
        self._pixels = []

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        if not self._pixels:
            raise ValueError("the slide is closed")
        whole, downsample = self._pixels[level], self.levels[level].downsample
        left, top = round(x / downsample), round(y / downsample)
        right, bottom = min(left + width, whole.shape[1]), min(top + height, whole.shape[0])
        out = np.full((height, width, 3), 255, np.uint8)
        if right > max(0, left) and bottom > max(0, top):
            out[max(0, -top) : bottom - top, max(0, -left) : right - left] = whole[max(0, top) : bottom, max(0, left) : right]
        return out


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PX:
        raise UnreadableSlide(
            f"The picture has {width:,} x {height:,} pixels; PNG and JPEG are read up to {MOST_PX:,}. Convert it to a tiled pyramid (TIFF)."
        )


def _pixels(image: Image.Image, deep: Path | None) -> RGB:
    """uint8 (h, w, 3); `deep` is the file of a PNG of 16 bits, of which Pillow would take the upper 8.

    Converted a band of rows at a time, so that the picture is in memory twice and not four times.
    """
    if deep is not None:
        return _of_16_bits(imagecodecs.png_decode(deep.read_bytes()))
    image.load()
    has_alpha = image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info
    meaning = Meaning(colours=3, alpha="straight" if has_alpha else "none")
    out = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(image.height, top + _BAND_ROWS)))
        out[top : top + _BAND_ROWS] = meaning.rgb(np.asarray(band.convert("RGBA" if has_alpha else "RGB")))
    return out


def _of_16_bits(samples: Any) -> RGB:
    """The rule for 16 bits, over the whole picture."""
    deep = samples[:, :, None] if samples.ndim == 2 else samples
    colours = 1 if deep.shape[2] < 3 else 3
    alpha: Alpha = "straight" if deep.shape[2] > colours else "none"
    meaning = Meaning(colours=colours, alpha=alpha, bits=significant_bits([deep], colours))
    out = np.empty((*deep.shape[:2], 3), np.uint8)
    for top in range(0, len(deep), _BAND_ROWS):
        out[top : top + _BAND_ROWS] = meaning.rgb(deep[top : top + _BAND_ROWS])
    return out


def _reduced(pixels: RGB) -> list[RGB]:
    made: list[RGB] = []
    while max(pixels.shape[:2]) > _SMALLEST_PX:
        size = (-(-pixels.shape[1] // _STEP), -(-pixels.shape[0] // _STEP))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        made.append(pixels)
    return made


def _resolution(image: Image.Image, source: str) -> Resolution:
    """By pHYs of a PNG, the density of a JPEG: nearly always a printer's or a screen's, and then not plausible for a slide."""
    density = image.info.get("dpi")
    if not density:
        return Resolution()
    x, y = (25_400 / float(value) if value else None for value in density)
    return resolution([Statement(source=source, x=x, y=y)])


def _orientation(image: Image.Image) -> tuple[str, ...]:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except READ_ERRORS:  # what is damaged there is no part of the picture
        return ()
    if orientation == 1:
        return ()
    return (f"The file asks to be shown turned (EXIF orientation {orientation}); it is read as stored, and so are all coordinates.",)
