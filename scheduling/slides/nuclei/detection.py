"""Classical detection of nuclei in an H&E window: threshold, clean, seeds by distance, split by the nearest seed, half-height outline.

Every step looks only at a neighbourhood smaller than the halo, and the threshold comes from outside, so two windows that
see the same nucleus draw the same pixels. All sizes are physical and are turned into pixels here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.contours import Labels, fill_rings, trace
from scheduling.slides.nuclei.edges import half_height, local_mean
from scheduling.slides.nuclei.measure import solidities
from scheduling.slides.nuclei.runs import Runs, boxes_of, consecutive, joined, paint, parts_of, renamed, runs_of
from scheduling.slides.nuclei.splitting import leftovers, nearest_along
from scheduling.slides.nuclei.stain import Floats, otsu_level, to_levels

cv2.setNumThreads(1)

Bytes = npt.NDArray[np.uint8]

_SMOOTH_UM = 0.5
#: Half the side of the square of surrounding tissue that a nucleus must stand out from.
NEIGHBOURHOOD_UM = 15.0
#: Sum of both stains' densities from which a pixel is tissue. Against glass everything stands out: it is no surroundings.
_TISSUE_OD = 0.12
_CONTRAST_LEVELS = 16
#: In a faint stain less will do: this part of the pale level.
_CONTRAST_PART = 0.5
#: Times Otsu's threshold.
_DARK = 1.1
_OPEN_UM = 0.75
_HOLE_UM2 = 12.0
_SEED_SMOOTH_UM = 0.75
_SEED_DISTANCE_UM = 2.25
#: A seed lies at least this deep inside its nucleus.
_SEED_DEPTH_UM = 1.0
#: Steps of depth in a pixel. What is deeper than 255 of them is no nucleus, and its depth is not told apart.
_DEPTH_STEPS = 10
#: Half the longest nucleus: what lies further from every seed along the mask belongs to none.
_SEED_REACH_UM = 16.0
#: A hole that is longer is a crack.
_HOLE_EXTENT_UM = 5.0
#: No nucleus is longer. Bounds what an object can depend on, so that a halo can hold it.
_MAX_EXTENT_UM = 32.0


@dataclass(frozen=True, kw_only=True)
class NucleusLimits:
    """What counts as a nucleus. Levels are of the smoothed hematoxylin image, in steps of stain.OD_STEP."""

    #: Microns per model pixel.
    mpp: float
    #: Above it a pixel is nucleus wherever it lies.
    dark_level: int
    #: Above it a pixel is nucleus where it also stands out from its neighbourhood.
    pale_level: int
    min_area_um2: float = 10.0
    max_area_um2: float = 400.0
    #: Ragged objects (folded stroma, keratin) have less area in their convex hull.
    min_solidity: float = 0.7

    def pixels(self, microns: float) -> int:
        """A length as whole pixels, at least 1."""
        return max(1, round(microns / self.mpp))

    @property
    def max_extent_px(self) -> int:
        """Longest side of the box around a nucleus: 32 µm, or the length of the largest one that is twice as long as wide."""
        return max(self.pixels(_MAX_EXTENT_UM), math.ceil(2 * math.sqrt(2 * self.max_area_um2 / math.pi) / self.mpp))

    @property
    def reach_px(self) -> int:
        """How far from a nucleus lie the pixels that decide on its outline; every step adds what it looks around itself."""
        opening = 2 * (self.pixels(_OPEN_UM) - 1)
        around = self.pixels(NEIGHBOURHOOD_UM)
        mask = _blur_px(_SMOOTH_UM / self.mpp) + around + opening + self.pixels(_HOLE_EXTENT_UM) + 1
        seeds = mask + 255 // _DEPTH_STEPS + 1 + _blur_px(_SEED_SMOOTH_UM / self.mpp) + self.pixels(_SEED_DISTANCE_UM)
        pieces = seeds + self.pixels(_SEED_REACH_UM) + 1
        return max(pieces, mask + around) + opening


def frozen_levels(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """(dark_level, pale_level) for a slide by the histogram of smoothed levels over tissue, int64 (256,).

    Otsu's threshold parts densely stained nuclei from the rest; applied again to the rest it parts pale nuclei from
    cytoplasm. Thick tissue is dark all over, so only above the first one, and not just above, is a pixel nucleus by itself.
    """
    nuclei = otsu_level(counts)
    rest = otsu_level(counts[: nuclei + 1])
    return min(255, round(_DARK * nuclei)), max(rest, nuclei // 2)


def _blur_px(sigma_px: float) -> int:
    """Radius of OpenCV's Gaussian kernel on 8 bits."""
    return (round(6 * sigma_px + 1) | 1) // 2


def smoothed_levels(hematoxylin: Floats, mpp: float) -> Bytes:
    """The 8-bit hematoxylin image on which the thresholds act; OpenCV's Gaussian is exact on 8 bits."""
    return np.asarray(cv2.GaussianBlur(to_levels(hematoxylin), (0, 0), _SMOOTH_UM / mpp), np.uint8)


def nuclei_labels(stained: tuple[Floats, Floats], limits: NucleusLimits) -> tuple[Labels, int]:
    """int32 (h, w) labels 1…count of the nuclei in a window, each one 4-connected piece without holes.

    `stained` are the densities of hematoxylin and eosin, float32 (h, w).
    """
    levels = smoothed_levels(stained[0], limits.mpp)
    tissue = _tissue(*stained)
    mask = _cleaned(_mask(levels, tissue, limits), limits)
    around = local_mean(levels, tissue & (1 - mask), limits.pixels(NEIGHBOURHOOD_UM), limits.pale_level)
    objects, count = _split(mask, limits)
    # Without the spikes and specks that the cut at half height leaves.
    solid_parts = _opened(half_height(objects, count, levels, stained, around), limits)
    objects = parts_of(objects, solid_parts)
    labels = np.zeros(mask.shape, np.int32)
    paint(labels, objects, joined(objects)[0])
    fill_rings(labels)
    return _within_area(labels, limits)


