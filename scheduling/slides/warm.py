"""`python -m scheduling.slides.warm`: compile the kernels once, into NUMBA_CACHE_DIR, so that no first tile waits for them."""

from __future__ import annotations

import numpy as np
import shapely

from scheduling.slides.cells import Detected, cells_of_window
from scheduling.slides.contours import outlines
from scheduling.slides.nuclei import NucleusLimits, grow, nuclei_labels
from scheduling.slides.regions import Region, inside_region, rasterised
from scheduling.slides.tiling import Grid


def warm() -> None:
    """Run every kernel on a small window of the types it gets in earnest."""
    hematoxylin = np.full((64, 64), 0.05, np.float32)
    hematoxylin[20:34, 20:34] = 0.9
    stained = (hematoxylin, np.full((64, 64), 0.1, np.float32))
    labels, count = nuclei_labels(stained, NucleusLimits(mpp=0.5, dark_level=70, pale_level=35))
    outlines(labels)
    grow(labels, np.ones((64, 64), np.uint8), 4)
    found = Detected(nuclei=labels, count=count, stained=stained)
    region = Region(area=shapely.box(1, 1, 9, 9))
    rasterised(region, 4, 4, 4.0)
    inside_region(cells_of_window(found, Grid(width=64, height=64, core_px=64, halo_px=0), 0, downsample=1, mpp=0.5), region)


if __name__ == "__main__":
    warm()
