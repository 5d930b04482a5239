"""What is fixed once for a slide before its nuclei are sought: background, stain vectors, thresholds.

Estimated on windows that depend on the slide and its tissue alone, never on how the slide is cut into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.nuclei.detection import frozen_levels, smoothed_levels
from scheduling.slides.nuclei.stain import OD_STEP, Stains, background_of, densities, estimate, optical_densities, otsu_level
from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.scale import Scale
from scheduling.slides.reading.tiling import Grid, read_window

SAMPLE_PX = 512
_SAMPLES = 16
_PIXELS = 1 << 19
#: Sum of the optical densities of three channels from which a pixel is tissue rather than glass.
_TISSUE_OD = 0.36
_OD_BIN = 0.02
_WHITE = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The constants of one slide."""

    stains: Stains
    dark_level: int
    pale_level: int


def calibrate(
    reader: SlideReader,
    mask: npt.NDArray[np.uint8],
    mask_downsample: float | Fraction,
    downsample: Scale,
    mpp: float,
    *,
    estimate_stains: bool = False,
    threshold_od: float | None = None,
) -> Calibration:
    """The constants of a slide, from up to 16 windows of 512 model pixels spread over its tissue.

    `mask` has pixels of `mask_downsample` model pixels; `mpp` is microns per model pixel. Raises ValueError when the mask is empty.
    """
    windows = sampled(reader, mask, mask_downsample, downsample, _SAMPLES)
    stains = stains_of(windows, are_estimated=estimate_stains)
    tissue_od = _tissue_od(_thinned(windows), stains.background)
    counts = sum((_level_counts(rgb, stains, mpp, tissue_od) for rgb in windows), np.zeros(256, np.int64))
    dark, pale = frozen_levels(counts)
    if threshold_od is not None:
        pale = min(255, round(threshold_od / OD_STEP))
        dark = max(dark, pale)
    return Calibration(stains=stains, dark_level=dark, pale_level=pale)


def stains_of(windows: list[RGB], *, are_estimated: bool = True) -> Stains:
    """Background and stain vectors of a slide by windows over its tissue; the customary vectors when none are to be estimated."""
    background = background_of(sum((_inside(rgb) for rgb in windows), np.zeros((3, 256), np.int64)))
    if not are_estimated:
        return Stains(background=background)
    pixels = _thinned(windows)
    return estimate(pixels, background, _tissue_od(pixels, background))


def sampled(
    reader: SlideReader, mask: npt.NDArray[np.uint8], mask_downsample: float | Fraction, downsample: Scale, at_most: int
) -> list[RGB]:
    """Windows of 512 model pixels, less what lies beyond the slide, spread evenly over the tissue, at most so many.

    Raises ValueError when the mask is empty.
    """
    grid = Grid.for_slide(reader.width, reader.height, downsample, SAMPLE_PX, 0)
    places = grid.meeting(mask, mask_downsample)
    if not places:
        raise ValueError("the mask is empty")
    number = min(at_most, len(places))
    boxes = (grid.window(places[index * len(places) // number]).clipped(grid.width, grid.height) for index in range(number))
    return [read_window(reader, box, downsample) for box in boxes]


def histograms(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """int64 (3, 256): how many of the pixels, uint8 (…, 3), have each level of each channel."""
    return np.stack([np.bincount(pixels[..., channel].reshape(-1), minlength=256) for channel in range(3)]).astype(np.int64)


def _inside(rgb: RGB) -> npt.NDArray[np.int64]:
    """`histograms` without white pixels: padding is white, and must not make the background brighter than the slide's own glass."""
    counts = histograms(rgb)
    counts[:, 255] -= cv2.countNonZero(cv2.inRange(rgb, _WHITE, _WHITE))
    return counts


def _thinned(windows: list[RGB]) -> npt.NDArray[np.uint8]:
    """uint8 (n, 3): pixels of the windows in equal steps, about half a million."""
    # An odd step goes through all columns of the blocks of eight that JPEG cuts a slide into.
    step = sum(rgb.size // 3 for rgb in windows) // _PIXELS | 1
    return np.concatenate([rgb.reshape(-1, 3)[::step] for rgb in windows])


def _tissue_od(pixels: npt.NDArray[np.uint8], background: tuple[float, float, float]) -> float:
    """The density from which a pixel is tissue: in a faint stain Otsu's threshold, where that is lower than the customary one."""
    bins = np.minimum(optical_densities(pixels, background).sum(axis=0) / _OD_BIN, 255).astype(np.int64)
    return min(_TISSUE_OD, max(1, otsu_level(np.bincount(bins, minlength=256).astype(np.int64))) * _OD_BIN)


def _level_counts(rgb: RGB, stains: Stains, mpp: float, tissue_od: float) -> npt.NDArray[np.int64]:
    """Histogram of the smoothed hematoxylin levels over tissue."""
    levels = smoothed_levels(densities(rgb, stains)[0], mpp)
    return np.bincount(levels[optical_densities(rgb, stains.background).sum(axis=0) > tissue_od], minlength=256).astype(np.int64)
