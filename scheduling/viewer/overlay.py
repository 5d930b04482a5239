"""Overlay tiles: cells drawn over a slide as transparent PNG, in the tiling of the slide's own tiles.

Where a cell is some pixels wide its outline is drawn, filled by exact area; where it is less, how many cells there are in a
square millimetre. Everything is placed on the slide, never on the tile, so that tiles meet without a seam.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.interface import Level
from scheduling.slides.reading.pyramid import TILE_PX
from scheduling.viewer.vectortiles import Rings, following

RGBA = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Color = tuple[int, int, int]
#: Raised whenever a picture of the same cells changes.
STYLE = 1
#: By class: clear on the pinks and purples of H&E and beside one another, on bright glass and on a dark page.
PALETTE: tuple[Color, ...] = (
    (0, 214, 143),
    (255, 176, 0),
    (38, 160, 255),
    (255, 84, 84),
    (196, 120, 255),
    (0, 205, 220),
    (222, 222, 60),
    (240, 120, 190),
)
#: Up to so many microns a pixel cells are drawn one by one: a nucleus is then at least about four pixels wide.
_FINEST_DENSITY_UM = 2.05
#: Pixels around a tile that are drawn and cut off: as far as an outline or the smoothing reaches.
MARGIN_PX = 6
_SHIFT = 4
#: How opaque an outline's inside is, a nucleus in it, and its line: where pixels are fine, and where a cell is a few of them.
_FILL, _NUCLEUS, _LINE = 0.18, 0.35, (0.95, 0.60)
#: Densities at which the overlay is half as opaque as it gets, and at which it has changed to its hot colour.
_HALF_PER_MM2, _HOT_PER_MM2 = 1600.0, 9000.0
_OPAQUE = 0.80
_HOT: Color = (255, 240, 120)
_SIGMA_PX = 1.3
_LEVEL = 2


@dataclass(frozen=True, kw_only=True)
class OverlayLevel:
    """One resolution of the overlay; the first are the slide's own, in its order."""

    width: int
    height: int
    #: Full-resolution pixels for each of its pixels.
    downsample: float
    #: Whether cells are drawn one by one; else their density.
    draws_cells: bool
    tile_px: ClassVar[int] = TILE_PX

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_px)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile_px)

    def size(self, column: int, row: int) -> tuple[int, int]:
        """Width and height of a tile in pixels, cut at the slide. Raises LookupError when there is no such tile."""
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            raise LookupError("no such tile")
        return min(self.tile_px, self.width - column * self.tile_px), min(self.tile_px, self.height - row * self.tile_px)


