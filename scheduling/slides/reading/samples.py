"""What the numbers of a TIFF or PNG mean as brightfield colours: grey or RGB, of 8 or 16 bits, with or without alpha.

16-bit samples are scaled by one rule for the whole slide, never by tile: 2^n - 1 is white, n being what the file says of its
significant bits, else the fewest bits (8 at least) that hold the brightest sample of a fixed choice of segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scheduling.slides.reading.interface import RGB, over_white

Alpha = Literal["none", "straight", "associated", "unspecified"]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """How to make RGB of decoded samples (h, w, 1 to 4)."""

    #: Colour samples for each pixel: 1 or 3. What follows is alpha, or of no known meaning.
    colours: int
    alpha: Alpha = "none"
    #: Grey where 0 is white.
    is_inverted: bool = False
    #: White is 2^bits - 1.
    bits: int = 8

    def rgb(self, samples: npt.NDArray[Any]) -> RGB:
        """uint8 (h, w, 3) of uint8 or uint16 samples; what is transparent is white."""
        colours = _to_bytes(samples[:, :, : self.colours], self.bits)
        if self.is_inverted:
            colours = 255 - colours
        if self.colours == 1:
            colours = np.repeat(colours, 3, axis=2)
        if self.alpha in ("none", "unspecified"):
            return np.ascontiguousarray(colours)
        alpha = _to_bytes(samples[:, :, self.colours : self.colours + 1], 8 * samples.dtype.itemsize)
        if self.alpha == "straight":
            return over_white(np.concatenate([colours, alpha], axis=2))
        return np.asarray(np.minimum(colours.astype(np.uint16) + (255 - alpha), 255), np.uint8)


def significant_bits(segments: Iterable[npt.NDArray[Any]], colours: int) -> int:
    """The fewest bits, at least 8, that hold the brightest colour sample of these segments (h, w, samples)."""
    brightest = max((int(segment[:, :, :colours].max(initial=0)) for segment in segments), default=0)
    return max(8, brightest.bit_length())


def _to_bytes(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    if samples.dtype.itemsize == 1:
        return np.asarray(samples, np.uint8)
    white = 2**bits - 1
    table = np.minimum((np.arange(65_536, dtype=np.uint32) * 255 + white // 2) // white, 255).astype(np.uint8)
    return np.asarray(table[samples], np.uint8)
