"""Microns per pixel as a file states them: which statement is believed, and what is told of those that are not.

Some files give nanometres, some the dots per inch of a printer: what cannot be a slide's resolution is reported, never used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

PLAUSIBLE_MPP = (0.05, 5.0)
#: Beyond this the two directions are told apart; areas are right with their mean, lengths are not.
_UNEQUAL = 0.05
_MICRONS = {
    **{"pm": 1e-6, "å": 1e-4, "angstrom": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4},
    **{"centimeter": 1e4, "m": 1e6, "in": 25_400.0, "inch": 25_400.0, "thou": 25.4},
    # The micro sign and the Greek letter; both casefold to the letter.
    **dict.fromkeys(("\u03bcm", "um", "micron", "microns", "micrometer", "micrometre", "\\u00b5m", "&#181;m"), 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Microns per pixel in both directions, by one tag or property of a file; None where it is silent."""

    source: str
    x: float | None
    y: float | None = None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What is believed: `mpp` None when nothing is, `source` the tag or property it came from."""

    mpp: float | None = None
    source: str = ""
    warnings: tuple[str, ...] = ()


def resolution(statements: Iterable[Statement]) -> Resolution:
    """The first plausible statement, in order of trust. The mean of both directions is the geometric one: areas stay right."""
    warnings: list[str] = []
    for statement in statements:
        values = [v for v in (statement.x, statement.y) if v is not None and math.isfinite(v) and v > 0]
        if not values:
            continue
        mpp = math.sqrt(values[0] * values[-1])
        if PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            return Resolution(mpp=mpp, source=statement.source, warnings=(*warnings, *_unequal(values, statement.source)))
        warnings.append(_implausible(mpp, statement.source))
    return Resolution(warnings=tuple(warnings))


def microns(unit: str) -> float | None:
    """How many microns a unit of length has; None for what is none (pixel, reference frame, …)."""
    return _MICRONS.get(unit.strip().casefold())


def ome_statement(pixels: ElementTree.Element | None) -> Statement:
    """By PhysicalSizeX and PhysicalSizeY of OME's Pixels; without a unit they are in microns."""
    sizes = [_ome_size(pixels, axis) if pixels is not None else None for axis in "XY"]
    return Statement(source="ome.PhysicalSize", x=sizes[0], y=sizes[1])


def aperio_statement(description: str) -> Statement:
    """By `MPP = 0.25` in the description of an Aperio image."""
    found = re.search(r"\bMPP = ([0-9.]+)", description)
    return Statement(source="aperio.MPP", x=number(found[1]) if found else None)


def number(text: str | None) -> float | None:
    """The number that a text is; None when it is none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _ome_size(pixels: ElementTree.Element, axis: str) -> float | None:
    size, unit = number(pixels.get(f"PhysicalSize{axis}")), microns(pixels.get(f"PhysicalSize{axis}Unit", "um"))
    return size * unit if size and unit else None


def _implausible(mpp: float, source: str) -> str:
    low, high = PLAUSIBLE_MPP
    print_setting = f", {25_400 / mpp:.0f} dots per inch" if 20 <= mpp <= 1000 else ""
    return f"The file states {mpp:.4g} µm per pixel ({source}{print_setting}). A slide has {low:g} to {high:g}: not used."


def _unequal(values: list[float], source: str) -> tuple[str, ...]:
    if max(values) <= min(values) * (1 + _UNEQUAL):
        return ()
    return (f"The pixels are not square: {values[0]:.4g} by {values[-1]:.4g} µm ({source}). Areas are right, lengths and shapes are not.",)
