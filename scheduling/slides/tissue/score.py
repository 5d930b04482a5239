"""How much each pixel of an overview looks like tissue, by colour, by darkness or by texture, and where glass ends.

The glass is estimated first, from the slide itself: its tint and its brightness, which may fall off towards the edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.nuclei.stain import otsu_level, separability
from scheduling.slides.reading.interface import RGB
from scheduling.slides.tissue.constants import TissueParameters

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

#: Small enough to keep a strand of tissue 40 microns wide.
_MEDIAN_UM = 24.0
_WHITE = 253
#: Glass is a peak of brightness that holds this part of the bright pixels, and hardly tinted.
_PEAK_PART, _PEAK_LEVELS, _BRIGHT = 0.05, 3, 0.8
_GLASS_SATURATION = 30
#: Light may fall off by this much; what is darker is no glass.
_FALL_OFF = 0.85
#: What is more saturated against the glass is stained.
_STAINED = 8
_FIELD_PIXEL_UM, _FIELD_REACH_UM, _FIELD_BLUR_UM = 64.0, 5000.0, 250.0
#: What thresholds are plausible: saturation; darkness as a part of the glass; bits.
_SATURATIONS, _DARKNESSES, _BITS = (8, 20), (0.05, 0.12), (0.6, 1.2)
#: Otsu cuts midway between glass and the average tissue; the pale parts lie nearer to the glass.
_OF_OTSU = 0.6
_BITS_STEP = 1 / 50
_WINDOW_UM = 72.0
#: Optical density of a level; levels of a step: more than the noise of glass.
_OD_LEVEL = 1 / 400
_STEP_LEVELS = 6
_OD_BINS = 21
_LEAST_OD = 0.015


@dataclass(frozen=True, kw_only=True)
class Score:
    """uint8 (h, w): a pixel whose value is above `threshold` is tissue."""

    values: Bytes
    threshold: int
    separability: float
    #: Whether the method would have cut within the noise of the glass, and was held above it.
    is_limited: bool
    #: In the unit of the parameter `threshold`.
    stated: float

    @property
    def foreground(self) -> Flags:
        """Where there is tissue."""
        return np.asarray(self.values > self.threshold)


@dataclass(frozen=True, kw_only=True)
class Glass:
    """Colour of the empty slide, R, G, B."""

    color: tuple[int, int, int]

    @property
    def grey(self) -> int:
        """Brightness as OpenCV weighs it."""
        red, green, blue = self.color
        return round(0.299 * red + 0.587 * green + 0.114 * blue)


def score(rgb: RGB, usable: Flags, pixel_um: float, parameters: TissueParameters) -> Score:
    """Score and threshold by the method of `parameters`; `usable` pixels (neither ink nor padding) make the histogram."""
    glass = find_glass(rgb, usable)
    by_method = {"saturation": _by_saturation, "grey": _by_grey, "entropy": _by_entropy}
    return by_method[parameters.method](rgb, usable, glass, pixel_um, parameters.threshold)


def find_glass(rgb: RGB, usable: Flags) -> Glass:
    """The brightest peak of the slide that is no pure white (padding) and hardly tinted; a neutral one where there is no glass."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    real = usable & (_darkest(rgb) < _WHITE)
    counts = _histogram(grey, real)
    if counts.sum() < 0.001 * grey.size:
        return Glass(color=(255, 255, 255))
    top = int(np.searchsorted(np.cumsum(counts), 0.995 * counts.sum()))
    peak = _brightest_peak(counts, top)
    near_peak = real & (grey >= peak - 2) & (grey <= peak + 2)
    red, green, blue = (_median(_histogram(plane, near_peak)) for plane in _planes(rgb))
    tint = 255 * (1 - min(red, green, blue) / max(1, red, green, blue))
    return Glass(color=(red, green, blue)) if tint <= _GLASS_SATURATION else Glass(color=(top, top, top))


