"""Slide-wide normalisation of colours for InstanSeg: percentiles from histograms, which add up over any windows in any order.

One window's own percentiles would make neighbours disagree (and blow up the noise of an empty one), so the constants are
those of the whole slide's tissue at model resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

LOW_PERCENT, HIGH_PERCENT = 0.1, 99.9
#: Smallest range that is stretched to 0–1, in grey levels, as in instanseg-torch's percentile_normalize.
_EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """The grey levels (R, G, B; 0–255) that become 0 and 1."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Normalisation:
        """Inverse of dataclasses.asdict."""
        low, high = ((float(v[0]), float(v[1]), float(v[2])) for v in (data["low"], data["high"]))
        return cls(low=low, high=high)

    def table(self) -> npt.NDArray[np.float32]:
        """float32 (3, 256): what each grey level of each channel becomes; a table, so that it is the same on every device."""
        low, high = (np.asarray(values, np.float64)[:, None] for values in (self.low, self.high))
        levels = np.arange(256, dtype=np.float32)[None]
        scale = np.maximum(_EPSILON, high - low).astype(np.float32)
        return np.asarray((levels - low.astype(np.float32)) / scale, np.float32)


def of_histograms(counts: Counts) -> Normalisation:
    """The 0.1 and 99.9 percentile of each channel, by int64 (3, 256) counts added up over windows. Raises ValueError when all are 0."""
    if (counts.sum(axis=1) == 0).any():
        raise ValueError("no pixel to take percentiles of")
    low, high = ([_percentile(channel, percent) for channel in counts] for percent in (LOW_PERCENT, HIGH_PERCENT))
    return Normalisation(low=(low[0], low[1], low[2]), high=(high[0], high[1], high[2]))


def _percentile(counts: Counts, percent: float) -> float:
    """As numpy.percentile of the counted levels: linear between the two that are nearest in rank (Hyndman and Fan's type 7)."""
    upto = np.cumsum(counts)
    rank = (int(upto[-1]) - 1) * percent / 100
    below, above = np.searchsorted(upto, [int(rank), min(int(rank) + 1, int(upto[-1]) - 1)], side="right")
    return float(below + (above - below) * (rank - int(rank)))
