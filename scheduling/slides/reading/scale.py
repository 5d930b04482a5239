"""How many full-resolution pixels make a pixel of the model: an exact number, whole wherever that comes near enough.

Places in a slide follow from it by exact arithmetic, so that no window rounds otherwise than its neighbour.
"""

from __future__ import annotations

from fractions import Fraction

#: Full-resolution pixels in a model pixel, along a side.
Scale = int | Fraction
#: How far the microns of a pixel read may be from the model's before pixels are made that are no whole number of the slide's.
_NEAR = 0.05
#: Of a fraction; it then misses the model's pixel by 0.4 % at most.
_MOST_PARTS = 256


def model_downsample(mpp: float, model_mpp: float) -> int:
    """The whole number of full-resolution pixels, at least 1, that comes nearest to `model_mpp`."""
    return max(1, round(model_mpp / mpp))


def model_scale(mpp: float, model_mpp: float) -> Scale:
    """The whole number of pixels when its size is within 5 % of `model_mpp`; else the fraction of full-resolution pixels that is."""
    whole, wanted = model_downsample(mpp, model_mpp), model_mpp / mpp
    return whole if abs(whole - wanted) <= _NEAR * wanted else Fraction(wanted).limit_denominator(_MOST_PARTS)


def plain(value: Scale) -> int | float:
    """The same for JSON and numpy: whole where it is whole."""
    return int(value) if value.denominator == 1 else float(value)


def to_text(scale: Scale) -> int | str:
    """As JSON holds it exactly: 2 or "50/37"."""
    return scale if isinstance(scale, int) else str(scale)


def from_text(text: int | str) -> Scale:
    """Inverse of to_text. Raises ValueError."""
    return text if isinstance(text, int) else Fraction(text)
