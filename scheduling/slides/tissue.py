"""Where on a slide there is tissue: a mask at about 8 microns per pixel from the whole slide, and its polygons.

Every size is physical. A mask is never silently empty: whatever makes it doubtful is said in its warnings.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from scheduling.slides.contours import trace
from scheduling.slides.interface import RGB, SlideReader
from scheduling.slides.measure import polygons
from scheduling.slides.stain import otsu_level, separability

cv2.setNumThreads(1)

Bytes = npt.NDArray[np.uint8]

MASK_MPP = 8.0
_MAX_PIXELS = 25_000_000
#: Small enough to keep a strand of tissue 40 microns wide.
_MEDIAN_UM = 24.0
_PEN_SATURATION = 120
_PADDING_BELOW = 10
_SATURATION_RANGE = (8, 40)
_GREY_RANGE = (0.80, 0.95)
_MIN_SEPARABILITY = 0.3
_PLAUSIBLE_FRACTION = (0.001, 0.95)


@dataclass(frozen=True, kw_only=True)
class TissueParameters:
    """How tissue is told from glass."""

    method: str = "saturation"
    min_area_mm2: float = 0.02
    max_hole_mm2: float = 0.02
    close_um: float = 40.0
    dilate_um: float = 16.0
    #: Fixes the saturation (0-255) or grey level instead of Otsu's choice.
    threshold: int | None = None


@dataclass(frozen=True, kw_only=True)
class TissueMask:
    """uint8 (h, w), 255 on tissue; a pixel is `downsample` full-resolution pixels wide."""

    mask: Bytes
    downsample: int
    mpp: float
    threshold: int
    separability: float
    warnings: tuple[str, ...]

    @property
    def area_mm2(self) -> float:
        """Area of tissue."""
        return float(np.count_nonzero(self.mask) * (self.mpp * self.downsample / 1000) ** 2)


def mask_downsample(width: int, height: int, mpp: float) -> int:
    """Full-resolution pixels in a mask pixel along a side: about 8 microns, coarser where the mask would pass 25 megapixels."""
    downsample = max(1, round(MASK_MPP / mpp))
    while -(-width // downsample) * -(-height // downsample) > _MAX_PIXELS:
        downsample *= 2
    return downsample


def read_overview(reader: SlideReader, downsample: int) -> RGB:
    """The whole slide at mask resolution."""
    return reader.read_scaled(0, 0, -(-reader.width // downsample), -(-reader.height // downsample), downsample)


def find_tissue(overview: RGB, downsample: int, mpp: float, parameters: TissueParameters) -> TissueMask:
    """The mask of an overview whose pixels are `downsample` pixels of `mpp` microns wide."""
    rgb = overview.copy()
    # Some scanners pad with black what they did not scan.
    rgb[(rgb < _PADDING_BELOW).all(axis=2)] = 255
    hsv = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), np.uint8)
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    pixel_um = mpp * downsample
    found, threshold, quality = _foreground(hsv, grey, pixel_um, parameters)
    mask = _shaped((found & ~_pen(hsv)).astype(np.uint8) * 255, pixel_um, parameters)
    return TissueMask(
        mask=mask,
        downsample=downsample,
        mpp=mpp,
        threshold=threshold,
        separability=quality,
        warnings=tuple(_doubts(mask, quality if parameters.threshold is None else 1.0)),
    )


def tissue_polygons(found: TissueMask, width: int, height: int) -> list[shapely.Polygon]:
    """Polygons with holes along pixel edges, in full-resolution pixels, largest first, clipped to the slide."""
    count, labels = cv2.connectedComponents(found.mask, connectivity=4, ltype=cv2.CV_32S)
    shapes = [_with_holes(labels == label) for label in range(1, count)]
    scaled = [shapely.transform(shape, lambda xy: np.minimum(xy * found.downsample, (width, height))) for shape in shapes]
    return sorted(scaled, key=lambda shape: -shape.area)


def _foreground(hsv: Bytes, grey: Bytes, pixel_um: float, parameters: TissueParameters) -> tuple[npt.NDArray[np.bool_], int, float]:
    """(foreground, threshold, separability) by saturation, or by darkness for stains that hardly have a colour."""
    saturated = parameters.method == "saturation"
    size = int(np.clip(round(_MEDIAN_UM / pixel_um), 3, 7)) | 1
    values = cv2.medianBlur(np.ascontiguousarray(hsv[:, :, 1]) if saturated else grey, size)
    counts = np.bincount(values.reshape(-1), minlength=256).astype(np.int64)
    level = otsu_level(counts)
    background = int(np.searchsorted(np.cumsum(np.bincount(grey.reshape(-1), minlength=256)), 0.995 * grey.size))
    low, high = _SATURATION_RANGE if saturated else (round(part * background) for part in _GREY_RANGE)
    threshold = parameters.threshold if parameters.threshold is not None else int(np.clip(level, low, high))
    if saturated:
        return (values > threshold) & (grey < 0.93 * background), threshold, separability(counts, level)
    return values <= threshold, threshold, separability(counts, level)


def _pen(hsv: Bytes) -> npt.NDArray[np.bool_]:
    """Marker ink: blackish grey, or strongly coloured green to blue (OpenCV hues 35-125 of 180)."""
    hue, saturation, value = (hsv[:, :, channel] for channel in range(3))
    return np.asarray(((value < 85) & (saturation < 60)) | ((hue >= 35) & (hue <= 125) & (saturation > _PEN_SATURATION)))


def _shaped(mask: Bytes, pixel_um: float, parameters: TissueParameters) -> Bytes:
    """Gaps closed, small holes filled, small pieces dropped, grown a little so that no border nucleus is lost."""
    pixel_mm2 = (pixel_um / 1000) ** 2
    mask = _morphed(mask, cv2.MORPH_CLOSE, parameters.close_um / pixel_um)
    mask = 255 - _without_small(255 - mask, parameters.max_hole_mm2 / pixel_mm2)
    mask = _without_small(mask, parameters.min_area_mm2 / pixel_mm2)
    return _morphed(mask, cv2.MORPH_DILATE, parameters.dilate_um / pixel_um)


def _morphed(mask: Bytes, operation: int, radius_px: float) -> Bytes:
    radius = round(radius_px)
    if radius < 1:
        return mask
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # Room around it: closing must not glue tissue to the border of the picture.
    padded = cv2.copyMakeBorder(mask, radius, radius, radius, radius, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.morphologyEx(padded, operation, disk), np.uint8)[radius:-radius, radius:-radius].copy()


def _without_small(mask: Bytes, min_px: float) -> Bytes:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4, ltype=cv2.CV_32S)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_px
    keep[0] = False
    return np.asarray((keep.astype(np.uint8) * 255)[labels], np.uint8)


def _doubts(mask: Bytes, quality: float) -> list[str]:
    fraction = np.count_nonzero(mask) / mask.size
    if fraction == 0:
        return ["No tissue was found. If there is some, lower the threshold or min_area_mm2, or try the other method."]
    doubts = []
    if fraction < _PLAUSIBLE_FRACTION[0]:
        doubts.append(f"Only {fraction:.2%} of the slide was taken for tissue; check the mask.")
    if fraction > _PLAUSIBLE_FRACTION[1]:
        doubts.append(f"{fraction:.0%} of the slide was taken for tissue; check the mask.")
    if quality < _MIN_SEPARABILITY:
        doubts.append("Tissue and background hardly differ on this slide; check the mask.")
    return doubts


def _with_holes(piece: npt.NDArray[np.bool_]) -> shapely.Polygon:
    """One 4-connected piece as a polygon; its holes are traced piece by piece and so touch at most in corners."""
    count, regions = cv2.connectedComponents((~np.pad(piece, 1)).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    outside = regions == regions[0, 0]
    solid = (~outside)[1:-1, 1:-1].astype(np.int32)
    shell = polygons(trace(solid, 1))[0]
    holes = [_solid_ring(regions[1:-1, 1:-1] == region) for region in range(1, count) if region != regions[0, 0]]
    return shapely.Polygon(shell.exterior, holes)


def _solid_ring(hole: npt.NDArray[np.bool_]) -> shapely.LinearRing:
    ring: shapely.LinearRing = polygons(trace(ndimage.binary_fill_holes(hole).astype(np.int32), 1))[0].exterior
    return ring
