"""Classical detection of nuclei in an H&E window: threshold, clean, seeds by distance, nearest-seed split, half-height outline.

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
from scipy import ndimage

from scheduling.slides.contours import Labels, first_pixels, ring_areas, split_pieces, trace
from scheduling.slides.edges import at_half_height, local_mean
from scheduling.slides.measure import solidities
from scheduling.slides.stain import Floats, otsu_level, to_levels

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
#: Larger than any nucleus: what lies further from every seed belongs to none.
_SEED_REACH_UM = 12.0
#: How far a nucleus takes in what hangs together with it, but not straight from its seed.
_GROWTH_UM = 4.0
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
        pieces = seeds + self.pixels(_SEED_REACH_UM) + self.pixels(_GROWTH_UM) + 1
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
    tissue = (cv2.add(*stained) > _TISSUE_OD).astype(np.uint8)
    mask = _cleaned(_mask(levels, tissue, limits), limits)
    around = local_mean(levels, tissue & (1 - mask), limits.pixels(NEIGHBOURHOOD_UM), limits.pale_level)
    pieces = without_long(_split(mask, limits), limits.max_extent_px)
    labels = _opened(at_half_height(pieces, levels, stained, around), limits)
    labels = split_pieces(labels)[0]
    fill_rings(labels)
    return within_area(labels, limits)


def fill_rings(labels: Labels) -> None:
    """Give each object (one piece, numbered without gaps) what it encloses: its outer ring then encloses just its pixels.

    An object that lies wholly inside another one is absorbed and its number left unused.
    """
    count = int(labels.max())
    areas = first_pixels(labels, count)[1][1:]
    rings = trace(labels, count)
    hollow = _touching_themselves(labels, count)[1:] | (ring_areas(rings) != areas)
    for index in np.flatnonzero(hollow):
        (left, top), (right, bottom) = rings.ring(int(index)).min(axis=0), rings.ring(int(index)).max(axis=0)
        part = labels[top:bottom, left:right]
        part[ndimage.binary_fill_holes(part == index + 1)] = index + 1


@njit(cache=True)
def _touching_themselves(labels: Labels, count: int) -> npt.NDArray[np.bool_]:
    """bool (count + 1,): labels with two pixels that meet only in a corner; their outer ring passes it twice, around what lies between."""
    out = np.zeros(count + 1, np.bool_)
    for y in range(1, labels.shape[0]):
        for x in range(1, labels.shape[1]):
            a, b, c, d = labels[y - 1, x - 1], labels[y - 1, x], labels[y, x - 1], labels[y, x]
            if a == d and b != a and c != a:
                out[a] = True
            if b == c and a != b and d != b:
                out[b] = True
    out[0] = False
    return out


def within_area(labels: Labels, limits: NucleusLimits) -> tuple[Labels, int]:
    """Only the objects of a permitted area, renumbered from 1 in the same order."""
    areas = first_pixels(labels, int(labels.max()))[1]
    areas_um2 = areas * limits.mpp**2
    keep = (areas > 0) & (areas_um2 >= limits.min_area_um2) & (areas_um2 <= limits.max_area_um2)
    return only(labels, keep)


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


def _opened(labels: Labels, limits: NucleusLimits) -> Labels:
    """Without the spikes and specks that the cut at half height left."""
    return np.where(cv2.morphologyEx((labels > 0).astype(np.uint8), cv2.MORPH_OPEN, _disk(limits)), labels, 0).astype(np.int32)


def _disk(limits: NucleusLimits) -> Bytes:
    size = 2 * limits.pixels(_OPEN_UM) - 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _cleaned(mask: Bytes, limits: NucleusLimits) -> Bytes:
    """The mask without specks and bridges thinner than the opening, and without small holes."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disk(limits), borderType=cv2.BORDER_REPLICATE)
    regions, count = split_pieces((1 - opened).astype(np.int32))
    small = first_pixels(regions, count)[1] * limits.mpp**2 < _HOLE_UM2
    small &= extents(regions, count) <= limits.pixels(_HOLE_EXTENT_UM)
    small[0] = True  # The foreground itself.
    # A region at the edge of the window may be the end of a large one.
    border = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    small[border[border > 0]] = False
    return np.asarray(small.astype(np.uint8)[regions], np.uint8)


