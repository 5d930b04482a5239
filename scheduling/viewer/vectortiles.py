"""Vector tiles: the cells of one tile in a few dozen bytes each, exact, for a browser that draws and picks them.

`docs/vector-tiles.md` has the format byte by byte and a reader in JavaScript. Outlines along pixel edges take turns going
sideways and up or down, so one number for each vertex is enough; outlines of another kind take two.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.scale import Scale, plain
from scheduling.slides.reading.tiling import Box
from scheduling.viewer.varints import Ints, from_varints, to_varints, unzigzag, zigzag

MEDIA_TYPE = "application/vnd.wsi-cells"
MAGIC = b"WSIC"
VERSION = 1
#: Of tiles whose scale is a fraction, which a reader of version 1 would not understand.
_FRACTION = 2
_RECTILINEAR, _HAS_NUCLEI = 1, 2
#: Magic, version, flags, scale, tile, cells, core (left, top, right, bottom), vertices, bytes of the stream, what divides the scale.
_HEADER = struct.Struct("<4sBBHIIiiiiIII")
#: Of outlines that are on no corners of model pixels.
_HUNDREDTH = Fraction(1, 100)


@dataclass(frozen=True, kw_only=True)
class Rings:
    """Outlines of several objects: ring i has the vertices `points[offsets[i]:offsets[i + 1]]`, the first not repeated."""

    #: (n, 2): x, y; int64 in full-resolution pixels; float64 where those are no whole ones, and once placed on a picture.
    points: npt.NDArray[Any]
    #: int64 (rings + 1,).
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Ints:
        return np.diff(self.offsets)

    def ring(self, index: int) -> npt.NDArray[Any]:
        """(vertices, 2) of one object, not closed."""
        return self.points[self.offsets[index] : self.offsets[index + 1]]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Rings:
        """Some of the rings, in their order."""
        return Rings(points=self.points[np.repeat(chosen, self.sizes)], offsets=np.concatenate([[0], np.cumsum(self.sizes[chosen])]))

    @classmethod
    def joined(cls, parts: Sequence[Rings]) -> Rings:
        """All rings of several, in order."""
        sizes = np.concatenate([np.zeros(0, np.int64), *(part.sizes for part in parts)])
        points = np.concatenate([np.zeros((0, 2), np.int64), *(part.points for part in parts)])
        return cls(points=points, offsets=np.concatenate([[0], np.cumsum(sizes)]))

    @classmethod
    def of(cls, rings: Sequence[npt.ArrayLike]) -> Rings:
        """From (vertices, 2) arrays that are not closed."""
        arrays = [np.asarray(ring).reshape(-1, 2) for ring in rings]
        points = np.concatenate([np.zeros((0, 2), np.int64), *(ring for ring in arrays if len(ring))])
        return cls(points=points, offsets=np.cumsum([0, *(len(ring) for ring in arrays)]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class VectorTile:
    """The cells of one tile that are to be shown."""

    tile: int
    #: In full-resolution pixels.
    core: Box
    #: Full-resolution pixels that all coordinates are multiples of, to a hundredth of a pixel where it is a fraction.
    scale: Scale
    #: Row of each cell in the tile's table, ascending.
    rows: Ints
    classes: npt.NDArray[np.uint8]
    areas_um2: npt.NDArray[np.float32]
    outlines: Rings
    #: A ring for each cell, empty where it has no nucleus of its own; None when outlines are of nuclei.
    nuclei: Rings | None = None


def encode(tile: VectorTile) -> bytes:
    """The tile's bytes; the same cells give the same bytes."""
    rings = tile.outlines if tile.nuclei is None else _paired(tile.outlines, tile.nuclei)
    scale, points = _in_units(rings.points, tile.scale)
    is_rectilinear = _is_rectilinear(points, rings.sizes)
    stream = to_varints(np.concatenate([_deltas(tile.rows), rings.sizes, _walk(points, rings, tile.core, scale, is_rectilinear)]))
    flags = (_RECTILINEAR if is_rectilinear else 0) | (_HAS_NUCLEI if tile.nuclei is not None else 0)
    box = (tile.core.left, tile.core.top, tile.core.right, tile.core.bottom)
    version, divisor = (VERSION, 0) if isinstance(scale, int) else (_FRACTION, scale.denominator)
    head = _HEADER.pack(MAGIC, version, flags, scale.numerator, tile.tile, len(tile.rows), *box, len(points), len(stream), divisor)
    return b"".join([head, tile.areas_um2.astype("<f4").tobytes(), tile.classes.tobytes(), stream])


def decode(data: bytes) -> VectorTile:
    """Inverse of encode. Raises ValueError for anything else."""
    if len(data) < _HEADER.size or data[:4] != MAGIC or data[4] not in {VERSION, _FRACTION}:
        raise ValueError("not a vector tile of this version")
    _, version, flags, whole, tile, count, left, top, right, bottom, vertices, size, divisor = _HEADER.unpack_from(data)
    scale = Fraction(whole, divisor) if version == _FRACTION and divisor else whole
    begin = _HEADER.size + 5 * count
    if len(data) != begin + size:
        raise ValueError("the vector tile is cut off")
    core, has_nuclei = Box(left=left, top=top, right=right, bottom=bottom), bool(flags & _HAS_NUCLEI)
    values, ring_count = from_varints(data[begin:]), count * (2 if has_nuclei else 1)
    sizes = values[count : count + ring_count]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    points = _unwalk(values[count + ring_count :], offsets, core, scale, bool(flags & _RECTILINEAR)) * plain(scale)
    if len(points) != vertices:
        raise ValueError("the vector tile's outlines are cut off")
    rings = Rings(points=points, offsets=offsets)
    outlines, nuclei = _unpaired(rings) if has_nuclei else (rings, None)
    return VectorTile(
        tile=tile,
        core=core,
        scale=scale,
        rows=np.cumsum(values[:count]) - 1,
        areas_um2=np.frombuffer(data, "<f4", count, _HEADER.size).astype(np.float32),
        classes=np.frombuffer(data, np.uint8, count, _HEADER.size + 4 * count),
        outlines=outlines,
        nuclei=nuclei,
    )


