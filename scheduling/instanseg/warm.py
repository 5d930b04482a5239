"""Run every kernel of models once, in a small window: what `scheduling.worker.kernels` compiles by, so that no first tile waits for it."""

from __future__ import annotations

import numpy as np

from scheduling.instanseg.devices import has_torch
from scheduling.instanseg.kernels import grown, joined, painted, peaks


def warm() -> None:
    """Those of the post-processing, where torch is there to run a model. Loads no torch."""
    if has_torch():
        _warm_postprocessing()


def _warm_postprocessing() -> None:
    """On two seeds in a small window, with the types that they get in earnest."""
    seed_map = np.zeros((64, 64), np.float32)
    seed_map[20, 20] = seed_map[40, 40] = 1
    seeds = peaks(seed_map, 5, 0.7)
    corners = seeds - 16
    pixels, values, lengths = grown(np.ones((2, 32, 32), np.float32), corners, corners, seeds, 32, 64, 0.5)
    starts = np.cumsum(lengths) - lengths
    painted(pixels, values, starts, lengths, joined(pixels, starts, lengths, 64 * 64, 0.3), 64, 64)
