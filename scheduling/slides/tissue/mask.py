"""Where on a slide there is tissue: a mask at about 8 microns per pixel from the whole slide.

Every size is physical. A mask is never silently empty: whatever makes it doubtful is said in its warnings.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.overview import Blocks, mask_downsample, read_overview
from scheduling.slides.tissue import ink as tissue_ink
from scheduling.slides.tissue.constants import TissueParameters
from scheduling.slides.tissue.score import Score, saturation, score

__all__ = ["Blocks", "TissueMask", "TissueParameters", "find_tissue", "joined", "mask_downsample", "read_overview", "tissue_of"]

cv2.setNumThreads(1)

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_MIN_SEPARABILITY = 0.3
_PLAUSIBLE_FRACTION = (0.001, 0.95)
#: Of what is stained or dark, this much taken for ink is more than a mark on the glass.
_MUCH_INK = 0.8


@dataclass(frozen=True, kw_only=True)
class TissueMask:
    """uint8 (h, w), 255 on tissue; a pixel is `downsample` full-resolution pixels wide."""

    mask: Bytes
    #: uint8 (h, w), 255 where ink or black was taken out.
    removed: Bytes
    downsample: int
    mpp: float
    #: In the unit of the parameter `threshold`.
    threshold: float
    separability: float
    warnings: tuple[str, ...]

    @property
    def area_mm2(self) -> float:
        """Area of tissue."""
        return float(np.count_nonzero(self.mask) * (self.mpp * self.downsample / 1000) ** 2)


def tissue_of(reader: SlideReader, mpp: float, parameters: TissueParameters) -> TissueMask:
    """The mask of a slide, as a TISSUE_MASK job with these parameters finds it. Raises UnreadableSlide."""
    return find_tissue(read_overview(reader, mpp), mask_downsample(reader.width, reader.height, mpp), mpp, parameters)


def find_tissue(overview: RGB, downsample: int, mpp: float, parameters: TissueParameters) -> TissueMask:
    """The mask of an overview whose pixels are `downsample` pixels of `mpp` microns wide."""
    pixel_um = mpp * downsample
    padding, ink = _not_tissue(overview, pixel_um, parameters)
    removed = padding | ink
    found = score(overview, ~removed, pixel_um, parameters)
    foreground = found.foreground
    if parameters.method != "saturation":  # lines have no colour
        foreground &= ~tissue_ink.lines(foreground, saturation(overview), pixel_um)
    mask = _shaped(foreground, removed, pixel_um, parameters)
    doubts = _doubts(mask, found if parameters.threshold is None else None, parameters)
    return TissueMask(
        mask=mask,
        removed=removed.view(np.uint8) * np.uint8(255),
        downsample=downsample,
        mpp=mpp,
        threshold=found.stated,
        separability=found.separability,
        warnings=(*doubts, *_ink_doubts(found.foreground & ~padding, ink)),
    )


def joined(mask: Bytes) -> Bytes:
    """The mask with the gap filled wherever two pixels touch by a corner only: pieces and holes have then simple outlines."""
    mask = mask.copy()
    while True:
        a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
        crossed = ((a == d) & (b == c) & (a != b)).view(np.uint8)
        if not crossed.any():
            return mask
        for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = mask[top : top + crossed.shape[0], left : left + crossed.shape[1]]
            part |= crossed * np.uint8(255)


def _not_tissue(overview: RGB, pixel_um: float, parameters: TissueParameters) -> tuple[Flags, Flags]:
    """(padding, ink) as far as they are to be taken out."""
    nothing = np.zeros(overview.shape[:2], np.bool_)
    padding = tissue_ink.padding(overview) if parameters.remove_black else nothing
    ink = tissue_ink.black(overview, pixel_um) if parameters.remove_black else nothing
    if parameters.remove_pen:
        ink = ink | tissue_ink.pen(overview, pixel_um)
    return padding, ink


def _shaped(found: Flags, removed: Flags, pixel_um: float, parameters: TissueParameters) -> Bytes:
    """Gaps closed, small holes filled, small and thin pieces dropped, grown a little so that no border nucleus is lost."""
    pixel_mm2 = (pixel_um / 1000) ** 2
    mask = _morphed((found & ~removed).view(np.uint8) * np.uint8(255), cv2.MORPH_CLOSE, parameters.close_um / pixel_um)
    mask[removed] = 0
    mask = 255 - _without_small(255 - mask, parameters.max_hole_mm2 / pixel_mm2)
    mask = _without_small(mask, parameters.min_area_mm2 / pixel_mm2)
    mask = _without_thin(mask, parameters.min_width_um / pixel_um)
    return joined(_morphed(mask, cv2.MORPH_DILATE, parameters.dilate_um / pixel_um))


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


def _without_thin(mask: Bytes, min_width_px: float) -> Bytes:
    """Without the pieces that are nowhere `min_width_px` wide; what is cut off by the border of the slide counts as going on."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    # The distance is to the centre of the next pixel outside: half a pixel more than to the edge.
    deep = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] + 0.25 >= min_width_px / 2
    count, labels = cv2.connectedComponents(mask, connectivity=4, ltype=cv2.CV_32S)
    keep = np.zeros(count, np.uint8)
    keep[labels[deep]] = 255
    keep[0] = 0
    return np.asarray(keep[labels], np.uint8)


def _doubts(mask: Bytes, automatic: Score | None, parameters: TissueParameters) -> list[str]:
    """What makes the mask doubtful, and what may help; `automatic` is the score whose threshold was not given."""
    fraction = np.count_nonzero(mask) / mask.size
    if fraction == 0:
        return [f"No tissue was found. If there is some: {_more_sensitive(parameters)}."]
    doubts = []
    if fraction < _PLAUSIBLE_FRACTION[0]:
        doubts.append(
            f"Only {fraction:.3%} of the slide was taken for tissue; check the mask. To find more: {_more_sensitive(parameters)}."
        )
    if fraction > _PLAUSIBLE_FRACTION[1]:
        doubts.append(f"{fraction:.1%} of the slide was taken for tissue; check the mask. If there is glass: set threshold by hand.")
    if automatic and (automatic.separability < _MIN_SEPARABILITY or automatic.is_limited):
        doubts.append("Tissue and background hardly differ on this slide; check the mask, or set threshold by hand.")
    return doubts


def _more_sensitive(parameters: TissueParameters) -> str:
    """What finds more tissue."""
    ways = [] if parameters.preset == "biopsy" else ['preset "biopsy" for small pieces']
    ways += [f'method "{name}"' for name in ("grey", "entropy") if name != parameters.method]
    return ", ".join(("another threshold", "a smaller min_area_mm2", *ways))


def _ink_doubts(stained: Flags, ink: Flags) -> list[str]:
    """A warning when much of what looks stained was taken for ink; both without padding."""
    taken, all_of_it = np.count_nonzero(stained & ink), np.count_nonzero(stained)
    if taken <= _MUCH_INK * all_of_it or not taken:
        return []
    return [f"{taken / all_of_it:.0%} of the stained area was taken for ink; if it is tissue, set remove_pen or remove_black to false."]