@njit(cache=True)
def _tissue(hematoxylin: Floats, eosin: Floats) -> Bytes:
    out = np.empty(hematoxylin.shape, np.uint8)
    for y in range(hematoxylin.shape[0]):
        for x in range(hematoxylin.shape[1]):
            out[y, x] = hematoxylin[y, x] + eosin[y, x] > _TISSUE_OD
    return out


def _within_area(labels: Labels, limits: NucleusLimits) -> tuple[Labels, int]:
    """Only the objects of a permitted area, renumbered from 1 in the same order; in place."""
    objects = runs_of(labels)
    count = int(objects[:, 3].max(initial=0))
    areas_um2 = boxes_of(objects, objects[:, 3], count)[0] * limits.mpp**2
    numbers, kept = consecutive((areas_um2 >= limits.min_area_um2) & (areas_um2 <= limits.max_area_um2))
    paint(labels, objects, numbers[objects[:, 3]])
    return labels, kept


def solid(labels: Labels, count: int, least: float) -> tuple[Labels, int]:
    """Only the objects that fill at least this part of their convex hull, renumbered from 1 in the same order."""
    return only(labels, np.concatenate([[False], solidities(trace(labels, count)) >= least]))


def _mask(levels: Bytes, tissue: Bytes, limits: NucleusLimits) -> Bytes:
    dark = (levels > limits.dark_level).astype(np.uint8)
    # Dark nuclei are left out of the surroundings, or in a crowd none would stand out.
    around = local_mean(levels, tissue & (1 - dark), limits.pixels(NEIGHBOURHOOD_UM), limits.pale_level)
    contrast = min(float(_CONTRAST_LEVELS), _CONTRAST_PART * limits.pale_level)
    return _dark_or_standing_out(levels, around, limits.dark_level, limits.pale_level, contrast)


@njit(cache=True)
def _dark_or_standing_out(levels: Bytes, around: Floats, dark_level: int, pale_level: int, contrast: float) -> Bytes:
    out = np.zeros(levels.shape, np.uint8)
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            level = levels[y, x]
            out[y, x] = level > dark_level or (level > pale_level and level > around[y, x] + contrast)
    return out


def _opened(mask: Bytes, limits: NucleusLimits) -> Bytes:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disk(limits), borderType=cv2.BORDER_REPLICATE), np.uint8)


def _disk(limits: NucleusLimits) -> Bytes:
    size = 2 * limits.pixels(_OPEN_UM) - 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _cleaned(mask: Bytes, limits: NucleusLimits) -> Bytes:
    """The mask without specks and bridges thinner than the opening, and without small holes."""
    opened = _opened(mask, limits)
    runs = runs_of(1 - opened)
    regions, count = joined(runs)
    areas, boxes = boxes_of(runs, regions, count)
    small = (areas * limits.mpp**2 < _HOLE_UM2) & (extents_of(boxes) <= limits.pixels(_HOLE_EXTENT_UM))
    # A region at the edge of the window may be the end of a large one.
    small &= (boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2:] < [mask.shape[1], mask.shape[0]]).all(axis=1)
    paint(opened, runs, small.astype(np.uint8)[regions])
    return opened


def _split(mask: Bytes, limits: NucleusLimits) -> tuple[Runs, int]:
    """Runs of the mask's objects 1…count, touching ones cut apart by their seeds, and count.

    What hangs together without any seed, too thin for one, is an object too. What is longer than a nucleus may go on beyond
    any window, and would be cut at half height by other means in each: it is left out.
    """
    runs, pieces, number = nearest_along(_seeds(mask, limits), mask, limits.pixels(_SEED_REACH_UM))
    extents = extents_of(boxes_of(runs, pieces, number)[1])
    numbers, count = consecutive((extents <= limits.max_extent_px) & ~leftovers(runs, pieces, number))
    return renamed(runs, numbers[pieces]), count


def extents_of(boxes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Longer side of each box."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=1))


def only(labels: Labels, keep: npt.NDArray[np.bool_]) -> tuple[Labels, int]:
    """The objects whose entry in `keep` (count + 1,) is set, renumbered from 1 in the same order, and their number."""
    numbers, count = consecutive(keep)
    runs = runs_of(labels)
    out = np.zeros_like(labels)
    paint(out, runs, numbers[runs[:, 3]])
    return out, count


def _seeds(mask: Bytes, limits: NucleusLimits) -> Bytes:
    """1 at the plateaus that are deepest inside the mask within the seed distance."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    # 8 bits, on which blurring is exact: the same nucleus gives the same seeds in every window.
    smooth = cv2.GaussianBlur(cv2.convertScaleAbs(depth, alpha=_DEPTH_STEPS), (0, 0), _SEED_SMOOTH_UM / limits.mpp)
    size = 2 * limits.pixels(_SEED_DISTANCE_UM) + 1
    levels, highest = np.asarray(smooth, np.uint8), np.asarray(cv2.dilate(smooth, np.ones((size, size), np.uint8)), np.uint8)
    return _peaks(levels, highest, mask, max(1, int(_SEED_DEPTH_UM / limits.mpp * _DEPTH_STEPS)))


@njit(cache=True)
def _peaks(levels: Bytes, highest: Bytes, mask: Bytes, least: int) -> Bytes:
    out = np.empty(mask.shape, np.uint8)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            out[y, x] = levels[y, x] == highest[y, x] and levels[y, x] >= least and mask[y, x] > 0
    return out
