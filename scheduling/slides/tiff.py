"""TIFFs that OpenSlide declines, read segment by segment: tiled or in strips, OME, pyramidal or not.

A window decodes only the segments (tiles or strips) it touches; a file stored as one huge segment is refused, because
every tile would decode all of it.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scheduling.errors import UnreadableSlide
from scheduling.slides.interface import RGB, Level, SlideReader, mean_mpp

_SEGMENT_BYTES = 512 * 1024 * 1024
#: Pixels along a side; slides reach about 300,000.
_MAX_SIDE = 4_000_000
_MAX_TILE = 16_384
_CACHE_BYTES = 128 * 1024 * 1024
_MICRONS = {"µm": 1.0, "um": 1.0, "&#181;m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_UNITS = {2: 25_400.0, 3: 10_000.0}


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
            _check_segments(page, size)


def _check_segments(page: Any, size: int) -> None:
    """Also of the geometry: OpenSlide's allocator ends the whole process when a damaged header asks for too much."""
    key = page.keyframe
    if not (0 < key.imagewidth < _MAX_SIDE and 0 < key.imagelength < _MAX_SIDE):
        raise UnreadableSlide("The image has an impossible size.")
    if key.is_tiled and not (0 < key.tilewidth <= _MAX_TILE and 0 < key.tilelength <= _MAX_TILE):
        raise UnreadableSlide("The image has tiles of an impossible size.")
    offsets, counts = page.dataoffsets, page.databytecounts
    if key.is_tiled and len(offsets) < -(-key.imagewidth // key.tilewidth) * -(-key.imagelength // key.tilelength):
        raise UnreadableSlide("The file is damaged: it lists fewer tiles than the image has.")
    if not offsets or max(offset + count for offset, count in zip(offsets, counts, strict=True)) > size:
        raise UnreadableSlide("The file is truncated: image data lie beyond its end.")


@dataclass(frozen=True)
class _Segments:
    """One level's pages (one for RGB stored together, three for RGB stored in planes) and its grid of segments."""

    pages: tuple[Any, ...]
    #: `decode` of each page, made while the file is open.
    decoders: tuple[Any, ...]
    #: Planes inside one page (planar configuration 2).
    planes: int
    width: int
    height: int
    segment_width: int
    segment_height: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.segment_width)

    @property
    def rows(self) -> int:
        return -(-self.height // self.segment_height)

    def sources(self, column: int, row: int) -> Iterator[tuple[Any, Any, int]]:
        """(page, its decoder, index of the segment in it) for each plane of one place in the grid."""
        for page, decode in zip(self.pages, self.decoders, strict=True):
            for plane in range(self.planes):
                yield page, decode, plane * self.columns * self.rows + row * self.columns + column


class TiffReader(SlideReader):
    """A brightfield TIFF by tifffile and imagecodecs. 8 or 16 bits; grey, RGB or RGBA."""

    def __init__(self, path: Path) -> None:
        with open_alone(path) as tiff:
            series = _main_series(tiff)
            self._segments = tuple(_segments_of(level) for level in series.levels)
            for segments in self._segments:
                for page in segments.pages:
                    _check_segments(page, path.stat().st_size)
            self.format = "ome-tiff" if tiff.is_ome else "tiff"
            self.mpp = _mpp(tiff, self._segments[0].pages[0])
        self.width, self.height = self._segments[0].width, self._segments[0].height
        self.levels = tuple(
            Level(width=s.width, height=s.height, downsample=(self.width / s.width + self.height / s.height) / 2) for s in self._segments
        )
        self._file = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, self._file)
        self._decoded: OrderedDict[tuple[int, int, int], RGB] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def is_ome(path: Path) -> bool:
        """Whether the TIFF carries OME metadata."""
        with open_alone(path) as tiff:
            return bool(tiff.is_ome)

    def close(self) -> None:
        super().close()
        self._close()

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        if not self._close.alive:
            raise ValueError("the slide is closed")
        segments, downsample = self._segments[level], self.levels[level].downsample
        left, top = round(x / downsample), round(y / downsample)
        out = np.full((height, width, 3), 255, np.uint8)
        right, bottom = min(left + width, segments.width), min(top + height, segments.height)
        for row in range(max(0, top) // segments.segment_height, -(-max(0, bottom) // segments.segment_height)):
            for column in range(max(0, left) // segments.segment_width, -(-max(0, right) // segments.segment_width)):
                _paste(out, self._segment(level, column, row), column * segments.segment_width - left, row * segments.segment_height - top)
        return out

    def _segment(self, level: int, column: int, row: int) -> RGB:
        key = (level, column, row)
        with self._lock:
            if key in self._decoded:
                self._decoded.move_to_end(key)
                return self._decoded[key]
        segments = self._segments[level]
        planes = [self._decode(page, decode, index) for page, decode, index in segments.sources(column, row)]
        pixels = _to_rgb(np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0])
        # Segments at the border hold padding beyond the image.
        pixels = pixels[: segments.height - row * segments.segment_height, : segments.width - column * segments.segment_width]
        self._remember(key, pixels)
        return pixels

    def _remember(self, key: tuple[int, int, int], pixels: RGB) -> None:
        with self._lock:
            self._decoded[key] = pixels
            while len(self._decoded) > 1 and sum(p.nbytes for p in self._decoded.values()) > _CACHE_BYTES:
                self._decoded.popitem(last=False)

    def _decode(self, page: Any, decode: Any, index: int) -> Any:
        count = page.databytecounts[index]
        if count == 0:  # A sparse file leaves out segments that are empty glass.
            return np.full((*page.chunks[:2], 3), 255, np.uint8)
        data = os.pread(self._file, count, page.dataoffsets[index])
        if len(data) < count:
            raise ValueError("the file ends inside an image segment")
        pixels = decode(data, index, jpegtables=page.jpegtables)[0]
        if pixels is None:
            raise ValueError("an image segment could not be decoded")
        return pixels[0]


def _main_series(tiff: tifffile.TiffFile) -> Any:
    if not tiff.series:
        raise UnreadableSlide("The TIFF holds no image.")
    # The first series is the specimen in every format; later ones may be label and macro.
    return tiff.series[0]


def _segments_of(level: Any) -> _Segments:
    pages = tuple(page for page in level.pages if page is not None)
    page = pages[0].keyframe if hasattr(pages[0], "keyframe") else pages[0]
    samples = page.samplesperpixel * len(pages)
    if page.dtype is None or page.dtype.kind != "u" or page.dtype.itemsize > 2 or samples not in {1, 3, 4} or page.photometric == 3:
        raise UnreadableSlide("The image is not brightfield: grey, RGB or RGBA of 8 or 16 bits is expected.")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    width, height = page.imagewidth, page.imagelength
    size = (page.tilewidth, page.tilelength) if page.is_tiled else (width, min(page.rowsperstrip or height, height))
    if size[0] * size[1] * page.samplesperpixel * page.dtype.itemsize > _SEGMENT_BYTES:
        raise UnreadableSlide("The image is stored in one piece too large to read in parts; convert it to a tiled pyramid.")
    return _Segments(
        pages=pages,
        decoders=tuple(p.decode for p in pages),
        planes=planes,
        width=width,
        height=height,
        segment_width=size[0],
        segment_height=size[1],
    )


def _to_rgb(pixels: Any) -> RGB:
    """uint8 (h, w, 3) of a decoded segment (h, w, samples) of 8 or 16 bits."""
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        weight = pixels[:, :, 3:].astype(np.uint16)
        return np.asarray((pixels[:, :, :3] * weight + 255 * (255 - weight) + 127) // 255, np.uint8)
    return np.ascontiguousarray(pixels[:, :, :3])


def _paste(out: RGB, piece: RGB, x: int, y: int) -> None:
    """Copy what of `piece`, placed at (x, y), falls inside `out`."""
    top, left = max(0, y), max(0, x)
    bottom, right = min(out.shape[0], y + piece.shape[0]), min(out.shape[1], x + piece.shape[1])
    if bottom > top and right > left:
        out[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]


def _mpp(tiff: tifffile.TiffFile, page: Any) -> float | None:
    """By OME PhysicalSize, else Aperio's MPP, else the resolution tags."""
    text = tiff.ome_metadata or ""
    sizes = [_ome_size(text, axis) for axis in "XY"]
    if any(sizes):
        return mean_mpp(*sizes)
    aperio = re.search(r"\bMPP = ([0-9.]+)", page.description or "")
    if aperio:
        return mean_mpp(float(aperio[1]), None)
    return mean_mpp(*(_resolution(page, axis) for axis in "XY"))


def _ome_size(text: str, axis: str) -> float | None:
    size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', text)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', text)
    microns = _MICRONS.get(unit[1]) if unit else 1.0
    return float(size[1]) * microns if size and microns else None


def _resolution(page: Any, axis: str) -> float | None:
    tag, unit = page.tags.get(f"{axis}Resolution"), page.tags.get("ResolutionUnit")
    microns = _UNITS.get(int(unit.value)) if unit else None
    if tag is None or microns is None or not tag.value[0]:
        return None
    return float(microns * tag.value[1] / tag.value[0])
