"""The outlines of a tissue mask: polygons with holes for QuPath, their lengths, and a picture of them for the eye."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from scheduling.slides.nuclei.contours import first_pixels, split_pieces, trace
from scheduling.slides.nuclei.measure import STAIRCASE
from scheduling.slides.reading.interface import RGB
from scheduling.slides.tissue.mask import TissueMask, joined

Bytes = npt.NDArray[np.uint8]

_OVERLAY_PX = (800, 1600)
_TISSUE_COLOR, _REMOVED_COLOR = (0, 150, 0), (240, 140, 0)


def tissue_polygons(mask: Bytes, downsample: int, width: int, height: int) -> list[shapely.Polygon]:
    """Polygons with holes along pixel edges, in full-resolution pixels, largest first, clipped to the slide.

    A pixel of `mask` is `downsample` full-resolution pixels wide. They cover exactly the pixels of a mask that is `joined`, as
    `find_tissue` leaves it; of any other, those of the joined one.
    """
    # A rim of background around makes all of what is outside one piece.
    padded = np.pad((joined(mask) > 0).astype(np.int32), 1)
    pieces, count = split_pieces(padded)
    gaps, gap_count = split_pieces(1 - padded)
    shells = trace(pieces, count)
    holes = trace(gaps, gap_count)
    # Above the first pixel of a hole lies the piece around it; the first gap is the outside.
    above = first_pixels(gaps, gap_count)[0][2:] - padded.shape[1]
    inside: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(count)]
    for hole, owner in enumerate(pieces.reshape(-1)[above], start=1):
        inside[owner - 1].append(_scaled(holes.ring(hole), downsample, width, height))
    polygons = [shapely.Polygon(_scaled(shells.ring(piece), downsample, width, height), inside[piece]) for piece in range(count)]
    return sorted(polygons, key=lambda polygon: -polygon.area)


def perimeter_px(polygon: shapely.Polygon, downsample: int) -> float:
    """Length of all rings in full-resolution pixels: every corner is cut by half a mask pixel, and what follows pixels is
    scaled for the bias of a staircase (Kulpa 1977). Edges that do not follow pixels, as of a region, keep their length.
    """
    return float(sum(_ring_length(np.asarray(ring.coords), downsample) for ring in (polygon.exterior, *polygon.interiors)))


def overlay(overview: RGB, found: TissueMask) -> RGB:
    """The overview with the tissue outlined in green and what was taken out in orange; its longer side 800 to 1,600 pixels."""
    least, most = _OVERLAY_PX
    longer = max(overview.shape[:2])
    scale = most / longer if longer > most else float(math.ceil(least / longer))
    size = (max(1, round(overview.shape[1] * scale)), max(1, round(overview.shape[0] * scale)))
    picture = np.asarray(cv2.resize(overview, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST), np.uint8)
    for mask, color in ((found.removed, _REMOVED_COLOR), (found.mask, _TISSUE_COLOR)):
        grown = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        inside = np.where(grown >= 128, np.uint8(255), np.uint8(0))
        edge = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        picture[edge > 0] = color
    return picture


def _scaled(ring: npt.NDArray[np.int32], downsample: int, width: int, height: int) -> npt.NDArray[np.float64]:
    """A ring of the padded mask in full-resolution pixels."""
    return np.minimum((ring.astype(np.float64) - 1) * downsample, (width, height))


def _ring_length(ring: npt.NDArray[np.float64], step: int) -> float:
    edges = np.diff(ring, axis=0)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    cut = np.minimum(lengths, step) / 2
    legs = edges * (cut / lengths)[:, None]
    chords = np.hypot(*(legs + np.roll(legs, 1, axis=0)).T)
    scale = np.where((edges == 0).any(axis=1), STAIRCASE, 1)
    return float(STAIRCASE * chords.sum() + (scale * (lengths - 2 * cut)).sum())