def _brightest_peak(counts: npt.NDArray[np.int64], top: int) -> int:
    """The brightest level around which much of what is nearly as bright as `top` lies."""
    bright = counts.copy()
    bright[: int(_BRIGHT * top)] = 0
    near = np.convolve(bright, np.ones(2 * _PEAK_LEVELS + 1, np.int64), "same")
    upper = int(np.flatnonzero(near >= _PEAK_PART * bright.sum())[-1])
    # That is on the upper slope of the peak, or beyond: its top is a little lower.
    lower = max(0, upper - 2 * _PEAK_LEVELS)
    return lower + int(np.argmax(bright[lower : upper + 1]))


def _by_saturation(rgb: RGB, usable: Flags, glass: Glass, pixel_um: float, given: float | None) -> Score:
    """Saturation against white and against the glass, whichever is less: neither padding nor tinted glass has any."""
    least = cv2.min(saturation(rgb), saturation(_balanced(rgb, glass)))
    values = np.asarray(cv2.medianBlur(least, _odd(_MEDIAN_UM / pixel_um, 3, 7)), np.uint8)
    low, high = _SATURATIONS
    return _judged(values, usable, (low, high), given, float)


def _by_grey(rgb: RGB, usable: Flags, glass: Glass, pixel_um: float, given: float | None) -> Score:
    """Darkness below the glass around."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    flat = _flattened(grey, glass.grey, saturation(_balanced(rgb, glass)), pixel_um)
    values = np.asarray(glass.grey - np.minimum(flat, glass.grey), np.uint8)
    low, high = (round(part * glass.grey) for part in _DARKNESSES)
    wanted = None if given is None else max(0.0, glass.grey - given)
    return _judged(values, usable, (low, high), wanted, lambda level: glass.grey - level)


def _by_entropy(rgb: RGB, usable: Flags, glass: Glass, pixel_um: float, given: float | None) -> Score:
    """Local entropy of the optical density of the darkest channel about its local mean, where a pixel is darker than glass at all."""
    balanced, white = _balanced(rgb, glass), max(glass.color)
    flat = _flattened(_darkest(balanced), white, saturation(balanced), pixel_um)
    levels = np.log10((white + 1) / (np.minimum(np.arange(256), white) + 1)) / _OD_LEVEL
    density = np.asarray(cv2.LUT(flat, np.clip(np.round(levels), 0, 255).astype(np.uint8)), np.uint8)
    window = _odd(_WINDOW_UM / pixel_um, 5, 15)
    values = _entropy(_steps_about_mean(density, window), window)
    values[density < _LEAST_OD / _OD_LEVEL] = 0
    low, high = (round(bits / _BITS_STEP) for bits in _BITS)
    wanted = None if given is None else given / _BITS_STEP
    return _judged(values, usable, (low, high), wanted, lambda level: level * _BITS_STEP)


def _steps_about_mean(density: Bytes, window: int) -> Bytes:
    """Steps of _STEP_LEVELS levels, the middle one around the mean of the window: of a smooth shadow all pixels are in the middle."""
    mean = cv2.blur(density, (window, window), borderType=cv2.BORDER_REPLICATE)
    difference = density.astype(np.int16) - mean
    steps = (difference + _STEP_LEVELS // 2) // _STEP_LEVELS + _OD_BINS // 2
    return np.asarray(np.clip(steps, 0, _OD_BINS - 1), np.uint8)


def _judged(values: Bytes, usable: Flags, plausible: tuple[int, int], given: float | None, stated: Callable[[float], float]) -> Score:
    counts = _histogram(values, usable)
    level = otsu_level(counts)
    wanted = round(_OF_OTSU * level)
    threshold = int(np.clip(wanted, *plausible)) if given is None else int(np.clip(math.floor(given), 0, 255))
    return Score(
        values=values,
        threshold=threshold,
        separability=separability(counts, level),
        is_limited=given is None and wanted < plausible[0],
        stated=round(float(stated(threshold)), 4),
    )


def _histogram(plane: Bytes, where: Flags) -> npt.NDArray[np.int64]:
    """int64 (256,): how often each level occurs."""
    counts = cv2.calcHist([plane], [0], where.view(np.uint8), [256], [0, 256])
    return np.asarray(counts, np.float32).reshape(-1).astype(np.int64)


def _median(counts: npt.NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))


def saturation(rgb: RGB) -> Bytes:
    """HSV saturation, uint8 (h, w)."""
    most = brightest(rgb)
    return np.asarray(cv2.divide(cv2.subtract(most, _darkest(rgb)), most, scale=255), np.uint8)


def _planes(rgb: RGB) -> list[Bytes]:
    return [np.asarray(plane, np.uint8) for plane in cv2.split(rgb)]


def brightest(rgb: RGB) -> Bytes:
    """The largest of the three channels, uint8 (h, w)."""
    red, green, blue = _planes(rgb)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _darkest(rgb: RGB) -> Bytes:
    red, green, blue = _planes(rgb)
    return np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)


def _balanced(rgb: RGB, glass: Glass) -> RGB:
    """The colours as if the glass were neutral."""
    white = max(glass.color)
    tables = [np.clip(np.round(np.arange(256) * white / max(1, level)), 0, 255) for level in glass.color]
    return np.asarray(cv2.LUT(rgb, np.stack(tables, axis=1).astype(np.uint8).reshape(1, 256, 3)), np.uint8)


def _flattened(plane: Bytes, level: int, colours: Bytes, pixel_um: float) -> Bytes:
    """The plane as if it were lit evenly, its glass at `level`: each place against the unstained around, up to 5 mm."""
    # Whatever is brighter than glass (padding, glare) must not darken what is around it.
    smooth = np.asarray(cv2.medianBlur(np.minimum(plane, level), _odd(_MEDIAN_UM / pixel_um, 3, 7)), np.uint8)
    step = max(1, round(_FIELD_PIXEL_UM / pixel_um))
    size = (-(-plane.shape[1] // step), -(-plane.shape[0] // step))
    small, stained = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (smooth, colours))
    small[stained > _STAINED] = 0
    # Closing fills what is darker and less wide than the square, and follows a slope exactly.
    reach = max(1, round(_FIELD_REACH_UM / (step * pixel_um)))
    # With room around, in which what lies at the border goes on: squares there need not reach far inwards.
    roomy = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(roomy, cv2.MORPH_CLOSE, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    field = closed[reach:-reach, reach:-reach].copy()
    field[field == 0] = level  # no glass in reach: as the slide's
    field = cv2.GaussianBlur(field, (0, 0), max(1.0, _FIELD_BLUR_UM / (step * pixel_um)), borderType=cv2.BORDER_REPLICATE)
    wide = cv2.resize(np.maximum(field, round(_FALL_OFF * level)), (plane.shape[1], plane.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.divide(smooth, wide, scale=level), np.uint8)


def _entropy(binned: Bytes, window: int) -> Bytes:
    """Shannon entropy of the steps within `window` x `window` pixels, in fiftieths of a bit.

    One box filter for each step: the work does not grow with the window. All sums are integers.
    """
    number = window * window
    counts = np.arange(256)
    # One window full of one step makes the largest sum: it is what 16 bits hold.
    scale = 65_535 / (number * math.log2(number))
    table = np.where(counts > 1, np.round(scale * counts * np.log2(np.maximum(counts, 1))), 0)
    table = np.minimum(table, 65_535).astype(np.uint16)
    total = np.zeros(binned.shape, np.uint16)
    for step in range(_OD_BINS):
        here = (binned == step).view(np.uint8)
        inside = cv2.boxFilter(here, cv2.CV_8U, (window, window), normalize=False, borderType=cv2.BORDER_REPLICATE)
        total = np.asarray(cv2.add(total, cv2.LUT(inside, table)), np.uint16)
    bits = math.log2(number) - np.arange(65_536) / scale / number
    return np.asarray(np.clip(np.round(bits / _BITS_STEP), 0, 255).astype(np.uint8)[total])


def _odd(size_px: float, least: int, most: int) -> int:
    return int(np.clip(round(size_px), least, most)) | 1
