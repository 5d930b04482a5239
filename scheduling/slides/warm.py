"""Run every kernel of slides once, on small windows: what `scheduling.worker.kernels` compiles by, so that no first tile waits for it."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO

import numpy as np
import pyarrow as pa
import shapely

from scheduling.slides.areas.regions import Region, inside_region, rasterised
from scheduling.slides.export.geojson import cell_features, result_entries
from scheduling.slides.export.tables import write_parquet
from scheduling.slides.nuclei.cell_table import CELLS
from scheduling.slides.nuclei.cells import Detected, cells_of_window
from scheduling.slides.nuclei.contours import outlines
from scheduling.slides.nuclei.detection import NucleusLimits, nuclei_labels
from scheduling.slides.nuclei.expansion import expanded, tissue_of
from scheduling.slides.nuclei.stain import Stains, densities
from scheduling.slides.reading.resampling import Taps, resampled
from scheduling.slides.reading.tiling import Grid


def warm() -> None:
    """Run every kernel on a small window of the types it gets in earnest."""
    for part in PARTS.values():
        part()


def _warm_nuclei() -> None:
    """From colours to labels."""
    rgb = np.full((64, 64, 3), 225, np.uint8)
    rgb[20:34, 20:34] = (90, 60, 140)
    stained = densities(rgb, Stains(background=(245.0, 245.0, 245.0)))
    nuclei_labels(stained, NucleusLimits(mpp=0.5, dark_level=70, pale_level=35))
    taps = Taps.of(0, 2, Fraction(3, 2))
    resampled(np.zeros((taps.end, taps.end, 3), np.uint8), taps, taps)


def _warm_cells() -> None:
    """From labels to files."""
    labels, density = np.zeros((64, 64), np.int32), np.full((64, 64), 0.1, np.float32)
    labels[20:34, 20:34] = 1
    outlines(labels)
    cells = expanded(labels, 1, tissue_of((density, density), 0.5), 4.0)
    found = Detected(nuclei=labels, count=1, stained=(density, density), cells=cells)
    region = Region(area=shapely.box(1, 1, 9, 9))
    rasterised(region, 4, 4, 4.0)
    table = cells_of_window(found, Grid(width=64, height=64, core_px=64, halo_px=0), 0, downsample=1, mpp=0.5)
    inside_region(table, region)
    _warm_export(table)


def _warm_export(table: pa.Table) -> None:
    cell_features(table, "fingerprint")
    result_entries(table, 1)
    write_parquet(BytesIO(), [table], CELLS)


#: By name: about the same work each, so that two processes are done in half the time.
PARTS = {"nuclei": _warm_nuclei, "cells": _warm_cells}
