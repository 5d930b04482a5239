"""Where the pixels of a TIFF's levels lie: a grid of segments (tiles or strips) and how to decode one.

A window decodes only the segments it touches. Pixels that are stored without compression are cut into segments of our own
choice, so that a file of one huge strip can be read in parts as well; a compressed one cannot, and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scheduling.errors import UnreadableSlide

#: Decoded; what is larger would not fit beside other slides in a worker.
_SEGMENT_BYTES = 320 * 1024 * 1024
#: Of the segments that uncompressed pixels are cut into.
_RAW_SEGMENT_BYTES = 4 * 1024 * 1024
#: Pixels along a side; slides reach about 300,000.
_MAX_SIDE = 4_000_000
_MAX_TILE = 16_384
_UNCOMPRESSED = 1
_PLANAR = 2


class Plane(Protocol):
    """The samples of a level that are stored together: all of a pixel, or one colour."""

    def samples(self, file: int, index: int) -> npt.NDArray[Any] | None:
        """(h, w, samples) of one segment; None when the file leaves it out. Raises ValueError, OSError and what codecs raise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedPlane:
    """Segments as the file has them, decoded by tifffile."""

    decode: Any
    offsets: Sequence[int]
    counts: Sequence[int]
    jpegtables: bytes | None
    #: Index of the plane's first segment.
    first: int

    def samples(self, file: int, index: int) -> npt.NDArray[Any] | None:
        """See Plane."""
        index += self.first
        count = self.counts[index]
        if count == 0:  # A sparse file leaves out segments that are empty glass.
            return None
        data = os.pread(file, count, self.offsets[index])
        if len(data) < count:
            raise ValueError("the file ends inside an image segment")
        pixels = self.decode(data, index, jpegtables=self.jpegtables)[0]
        if pixels is None:
            raise ValueError("an image segment could not be decoded")
        return np.asarray(pixels[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class RawPlane:
    """Rows of uncompressed pixels, one after another."""

    offset: int
    #: With the byte order of the file.
    dtype: np.dtype[Any]
    width: int
    height: int
    samples_per_pixel: int
    rows_per_segment: int

    def samples(self, file: int, index: int) -> npt.NDArray[Any] | None:
        """See Plane."""
        row = index * self.rows_per_segment
        rows = min(self.rows_per_segment, self.height - row)
        row_bytes = self.width * self.samples_per_pixel * self.dtype.itemsize
        data = os.pread(file, rows * row_bytes, self.offset + row * row_bytes)
        if len(data) < rows * row_bytes:
            raise ValueError("the file ends inside an image segment")
        pixels = np.frombuffer(data, self.dtype).reshape(rows, self.width, self.samples_per_pixel)
        return pixels.astype(self.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True, kw_only=True)
class LevelLayout:
    """One level: its planes and the grid of segments that they share."""

    planes: tuple[Plane, ...]
    width: int
    height: int
    segment_width: int
    segment_height: int

    @property
    def columns(self) -> int:
        """Segments in a row."""
        return -(-self.width // self.segment_width)

    @property
    def rows(self) -> int:
        """Rows of segments."""
        return -(-self.height // self.segment_height)

    def samples(self, file: int, column: int, row: int) -> npt.NDArray[Any] | None:
        """(h, w, samples) of one segment, without the padding beyond the image; None when the file leaves it out."""
        found = [plane.samples(file, row * self.columns + column) for plane in self.planes]
        present = [samples for samples in found if samples is not None]
        if len(present) < len(found):
            return None
        whole = present[0] if len(present) == 1 else np.concatenate(present, axis=2)
        return whole[: self.height - row * self.segment_height, : self.width - column * self.segment_width]


def layout_of(pages: Sequence[Any], file_size: int) -> LevelLayout:
    """The layout of a level that is one page, or one page for each colour. Raises UnreadableSlide."""
    for page in pages:
        check_segments(page, file_size)
    key = pages[0].keyframe
    width, height = key.imagewidth, key.imagelength
    row_bytes = width * _samples_together(key) * key.dtype.itemsize
    rows = max(1, _RAW_SEGMENT_BYTES // row_bytes) if all(_is_raw(page, row_bytes) for page in pages) else 0
    across, down = (key.tilewidth, key.tilelength) if key.is_tiled else (width, min(rows or key.rowsperstrip or height, height))
    if across * down * _samples_together(key) * key.dtype.itemsize > _SEGMENT_BYTES:
        raise UnreadableSlide("The image is stored in one piece too large to read in parts; convert it to a tiled pyramid.")
    planes: list[Plane] = []
    for page in pages:
        planes += _raw_planes(page, down) if rows else _encoded_planes(page, -(-width // across) * -(-height // down))
    return LevelLayout(planes=tuple(planes), width=width, height=height, segment_width=across, segment_height=down)


def check_segments(page: Any, file_size: int) -> None:
    """Raises UnreadableSlide when a page's data lie beyond the end of the file, or its geometry is impossible.

    OpenSlide's allocator ends the whole process when a damaged header asks for too much.
    """
    key = page.keyframe
    if not (0 < key.imagewidth < _MAX_SIDE and 0 < key.imagelength < _MAX_SIDE):
        raise UnreadableSlide("The image has an impossible size.")
    if key.is_tiled and not (0 < key.tilewidth <= _MAX_TILE and 0 < key.tilelength <= _MAX_TILE):
        raise UnreadableSlide("The image has tiles of an impossible size.")
    offsets, counts = page.dataoffsets, page.databytecounts
    if key.is_tiled and len(offsets) < -(-key.imagewidth // key.tilewidth) * -(-key.imagelength // key.tilelength):
        raise UnreadableSlide("The file is damaged: it lists fewer tiles than the image has.")
    if not offsets or max(offset + count for offset, count in zip(offsets, counts, strict=True)) > file_size:
        raise UnreadableSlide("The file is truncated: image data lie beyond its end.")


def _planes_of(key: Any) -> int:
    return int(key.samplesperpixel) if key.planarconfig == _PLANAR else 1


def _samples_together(key: Any) -> int:
    return 1 if key.planarconfig == _PLANAR else int(key.samplesperpixel)


def _is_raw(page: Any, row_bytes: int) -> bool:
    """Whether the pixels of a page lie in the file as they are, all in one piece."""
    key = page.keyframe
    if key.is_tiled or key.compression != _UNCOMPRESSED or key.predictor != 1 or key.fillorder != 1:
        return False
    if key.bitspersample != 8 * key.dtype.itemsize:
        return False
    offsets, counts = page.dataoffsets, page.databytecounts
    follows = all(offset + count == after for offset, count, after in zip(offsets, counts, offsets[1:], strict=False))
    return bool(follows and sum(counts) >= row_bytes * key.imagelength * _planes_of(key))


def _raw_planes(page: Any, rows: int) -> list[RawPlane]:
    key, samples = page.keyframe, _samples_together(page.keyframe)
    dtype = np.dtype(key.dtype).newbyteorder(key.parent.byteorder)
    plane_bytes = key.imagewidth * key.imagelength * samples * dtype.itemsize
    return [
        RawPlane(
            offset=page.dataoffsets[0] + index * plane_bytes,
            dtype=dtype,
            width=key.imagewidth,
            height=key.imagelength,
            samples_per_pixel=samples,
            rows_per_segment=rows,
        )
        for index in range(_planes_of(key))
    ]


def _encoded_planes(page: Any, segments: int) -> list[EncodedPlane]:
    planes = _planes_of(page.keyframe)
    if len(page.dataoffsets) < planes * segments:
        raise UnreadableSlide("The file is damaged: it lists fewer segments than the image has.")
    offsets, counts = page.dataoffsets, page.databytecounts
    return [
        EncodedPlane(decode=page.decode, offsets=offsets, counts=counts, jpegtables=page.jpegtables, first=index * segments)
        for index in range(planes)
    ]
