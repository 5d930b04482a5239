"""TIFFs of no scanner, read segment by segment: tiled or in strips, OME, pyramidal or not."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from scheduling.slides.reading.interface import RGB, Level, SlideReader
from scheduling.slides.reading.resolution import resolution
from scheduling.slides.reading.samples import Meaning, significant_bits
from scheduling.slides.reading.tiff_layout import LevelLayout, check_segments, layout_of
from scheduling.slides.reading.tiff_meaning import meaning_of, ome_pixels, pyramid_of, stated_bits, statements

_CACHE_BYTES = 128 * 1024 * 1024
#: Segments that are looked at for the brightest sample.
_DEPTH_SEGMENTS = 64


def looks_like_tiff(path: Path) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def open_alone(path: Path) -> tifffile.TiffFile:
    """This file and no other: OME metadata may name further files, which an upload must not make us read."""
    return tifffile.TiffFile(path, _multifile=False)


def check_complete(path: Path) -> None:
    """Raises UnreadableSlide when any level's data lie beyond the end of the file, as after a broken copy."""
    size = path.stat().st_size
    with open_alone(path) as tiff:
        for page in tiff.pages:
            check_segments(page, size)


class TiffReader(SlideReader):
    """A brightfield TIFF by tifffile and imagecodecs. 8 or 16 bits; grey, RGB or RGBA."""

    def __init__(self, path: Path) -> None:
        with open_alone(path) as tiff:
            pixels = ome_pixels(tiff)
            levels = pyramid_of(tiff, pixels)
            key = levels[0][0].keyframe
            meaning, bits = meaning_of(levels[0]), stated_bits(key, pixels)
            self._layouts = tuple(layout_of(pages, path.stat().st_size) for pages in levels)
            self.format = "ome-tiff" if tiff.is_ome else "tiff"
            self.resolution = resolution(statements(tiff, key, pixels))
            is_deep = key.dtype.itemsize > 1
        self.mpp = self.resolution.mpp
        self.width, self.height = self._layouts[0].width, self._layouts[0].height
        self.levels = tuple(
            Level(width=s.width, height=s.height, downsample=(self.width / s.width + self.height / s.height) / 2) for s in self._layouts
        )
        self.held_bytes = max(3 * s.segment_width * s.segment_height for s in self._layouts)
        self._file = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, self._file)
        self._decoded: OrderedDict[tuple[int, int, int], RGB] = OrderedDict()
        self._decoded_bytes = 0
        self._lock = threading.Lock()
        self._meaning = self._with_depth(meaning, bits) if is_deep else meaning

    def close(self) -> None:
        super().close()
        self._close()

    def _with_depth(self, meaning: Meaning, stated: int | None) -> Meaning:
        """The same with the bits of 16-bit samples: as stated, else by segments evenly over the smallest level."""
        if stated is not None:
            return replace(meaning, bits=stated)
        layout = self._layouts[-1]
        count = layout.columns * layout.rows
        places = sorted({count * index // _DEPTH_SEGMENTS for index in range(_DEPTH_SEGMENTS)})
        read = (layout.samples(self._file, place % layout.columns, place // layout.columns) for place in places)
        return replace(meaning, bits=significant_bits((samples for samples in read if samples is not None), meaning.colours))

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        if not self._close.alive:
            raise ValueError("the slide is closed")
        layout, downsample = self._layouts[level], self.levels[level].downsample
        left, top = round(x / downsample), round(y / downsample)
        out = np.full((height, width, 3), 255, np.uint8)
        right, bottom = min(left + width, layout.width), min(top + height, layout.height)
        for row in range(max(0, top) // layout.segment_height, -(-max(0, bottom) // layout.segment_height)):
            for column in range(max(0, left) // layout.segment_width, -(-max(0, right) // layout.segment_width)):
                _paste(out, self._segment(level, column, row), column * layout.segment_width - left, row * layout.segment_height - top)
        return out

    def _segment(self, level: int, column: int, row: int) -> RGB:
        key = (level, column, row)
        with self._lock:
            if key in self._decoded:
                self._decoded.move_to_end(key)
                return self._decoded[key]
        pixels = self._drawn(self._layouts[level], column, row)
        with self._lock:
            if key not in self._decoded:
                self._decoded[key] = pixels
                self._decoded_bytes += pixels.nbytes
            while len(self._decoded) > 1 and self._decoded_bytes > _CACHE_BYTES:
                self._decoded_bytes -= self._decoded.popitem(last=False)[1].nbytes
        return pixels

    def _drawn(self, layout: LevelLayout, column: int, row: int) -> RGB:
        samples = layout.samples(self._file, column, row)
        if samples is None:
            return np.full((layout.segment_height, layout.segment_width, 3), 255, np.uint8)
        return self._meaning.rgb(samples)


def _paste(out: RGB, piece: RGB, x: int, y: int) -> None:
    """Copy what of `piece`, placed at (x, y), falls inside `out`."""
    top, left = max(0, y), max(0, x)
    bottom, right = min(out.shape[0], y + piece.shape[0]), min(out.shape[1], x + piece.shape[1])
    if bottom > top and right > left:
        out[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]
