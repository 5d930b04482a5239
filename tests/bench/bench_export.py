"""How long a million cells take from finished tiles to artifacts, and how much memory, in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from scheduling.jobtypes.cell_export import Export
from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.slides.nuclei.cells import MEASURES, SCHEMA, encode
from scheduling.slides.nuclei.stain import Stains
from scheduling.slides.reading.pyramid import to_png
from scheduling.slides.reading.tiling import Grid
from scheduling.slides.synthetic.slide import write_sample
from tests.bench.figures import Figure
from tests.unit.jobtypes.driving import job_context

CORE, COLUMNS, ROWS, CELLS_A_TILE = 1024, 25, 20, 2000


def measure() -> dict[str, Figure]:
    """Seconds of all steps (of the wall, and of the processor), of the longest, and the most memory the process ever held."""
    command = [sys.executable, "-m", "tests.bench.bench_export"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cells = COLUMNS * ROWS * CELLS_A_TILE
    return {
        f"exporting {cells:,} cells": Figure(found["took_s"], "s on one process", "lower"),
        "of that, computing": Figure(found["cpu_s"], "s of one core", "lower"),
        "longest step": Figure(found["longest_s"], "s", "lower"),
        "most memory": Figure(found["rss_mb"], "MB resident", "lower"),
    }


def exported(folder: Path) -> dict[str, float]:
    """Run all steps of the export in `folder`."""
    write_sample(folder / "s.tif", width=64, height=48, seed=1)
    context = job_context(folder, folder / "s.tif", SegmentCells(), name="job")
    grid = Grid(width=COLUMNS * CORE, height=ROWS * CORE, core_px=CORE, halo_px=64)
    layout = Layout(
        grid=grid, cores=tuple(range(len(grid))), downsample=1, mask_downsample=16, stains=Stains(background=(245.0, 245.0, 245.0))
    )
    context.tiles.publish_part("mask.png", to_png(np.full((3, 4), 255, np.uint8)))
    for tile in range(len(grid)):
        context.tiles.publish(tile, encode(_tile(grid, tile)))
    steps = Export(context=context, layout=layout, fingerprint="f").steps()
    began, times = time.process_time(), [time.perf_counter()]
    for step in steps:
        step()
        times.append(time.perf_counter())
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    used = time.process_time() - began
    return {
        "took_s": round(times[-1] - times[0], 1),
        "cpu_s": round(used, 1),
        "longest_s": round(float(np.diff(times).max()), 2),
        "rss_mb": round(memory_mb),
    }


def _tile(grid: Grid, tile: int) -> pa.Table:
    """Cells with an outline of 32 corners, at random places in the core."""
    core, random = grid.core(tile), np.random.default_rng(tile)
    x, y = (start + random.integers(1, CORE, CELLS_A_TILE) for start in (core.left, core.top))
    angles = np.append(np.arange(32) / 32, 0) * 2 * np.pi
    ring = np.round(np.column_stack([np.cos(angles), np.sin(angles)]) * 12).astype(np.int32)
    points = (np.column_stack([x, y])[:, None, :] + ring[None]).clip(0).astype(np.int32)
    polygons = pa.ListArray.from_arrays(pa.array(np.arange(CELLS_A_TILE + 1, dtype=np.int32) * 66), pa.array(points.reshape(-1)))
    depth = np.min([x - core.left, core.right - x, y - core.top, core.bottom - y], axis=0)
    measures = [x, y, *(random.random(CELLS_A_TILE).round(4) for _ in MEASURES[2:])]
    return pa.table([depth.astype(np.float64), *(values.astype(np.float64) for values in measures), polygons], schema=SCHEMA)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        print(json.dumps(exported(Path(name))))
