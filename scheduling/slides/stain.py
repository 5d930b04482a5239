"""Colour deconvolution of H&E: optical densities of hematoxylin and eosin from RGB, by lookup tables.

The background and the stain vectors are fixed once for a slide and handed to every tile: a constant estimated from one
tile would make neighbours disagree at their border. The arithmetic is additions of table entries, so a pixel gives the
same value wherever in a window it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.interface import RGB

Floats = npt.NDArray[np.float32]

#: Optical densities (R, G, B) of hematoxylin and eosin after Ruifrok and Johnston (2001).
HEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
#: Optical density of one grey level in the 8-bit stain image.
OD_STEP = 1 / 125
_TISSUE_OD = 0.15
_ANGLES = (15.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class Stains:
    """What turns colours of one slide into stain densities."""

    #: Brightness (R, G, B) of glass without tissue.
    background: tuple[float, float, float]
    hematoxylin: tuple[float, float, float] = HEMATOXYLIN
    eosin: tuple[float, float, float] = EOSIN

    @classmethod
    def from_json(cls, data: dict[str, list[float]]) -> Stains:
        """Inverse of dataclasses.asdict."""
        background, hematoxylin, eosin = ((v[0], v[1], v[2]) for v in (data["background"], data["hematoxylin"], data["eosin"]))
        return cls(background=background, hematoxylin=hematoxylin, eosin=eosin)


def densities(rgb: RGB, stains: Stains) -> tuple[Floats, Floats]:
    """float32 (h, w) optical densities of hematoxylin and of eosin; noise around zero is kept, negative too."""
    return _looked_up(np.ascontiguousarray(rgb), _tables(stains))


def to_levels(density: Floats) -> npt.NDArray[np.uint8]:
    """A density as 8-bit levels of OD_STEP, clipped at 0 and 255."""
    return _clipped_levels(density, np.float32(1 / OD_STEP))


@njit(cache=True)
def _clipped_levels(density: Floats, steps: np.float32) -> npt.NDArray[np.uint8]:
    out = np.empty(density.shape, np.uint8)
    for y in range(density.shape[0]):
        for x in range(density.shape[1]):
            out[y, x] = min(np.float32(255), max(np.float32(0), np.rint(density[y, x] * steps)))
    return out


def background_of(histograms: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """The 99.5th percentile of each channel; `histograms` is (3, 256), added up over windows."""
    levels = [int(np.searchsorted(np.cumsum(counts), 0.995 * counts.sum())) for counts in histograms]
    return (float(levels[0]), float(levels[1]), float(levels[2]))


def estimate(pixels: npt.NDArray[np.uint8], background: tuple[float, float, float]) -> Stains:
    """Stain vectors of this slide (Macenko et al. 2009: extreme angles, 1 and 99 %, in the plane of the two largest eigenvectors).

    `pixels` is uint8 (n, 3). Where the two angles are implausible (one stain only, another staining) the customary vectors are kept.
    """
    stained = -np.log10((pixels.astype(np.float64) + 1) / (np.asarray(background) + 1))
    stained = stained[(stained > _TISSUE_OD).all(axis=1)]
    customary = Stains(background=background)
    if len(stained) < 1000:
        return customary
    plane = np.linalg.eigh(np.cov(stained.T))[1][:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    angles = np.arctan2(*(stained @ plane).T[::-1])
    first, last = (plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in np.percentile(angles, (1, 99)))
    # Hematoxylin absorbs more red than eosin does.
    blue, pink = (first, last) if first[0] / first.sum() > last[0] / last.sum() else (last, first)
    if not _plausible(blue, pink):
        return customary
    return Stains(background=background, hematoxylin=_unit(blue), eosin=_unit(pink))


def otsu_level(counts: npt.NDArray[np.int64]) -> int:
    """Otsu's threshold of a histogram: the last level of the lower class; 0 for an empty one."""
    total = counts.sum()
    levels = np.arange(len(counts))
    below = np.cumsum(counts).astype(np.float64)
    sums = np.cumsum(counts * levels).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below - total * sums) ** 2 / (below * (total - below))
    return int(np.argmax(np.nan_to_num(between, nan=0.0, posinf=0.0)))


def separability(counts: npt.NDArray[np.int64], level: int) -> float:
    """Otsu's measure of a threshold: between-class variance over total variance, 0 to 1."""
    levels, weights = np.arange(len(counts)), counts / max(1, counts.sum())
    mean = (weights * levels).sum()
    variance = (weights * (levels - mean) ** 2).sum()
    low = weights[: level + 1].sum()
    if variance == 0 or low in {0.0, 1.0}:
        return 0.0
    low_mean = (weights * levels)[: level + 1].sum() / low
    return float((mean - low_mean) ** 2 * low / (1 - low) / variance)


def _plausible(blue: npt.NDArray[np.float64], pink: npt.NDArray[np.float64]) -> bool:
    if (blue < 0).any() or (pink < 0).any():
        return False
    cosine = blue @ pink / np.linalg.norm(blue) / np.linalg.norm(pink)
    return bool(_ANGLES[0] <= np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= _ANGLES[1])


def _unit(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    # Four decimals: the last bits of an eigenvector differ between linear algebra libraries.
    red, green, blue = (round(float(value), 4) for value in vector / np.linalg.norm(vector))
    return (red, green, blue)


@lru_cache(maxsize=8)
def _tables(stains: Stains) -> npt.NDArray[np.float32]:
    """(2 stains, 3 channels, 256): what a grey level of a channel adds to the density of a stain."""
    blue, pink = (np.asarray(v) / np.linalg.norm(v) for v in (stains.hematoxylin, stains.eosin))
    rest = np.cross(blue, pink)
    inverse = np.linalg.inv(np.stack([blue, pink, rest / np.linalg.norm(rest)]))
    levels = -np.log10((np.arange(256) + 1) / (np.asarray(stains.background)[:, None] + 1))
    return np.stack([inverse[:, stain, None] * np.maximum(levels, 0) for stain in range(2)]).astype(np.float32)


@njit(cache=True)
def _looked_up(rgb: RGB, tables: Floats) -> tuple[Floats, Floats]:
    first, second = np.empty(rgb.shape[:2], np.float32), np.empty(rgb.shape[:2], np.float32)
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            red, green, blue = rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2]
            first[y, x] = tables[0, 0, red] + tables[0, 1, green] + tables[0, 2, blue]
            second[y, x] = tables[1, 0, red] + tables[1, 1, green] + tables[1, 2, blue]
    return first, second
