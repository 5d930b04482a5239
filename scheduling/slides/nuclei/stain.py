"""Colour deconvolution of H&E: optical densities of hematoxylin and eosin from RGB, by lookup tables.

The background and the stain vectors are fixed once for a slide and handed to every tile: a constant estimated from one
tile would make neighbours disagree at their border. The arithmetic is additions of table entries, so a pixel gives the
same value wherever in a window it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.reading.interface import RGB

Floats = npt.NDArray[np.float32]
Vector = tuple[float, float, float]

#: Optical densities (R, G, B) of hematoxylin and eosin after Ruifrok and Johnston (2001).
HEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
#: Optical density of one grey level in the 8-bit stain image.
OD_STEP = 1 / 125
CUSTOMARY, ESTIMATED = "customary", "estimated"
#: Times as much as green, which both stains absorb most, red or blue may be absorbed: else it is ink, dye or pigment.
_FOREIGN = 1.1
_FEWEST_PIXELS = 1000
#: Degrees between the two stains, and at most from the customary hematoxylin and eosin. Eosins differ most between laboratories.
_ANGLES = (15.0, 60.0)
_HEMATOXYLIN_OFF, _EOSIN_OFF = 20.0, 35.0


@dataclass(frozen=True, kw_only=True)
class Stains:
    """What turns colours of one slide into stain densities."""

    #: Brightness (R, G, B) of glass without tissue.
    background: Vector
    hematoxylin: Vector = HEMATOXYLIN
    eosin: Vector = EOSIN
    #: CUSTOMARY or ESTIMATED: where the vectors are from.
    source: str = CUSTOMARY
    #: Why an estimate was not believed, so that the customary vectors stand in its place; "" when none was.
    doubt: str = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Stains:
        """Inverse of dataclasses.asdict."""
        background, hematoxylin, eosin = ((v[0], v[1], v[2]) for v in (data["background"], data["hematoxylin"], data["eosin"]))
        said = {name: data[name] for name in ("source", "doubt") if name in data}
        return cls(background=background, hematoxylin=hematoxylin, eosin=eosin, **said)


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


def background_of(histograms: npt.NDArray[np.int64]) -> Vector:
    """The 99.5th percentile of each channel; `histograms` is (3, 256), added up over windows."""
    levels = [int(np.searchsorted(np.cumsum(counts), 0.995 * counts.sum())) for counts in histograms]
    return (float(levels[0]), float(levels[1]), float(levels[2]))


def optical_densities(pixels: npt.NDArray[np.uint8], background: Vector) -> npt.NDArray[np.float64]:
    """What each channel has absorbed, (3, …), at least 0, of uint8 (…, 3)."""
    table = np.maximum(-np.log10((np.arange(256) + 1) / (np.asarray(background)[:, None] + 1)), 0)
    return np.stack([table[channel][pixels[..., channel]] for channel in range(3)])


def estimate(pixels: npt.NDArray[np.uint8], background: Vector, tissue_od: float) -> Stains:
    """Stain vectors of this slide (Macenko et al. 2009: extreme angles, 1 and 99 %, in the plane of the two largest eigenvectors).

    `pixels` is uint8 (n, 3); those whose densities add up to more than `tissue_od` count. Macenko asks for a least density in
    every channel: that drops the purest eosin, which hardly absorbs red. Where the answer is implausible (one stain only,
    another staining) the customary vectors are kept, with the doubt.
    """
    densities = optical_densities(pixels, background)
    stained = densities[:, (densities.sum(axis=0) > tissue_od) & (_FOREIGN * densities[1] >= densities.max(axis=0))].T
    customary = Stains(background=background)
    if len(stained) < _FEWEST_PIXELS:
        return replace(customary, doubt=f"only {len(stained)} of {len(pixels)} pixels looked at have the colours of H&E")
    blue, pink = _extremes(stained)
    if doubt := _doubt(blue, pink):
        return replace(customary, doubt=doubt)
    return Stains(background=background, hematoxylin=blue, eosin=pink, source=ESTIMATED)


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


def _extremes(stained: npt.NDArray[np.float64]) -> tuple[Vector, Vector]:
    """The two purest colours among optical densities (n, 3), hematoxylin's first."""
    plane = np.linalg.eigh(np.cov(stained.T))[1][:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    angles = np.arctan2(*(stained @ plane).T[::-1])
    one, other = (_unit(plane @ np.array([np.cos(angle), np.sin(angle)])) for angle in np.percentile(angles, (1, 99)))
    # Hematoxylin absorbs more red than eosin does.
    return (one, other) if one[0] / sum(one) > other[0] / sum(other) else (other, one)


def _doubt(blue: Vector, pink: Vector) -> str:
    """Why these are not hematoxylin and eosin; "" when they may be."""
    least, most = _ANGLES
    if not least <= _degrees(blue, pink) <= most:
        return f"the two purest colours are {_degrees(blue, pink):.0f}° apart, where {least:g} to {most:g}° are plausible"
    for name, found, customary, off in (("hematoxylin", blue, HEMATOXYLIN, _HEMATOXYLIN_OFF), ("eosin", pink, EOSIN, _EOSIN_OFF)):
        if _degrees(found, customary) > off:
            return f"the purest colour on the side of {name} is {_degrees(found, customary):.0f}° off the customary one, more than {off:g}°"
    return ""


def _degrees(one: Vector, other: Vector) -> float:
    cosine = np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _unit(vector: npt.NDArray[np.float64]) -> Vector:
    absorbed = np.maximum(vector, 0)
    # Four decimals: the last bits of an eigenvector differ between linear algebra libraries.
    red, green, blue = (round(float(value), 4) for value in absorbed / np.linalg.norm(absorbed))
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
