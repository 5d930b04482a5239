"""`python -m scheduling.slides.warm`: compile the kernels once, into NUMBA_CACHE_DIR, so that no first tile waits for them."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO

import numpy as np
import pyarrow as pa
import shapely

from scheduling.slides.cell_table import CELLS
from scheduling.slides.cells import Detected, cells_of_window
from scheduling.slides.contours import outlines
from scheduling.slides.expansion import expanded, tissue_of
from scheduling.slides.geojson import cell_features, result_entries
from scheduling.slides.nuclei import NucleusLimits, nuclei_labels
from scheduling.slides.regions import Region, inside_region, rasterised
from scheduling.slides.resampling import Taps, resampled
from scheduling.slides.tables import write_parquet
from scheduling.slides.tiling import Grid


def warm() -> None:
    """Run every kernel on a small window of the types it gets in earnest."""
    hematoxylin = np.full((64, 64), 0.05, np.float32)
    hematoxylin[20:34, 20:34] = 0.9
    stained = (hematoxylin, np.full((64, 64), 0.1, np.float32))
    labels, count = nuclei_labels(stained, NucleusLimits(mpp=0.5, dark_level=70, pale_level=35))
    outlines(labels)
    cells = expanded(labels, count, tissue_of(stained, 0.5), 4.0)
    found = Detected(nuclei=labels, count=count, stained=stained, cells=cells)
    region = Region(area=shapely.box(1, 1, 9, 9))
    rasterised(region, 4, 4, 4.0)
    table = cells_of_window(found, Grid(width=64, height=64, core_px=64, halo_px=0), 0, downsample=1, mpp=0.5)
    inside_region(table, region)
    _warm_export(table)
    taps = Taps.of(0, 2, Fraction(3, 2))
    resampled(np.zeros((taps.end, taps.end, 3), np.uint8), taps, taps)


def _warm_export(table: pa.Table) -> None:
    cell_features(table, "fingerprint")
    result_entries(table, 1)
    write_parquet(BytesIO(), [table], CELLS)


if __name__ == "__main__":
    warm()