def overlay_levels(levels: Sequence[Level], mpp: float) -> tuple[OverlayLevel, ...]:
    """The slide's levels, and further ones, each half as wide, until one tile holds the slide. `mpp` is at full resolution."""
    places = [(level.width, level.height, float(level.downsample)) for level in levels]
    while max(places[-1][:2]) > TILE_PX:
        width, height, downsample = places[-1]
        places.append((-(-width // 2), -(-height // 2), downsample * 2))
    return tuple(
        OverlayLevel(width=width, height=height, downsample=downsample, draws_cells=downsample * mpp <= _FINEST_DENSITY_UM)
        for width, height, downsample in places
    )


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Cells to draw: outlines in full-resolution pixels, the class of each, and nuclei where outlines are of whole cells."""

    outlines: Rings
    classes: npt.NDArray[np.uint8]
    nuclei: Rings | None = None


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What a tile is drawn on: the tile and its margin, its upper left corner in pixels of the level."""

    width: int
    height: int
    origin: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels as places in a palette, by which a PNG is a fifth of the size."""

    #: uint8 (height, width).
    pixels: npt.NDArray[np.uint8]
    #: uint8 (256, 4): red, green, blue, and how opaque.
    palette: npt.NDArray[np.uint8]

    @property
    def rgba(self) -> RGBA:
        return self.palette[self.pixels]


def draw_cells(parts: Sequence[Shapes], level: OverlayLevel, column: int, row: int, classes: int = 1) -> Picture:
    """One tile; `classes` of the whole job. Raises LookupError when there is no such tile."""
    width, height = level.size(column, row)
    place = Canvas(width=width + 2 * MARGIN_PX, height=height + 2 * MARGIN_PX, origin=np.array([column, row]) * level.tile_px - MARGIN_PX)
    outlines, numbers = _placed([(part.outlines, part.classes) for part in parts], level.downsample, place)
    nuclei, of_nuclei = _placed([(part.nuclei, part.classes) for part in parts if part.nuclei is not None], level.downsample, place)
    line = _LINE[0] + (_LINE[1] - _LINE[0]) * min(1.0, max(0.0, (level.downsample - 1) / 3))
    steps = _steps(classes)
    pixels, strongest = np.zeros((place.height, place.width), np.uint8), np.zeros((place.height, place.width), np.uint8)
    for number in np.unique(numbers % classes):
        own, inner = outlines.where(numbers % classes == number), nuclei.where(of_nuclei % classes == number)
        filled = _FILL * coverage(own, place.width, place.height) + _NUCLEUS * coverage(inner, place.width, place.height)
        drawn = np.maximum(
            cv2.convertScaleAbs(filled, alpha=steps - 1), cv2.convertScaleAbs(_lines(own, place), alpha=line * (steps - 1) / 255)
        )
        np.copyto(pixels, drawn + np.uint8(int(number) * steps), where=drawn > strongest)
        np.maximum(strongest, drawn, out=strongest)
    ramps = [np.column_stack([np.tile(color_of(number), (steps, 1)), np.linspace(0, 255, steps)]) for number in range(classes)]
    return _picture(pixels, ramps)


def coverage(rings: Rings, width: int, height: int) -> Floats:
    """float32 (height, width): how much of each pixel the rings cover, 0–1, exactly for edges along an axis.

    Rings go clockwise on the screen, in pixels; they must not overlap. Each edge adds to all that is to its right: taken
    away where it goes down, added where it goes up.
    """
    begin, end = _edges(np.asarray(rings.points, np.float64), rings.sizes)
    low, high = (np.clip(pick(begin[:, 1], end[:, 1]), 0, height) for pick in (np.minimum, np.maximum))
    first = np.floor(low).astype(np.int64)
    count = np.where(high > low, np.ceil(high).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(len(begin)), count)
    row = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    top, bottom = np.maximum(low[edge], row), np.minimum(high[edge], row + 1)
    slope = (end[edge, 0] - begin[edge, 0]) / (end[edge, 1] - begin[edge, 1])
    x = np.clip(begin[edge, 0] + ((top + bottom) / 2 - begin[edge, 1]) * slope, 0, width)
    amount = (bottom - top) * np.sign(begin[edge, 1] - end[edge, 1])
    pixel = np.floor(x).astype(np.int64)
    beyond, at = amount * (x - pixel), row * (width + 2) + pixel
    size = height * (width + 2)
    steps = np.bincount(at, amount - beyond, size) + np.bincount(at + 1, beyond, size)
    area = np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width].astype(np.float32)
    return np.asarray(np.minimum(np.maximum(area, 0, out=area), 1, out=area))


def pixel_edges(level: OverlayLevel, column: int, row: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Full-resolution places of the edges of a tile's pixels, its margin included: of columns, of rows."""
    spans = zip((column, row), level.size(column, row), strict=True)
    x, y = (np.arange(-MARGIN_PX, size + MARGIN_PX + 1) + index * level.tile_px for index, size in spans)
    return np.asarray(x * level.downsample, np.float64), np.asarray(y * level.downsample, np.float64)


def draw_density(counts: Floats, pixel_um: float, classes: int = 1) -> Picture:
    """One tile from its cells by class and pixel, margin included; pixels are `pixel_um` microns wide, `classes` of the whole job.

    The colour is that of the class which most cells there have.
    """
    per_mm2 = np.stack([cv2.GaussianBlur(plane, (0, 0), _SIGMA_PX, borderType=cv2.BORDER_CONSTANT) for plane in counts])
    per_mm2 *= 1e6 / pixel_um**2
    steps = _steps(classes)
    opacity = 1 - np.exp2(per_mm2.sum(axis=0) / -_HALF_PER_MM2)
    pixels = cv2.convertScaleAbs(opacity, alpha=steps - 1)
    if classes > 1:
        pixels = np.where(pixels > 0, pixels + (per_mm2.argmax(axis=0) % classes * steps).astype(np.uint8), 0).astype(np.uint8)
    return _picture(pixels, [_ramp(color_of(number), steps) for number in range(classes)])


def _ramp(color: Color, steps: int) -> npt.NDArray[np.float64]:
    """(steps, 4): ever more opaque, and ever hotter as the density that so much opacity stands for grows."""
    opacity = np.linspace(0, 1, steps)
    per_mm2 = -_HALF_PER_MM2 * np.log2(np.maximum(1 - opacity, 1e-9))
    heat = np.clip(per_mm2 / _HOT_PER_MM2, 0, 1)[:, None] ** 1.5
    return np.column_stack([np.array(color) * (1 - heat) + np.array(_HOT) * heat, opacity * _OPAQUE * 255])


def _steps(classes: int) -> int:
    """Steps of opacity for each class, in a palette of 256."""
    return 256 // min(classes, len(PALETTE))


def _picture(pixels: npt.NDArray[np.uint8], ramps: Sequence[npt.NDArray[np.float64]]) -> Picture:
    """Without the margin; the first entry of the palette is nothing at all."""
    palette = np.zeros((256, 4), np.uint8)
    colors = np.rint(np.concatenate(ramps)).astype(np.uint8)[:256]
    palette[: len(colors)] = colors
    palette[0] = 0
    return Picture(pixels=np.ascontiguousarray(pixels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]), palette=palette)


def color_of(number: int) -> Color:
    """The colour of a class."""
    return PALETTE[number % len(PALETTE)]


def to_png(picture: Picture) -> bytes:
    """PNG with a palette and its opacities; the same picture gives the same bytes."""
    height, width = picture.pixels.shape
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY)
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = picture.pixels
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", picture.palette[:, :3].tobytes()),
        (b"tRNS", picture.palette[:, 3].tobytes()),
        (b"IDAT", packer.compress(rows.tobytes()) + packer.flush()),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _placed(parts: Sequence[tuple[Rings, npt.NDArray[np.uint8]]], downsample: float, place: Canvas) -> tuple[Rings, npt.NDArray[np.uint8]]:
    """The rings that meet the canvas, in its pixels, and their classes."""
    rings = Rings.joined([rings for rings, _ in parts])
    points, full = rings.points / downsample - place.origin, rings.sizes > 0
    if not full.any():
        return Rings.of([]), np.zeros(0, np.uint8)
    low, high = (extreme.reduceat(points, rings.offsets[:-1][full], axis=0) for extreme in (np.minimum, np.maximum))
    full[full] = ((high >= -1) & (low <= np.array([place.width, place.height]) + 1)).all(axis=1)
    return Rings(points=points, offsets=rings.offsets).where(full), np.concatenate([classes for _, classes in parts])[full]


def _edges(points: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both ends of every edge that is not level."""
    ends = points[following(sizes)]
    rises = points[:, 1] != ends[:, 1]
    return points[rises], ends[rises]


def _lines(rings: Rings, place: Canvas) -> npt.NDArray[np.uint8]:
    """uint8 (height, width): outlines, smoothed; OpenCV counts from the middles of pixels."""
    canvas = np.zeros((place.height, place.width), np.uint8)
    fixed = np.rint((np.asarray(rings.points) - 0.5) * (1 << _SHIFT)).astype(np.int32)
    lines = [fixed[begin:end] for begin, end in zip(rings.offsets[:-1], rings.offsets[1:], strict=True) if end > begin]
    if lines:
        cv2.polylines(canvas, lines, True, 255, 1, cv2.LINE_AA, _SHIFT)
    return canvas


def token_of(version: str, tiles: Sequence[int]) -> str:
    """Names a set of finished tiles and the way they are drawn: its size, and a sum (mod 2^32) over its indices, each well mixed first.

    `docs/vector-tiles.md` has the same in JavaScript; a sum, so that a viewer can add tiles as they are finished.
    """
    mixed = (np.asarray(tiles, np.uint64) + np.uint64(1)) * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
    mixed = (mixed ^ mixed >> np.uint64(15)) * np.uint64(2246822519) & np.uint64(0xFFFFFFFF)
    mixed ^= mixed >> np.uint64(13)
    return f"{version}.{len(tiles)}.{int(mixed.sum()) & 0xFFFFFFFF:x}"


def reach_px(level: OverlayLevel, halo_px: float) -> int:
    """Full-resolution pixels beyond a tile from which cells may show in it; a cell reaches at most `halo_px` beyond its core."""
    return math.ceil(max(halo_px, 0)) + math.ceil(MARGIN_PX * level.downsample)
