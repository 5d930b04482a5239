"""What lies on a slide without being tissue: black padding and black ink, strokes of coloured marker pens.

Ink is told from stain by its colour (green to blue, which H&E is not, or a red more saturated and brighter than blood) and
by its smoothness, as tissue has texture. Violet, pink and pale yellow ink cannot be told from stain.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.interface import RGB
from scheduling.slides.tissue.score import brightest

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_PADDING_BELOW = 10
_BLACK_VALUE, _BLACK_SATURATION = 85, 60
#: The pale rim of black ink.
_RIM_VALUE, _RIM_SATURATION, _BLACK_RIM_UM = 200, 60, 32.0
#: OpenCV's hues, 0-180: green 60, cyan 90, blue 120, violet 140, red 0.
_GREEN_TO_CYAN, _BLUE, _RED = (35, 105), (105, 125), (172, 22)
_COOL_SATURATION, _WARM_SATURATION = 110, 185
#: Darker red to brown is blood or DAB.
_WARM_VALUE = 150
_PALE_SATURATION = 40
_PEN_RIM_UM = 120.0
#: Grey levels between the darkest and the brightest of 3 x 3 pixels: strokes stay below, tissue above.
_SMOOTH_RANGE = 20
#: A smooth patch of ink is at least this wide.
_STROKE_UM = 80.0
_BLUR_UM = 16.0
_LINE_WIDTH_UM, _LINE_LENGTH_UM, _LINE_SATURATION = 96.0, 800.0, 12


def padding(rgb: RGB) -> Flags:
    """Where nothing was scanned: black, as some scanners leave it."""
    return np.asarray(brightest(rgb) < _PADDING_BELOW)


def black(rgb: RGB, pixel_um: float) -> Flags:
    """Black ink, dark folds of the coverslip, edges of the slide: dark without colour, and the grey rim around."""
    hsv = _hsv(rgb)
    saturation, value = hsv[:, :, 1], hsv[:, :, 2]
    dark = (value < _BLACK_VALUE) & (saturation < _BLACK_SATURATION)
    if not dark.any():
        return np.asarray(dark)
    rim = (value < _RIM_VALUE) & (saturation < _RIM_SATURATION)
    return _grown(dark | (_grown(dark, _BLACK_RIM_UM / pixel_um) & rim), _BLUR_UM / pixel_um)


def pen(rgb: RGB, pixel_um: float) -> Flags:
    """Strokes of green, blue, red and orange markers, with their pale rims."""
    hsv = _hsv(rgb)
    hue, saturation, value = (np.ascontiguousarray(hsv[:, :, channel]) for channel in range(3))
    green, blue, red = (_between(hue, hues) for hues in (_GREEN_TO_CYAN, _BLUE, _RED))
    strong = ((green | blue) & (saturation > _COOL_SATURATION)) | (red & (saturation > _WARM_SATURATION) & (value > _WARM_VALUE))
    if strong.any():
        strong = _opened(strong & _smooth(rgb), _STROKE_UM / 2 / pixel_um)
    if not strong.any():
        return np.asarray(strong)
    found = strong.copy()
    for hues in (green | blue, red):
        near = _grown(strong & hues, _PEN_RIM_UM / pixel_um)
        found |= near & hues & (saturation > _PALE_SATURATION)
    return _grown(found, _BLUR_UM / pixel_um)


def lines(found: Flags, saturation: Bytes, pixel_um: float) -> Flags:
    """What of the foreground is long, thin and without colour: edges of the coverslip, rims of bubbles, scratches."""
    thin = found & ~_opened(found, _LINE_WIDTH_UM / 2 / pixel_um)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    longer = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    colour = np.bincount(labels.reshape(-1), weights=saturation.reshape(-1)) / stats[:, cv2.CC_STAT_AREA]
    is_line = (longer * pixel_um >= _LINE_LENGTH_UM) & (colour < _LINE_SATURATION)
    is_line[0] = False
    return np.asarray(is_line[labels], np.bool_)


def _hsv(rgb: RGB) -> Bytes:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), np.uint8)


def _between(hue: Bytes, limits: tuple[int, int]) -> Flags:
    """Hues from the first limit on, up to but without the second; around zero when the first is larger."""
    first, last = limits
    return np.asarray((hue >= first) & (hue < last) if first < last else (hue >= first) | (hue < last))


def _smooth(rgb: RGB) -> Flags:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    square = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(grey, square), cv2.erode(grey, square))) <= _SMOOTH_RANGE


def _disk(radius_px: float) -> Bytes:
    radius = max(1, round(radius_px))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _grown(flags: Flags, radius_px: float) -> Flags:
    return np.asarray(cv2.dilate(flags.view(np.uint8), _disk(radius_px))) > 0


def _opened(flags: Flags, radius_px: float) -> Flags:
    return np.asarray(cv2.morphologyEx(flags.view(np.uint8), cv2.MORPH_OPEN, _disk(radius_px))) > 0
