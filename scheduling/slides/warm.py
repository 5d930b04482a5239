"""`python -m scheduling.slides.warm`: compile the kernels once, into NUMBA_CACHE_DIR, so that no first tile waits for them."""

from __future__ import annotations

import numpy as np

from scheduling.slides.contours import split_pieces, trace
from scheduling.slides.nuclei import grow


def warm() -> None:
    """Run every kernel on a tiny image of the types it gets in earnest."""
    labels = np.zeros((8, 8), np.int32)
    labels[2:5, 2:5] = 1
    pieces, count = split_pieces(labels)
    trace(pieces, count)
    grow(pieces, np.ones((8, 8), np.uint8))


if __name__ == "__main__":
    warm()