def _in_units(points: npt.NDArray[Any], scale: Scale) -> tuple[Scale, Ints]:
    """The points as multiples of the scale, or of what else they are multiples of."""
    if isinstance(scale, int):
        whole = scale if not (points % scale).any() else 1
        return whole, points // whole
    # Tables hold hundredths, so that a multiple of the scale is up to half of one beside it.
    off = np.abs(np.rint(points / float(scale)) * float(scale) - points)
    unit = scale if off.max(initial=0) < float(_HUNDREDTH) else _HUNDREDTH
    return unit, np.rint(points / float(unit)).astype(np.int64)


def _deltas(rows: Ints) -> Ints:
    """Steps between ascending rows, the first from -1: always 1 when all rows are shown."""
    return np.diff(rows, prepend=-1)


def _paired(outlines: Rings, nuclei: Rings) -> Rings:
    """Outline 0, nucleus 0, outline 1, nucleus 1, …"""
    pairs = [ring for index in range(len(outlines)) for ring in (outlines.ring(index), nuclei.ring(index))]
    return Rings.of(pairs)


def _unpaired(rings: Rings) -> tuple[Rings, Rings]:
    halves = [Rings.of([rings.ring(index) for index in range(first, len(rings), 2)]) for first in (0, 1)]
    return halves[0], halves[1]


def _places(sizes: Ints) -> Ints:
    """Of each vertex, its place in its ring."""
    return np.asarray(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))


def following(sizes: Ints) -> Ints:
    """Of each vertex, the index of the next one of its ring; of a ring's last vertex, that of its first."""
    follows = np.arange(1, int(sizes.sum()) + 1)
    ends = np.cumsum(sizes)[sizes > 0]
    follows[ends - 1] = ends - sizes[sizes > 0]
    return follows


def _steps(points: Ints, sizes: Ints) -> Ints:
    """(n, 2) from each vertex to the next one of its ring, from the last to the first."""
    return points[following(sizes)] - points


def _is_rectilinear(points: Ints, sizes: Ints) -> bool:
    """Whether every ring goes sideways first and then takes turns."""
    if ((sizes % 2 == 1) | (sizes == 2)).any():
        return False
    steps, is_sideways = _steps(points, sizes), _places(sizes) % 2 == 0
    along, across = (np.where(is_sideways, steps[:, axis], steps[:, 1 - axis]) for axis in (0, 1))
    return bool((along != 0).all() and (across == 0).all())


def _walk(points: Ints, rings: Rings, core: Box, scale: Scale, is_rectilinear: bool) -> Ints:
    """First vertices, each from the one before it (the first from the core's corner), then steps; those that close are left out."""
    firsts = points[rings.offsets[:-1][rings.sizes > 0]]
    starts = np.diff(firsts, axis=0, prepend=np.array([[int(core.left // scale), int(core.top // scale)]]))
    steps, places = _steps(points, rings.sizes), _places(rings.sizes)
    left = np.repeat(rings.sizes, rings.sizes) - places
    lengths = np.where(places % 2 == 0, steps[:, 0], steps[:, 1])[left > 2] if is_rectilinear else steps[left > 1].reshape(-1)
    return zigzag(np.concatenate([starts.reshape(-1), lengths]))


def _unwalk(values: Ints, offsets: Ints, core: Box, scale: Scale, is_rectilinear: bool) -> Ints:
    """Inverse of _walk: (n, 2). Raises ValueError."""
    sizes = np.diff(offsets)
    full = np.flatnonzero(sizes > 0)
    numbers, wanted = unzigzag(values), (sizes[full] - 2 if is_rectilinear else 2 * (sizes[full] - 1))
    if len(numbers) != 2 * len(full) + int(wanted.sum()):
        raise ValueError("the vector tile's outlines are cut off")
    corner = [[int(core.left // scale), int(core.top // scale)]]
    starts = np.cumsum(np.concatenate([corner, numbers[: 2 * len(full)].reshape(-1, 2)]), axis=0)[1:]
    points, at = np.zeros((int(offsets[-1]), 2), np.int64), 2 * len(full)
    for start, ring, number in zip(starts, full, wanted, strict=True):
        points[offsets[ring] : offsets[ring + 1]] = start + _path(numbers[at : at + number], is_rectilinear)
        at += number
    return points


def _path(lengths: Ints, is_rectilinear: bool) -> Ints:
    """(vertices, 2) of a ring that begins at 0, 0."""
    if not is_rectilinear:
        return np.concatenate([[[0, 0]], np.cumsum(lengths.reshape(-1, 2), axis=0)])
    steps = np.zeros((len(lengths) + 2, 2), np.int64)
    steps[1:-1:2, 0], steps[2:-1:2, 1] = lengths[0::2], lengths[1::2]
    # The last step sideways leads back over the first vertex.
    steps[-1, 0] = -steps[:, 0].sum()
    return np.asarray(np.cumsum(steps, axis=0))