def _split(mask: Bytes, limits: NucleusLimits) -> Labels:
    """Touching nuclei cut apart: each pixel to the nearest seed, as far as it hangs together with it. Numbered without gaps."""
    seeds = _seeds(mask, limits)
    distance, nearest = cv2.distanceTransformWithLabels(1 - seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    near = mask & (distance <= limits.pixels(_SEED_REACH_UM)).astype(np.uint8)
    pieces, count = split_pieces(np.asarray(cv2.copyTo(nearest, near), np.int32))
    labels = _with_seed(pieces, count, seeds)
    grow(labels, mask, limits.pixels(_GROWTH_UM))
    _add_seedless(labels, mask, count + 1)
    return split_pieces(labels)[0]


@njit(cache=True)
def _add_seedless(labels: Labels, mask: Bytes, number: int) -> None:
    """Give what hangs together with no seed at all the label `number`: pieces too thin for a seed. In place."""
    rest, count = split_pieces(np.where((labels == 0) & (mask > 0), 1, 0).astype(np.int32))
    is_free = np.ones(count + 1, np.bool_)
    is_free[0] = False
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                for dx, dy in ((0, -1), (-1, 0), (1, 0), (0, 1)):
                    u, v = x + dx, y + dy
                    if 0 <= u < width and 0 <= v < height:
                        is_free[rest[v, u]] = False
    for y in range(height):
        for x in range(width):
            if is_free[rest[y, x]]:
                labels[y, x] = number


@njit(cache=True)
def _with_seed(pieces: Labels, count: int, seeds: Bytes) -> Labels:
    """The pieces that hold a seed, 0 elsewhere."""
    has_seed = np.zeros(count + 1, np.bool_)
    for y in range(pieces.shape[0]):
        for x in range(pieces.shape[1]):
            if seeds[y, x] > 0:
                has_seed[pieces[y, x]] = True
    has_seed[0] = False
    out = np.zeros_like(pieces)
    for y in range(pieces.shape[0]):
        for x in range(pieces.shape[1]):
            if has_seed[pieces[y, x]]:
                out[y, x] = pieces[y, x]
    return out


def without_long(labels: Labels, max_extent_px: int) -> Labels:
    """Only the objects whose box is at most so wide and high, renumbered from 1 in the same order.

    What is longer may go on beyond any window, and would be cut at half height by other means in each.
    """
    return only(labels, extents(labels, int(labels.max())) <= max_extent_px)[0]


def only(labels: Labels, keep: npt.NDArray[np.bool_]) -> tuple[Labels, int]:
    """The objects whose entry in `keep` (count + 1,) is set, renumbered from 1 in the same order, and their number."""
    kept = keep.copy()
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels], int(kept.sum())


@njit(cache=True)
def extents(labels: Labels, count: int) -> npt.NDArray[np.int32]:
    """int32 (count + 1,): longer side of the box around each label, 0 for one that is absent."""
    low = np.full((2, count + 1), 1 << 30, np.int32)
    high = np.full((2, count + 1), -1, np.int32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0:
                low[0, label] = min(low[0, label], x)
                high[0, label] = max(high[0, label], x)
                low[1, label] = min(low[1, label], y)
                high[1, label] = max(high[1, label], y)
    out = np.zeros(count + 1, np.int32)
    for label in range(1, count + 1):
        out[label] = max(0, high[0, label] - low[0, label] + 1, high[1, label] - low[1, label] + 1)
    return out


def _seeds(mask: Bytes, limits: NucleusLimits) -> Bytes:
    """1 at the plateaus that are deepest inside the mask within the seed distance."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    # 8 bits, on which blurring is exact: the same nucleus gives the same seeds in every window.
    levels = cv2.GaussianBlur(cv2.convertScaleAbs(depth, alpha=_DEPTH_STEPS), (0, 0), _SEED_SMOOTH_UM / limits.mpp)
    size = 2 * limits.pixels(_SEED_DISTANCE_UM) + 1
    highest = cv2.dilate(levels, np.ones((size, size), np.uint8))
    deep = levels >= max(1, int(_SEED_DEPTH_UM / limits.mpp * _DEPTH_STEPS))
    return np.asarray((levels == highest) & deep & (mask > 0), np.uint8)


@njit(cache=True)
def grow(labels: Labels, mask: Bytes, steps: int) -> None:
    """Extend the labels over the rest of the mask, so many steps to the four neighbours; in place."""
    height, width = labels.shape
    queue = np.empty(height * width, np.int64)
    end = 0
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0 and _has_free_neighbour(labels, mask, x, y):
                queue[end] = y * width + x
                end += 1
    begin = 0
    for _ in range(steps):
        last = end
        for at in range(begin, last):
            y, x = queue[at] // width, queue[at] % width
            for dx, dy in ((0, -1), (-1, 0), (1, 0), (0, 1)):
                u, v = x + dx, y + dy
                if 0 <= u < width and 0 <= v < height and mask[v, u] > 0 and labels[v, u] == 0:
                    labels[v, u] = labels[y, x]
                    queue[end] = v * width + u
                    end += 1
        begin = last


@njit(cache=True)
def _has_free_neighbour(labels: Labels, mask: Bytes, x: int, y: int) -> bool:
    for dx, dy in ((0, -1), (-1, 0), (1, 0), (0, 1)):
        u, v = x + dx, y + dy
        if 0 <= u < labels.shape[1] and 0 <= v < labels.shape[0] and mask[v, u] > 0 and labels[v, u] == 0:
            return True
    return False
