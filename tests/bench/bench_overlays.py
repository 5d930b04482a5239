"""How fast the viewer gets what lies over a slide: a job of a million cells in ten thousand tiles, made without computing them."""

from __future__ import annotations

import gzip
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scheduling.jobtypes.layout import Layout
from scheduling.jobtypes.shown import ShownTiles
from scheduling.tilestore.tilefiles import TileFolder
from tests.bench.figures import Figure
from tests.support import environment
from tests.support.cells import job_at, made_layout, made_tile

T = TypeVar("T")
TILES, CELLS_A_TILE, CORE_PX = 10_000, 100, 1024
#: Levels of a slide scanned at 40x, and the pictures asked for of each.
MPP, PICTURES = 0.25, 12


def measure() -> dict[str, Figure]:
    """One process, as the web's; the loose tiles of a running job first, then the packed ones of a finished job."""
    data_dir = environment.apply()
    import django

    django.setup()
    try:
        layout = made_layout(tiles=TILES, core_px=CORE_PX)
        tiles = _published(data_dir, layout)
        figures = _vectors(tiles, layout)
        figures |= _pictures("running", tiles, layout)
        _finish(tiles, layout)
        figures |= _pictures("finished", tiles, layout)
    finally:
        shutil.rmtree(data_dir)
    figures["resident memory at most"] = Figure(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "MB", "lower")
    return figures


def _published(folder: Path, layout: Layout) -> TileFolder:
    path = folder / "tiles" / "digest"
    path.mkdir()
    tiles = TileFolder(path)
    tiles.publish_part("layout", layout.to_json())
    for tile in range(TILES):
        tiles.publish(tile, made_tile(layout, tile, CELLS_A_TILE, mpp=MPP))
    return tiles


def _finish(tiles: TileFolder, layout: Layout) -> None:
    for step in ShownTiles(tiles=tiles, layout=layout, mpp=MPP).gathering():
        step()
    for number in range(-(-TILES // 1000)):
        tiles.pack(number, TILES)


def _vectors(tiles: TileFolder, layout: Layout) -> dict[str, Figure]:
    shown = ShownTiles(tiles=tiles, layout=layout, mpp=MPP)
    made, times = zip(*(_timed(partial(shown.vector, tile)) for tile in range(0, TILES, 100)), strict=True)
    cells = CELLS_A_TILE * len(made)
    return {
        "vector tile of 100 cells, 95th percentile": Figure(_p95(times), "ms", "lower"),
        "vector tile, bytes a cell": Figure(round(sum(map(len, made)) / cells, 1), "bytes", "lower"),
        "vector tile, bytes a cell by gzip": Figure(round(sum(len(gzip.compress(tile, 5)) for tile in made) / cells, 1), "bytes", "lower"),
    }


def _pictures(state: str, tiles: TileFolder, layout: Layout) -> dict[str, Figure]:
    """Each picture with nothing known of the job, with its counts in memory, and kept whole."""
    from scheduling.selectors import overlays
    from scheduling.selectors.mosaics import MOSAICS

    job, choice = job_at(tiles, layout, mpp=MPP), np.random.default_rng(5)
    cold, counted, kept = list[float](), list[float](), list[float]()
    for number, level in enumerate(overlays.overlay_of(job).levels):
        for _ in range(min(PICTURES, level.columns * level.rows)):
            draw = partial(_picture, job, number, int(choice.integers(level.columns)), int(choice.integers(level.rows)))
            for caches, times in (
                ((overlays.PICTURES.clear, MOSAICS.clear, overlays.read_layout.cache_clear), cold),
                ((overlays.PICTURES.clear,), counted),
                ((), kept),
            ):
                for clear in caches:
                    clear()
                times.append(_timed(draw)[1])
    return {
        f"{state}: picture, nothing known, 95th percentile": Figure(_p95(cold), "ms", "lower"),
        f"{state}: picture, nothing known, slowest": Figure(round(max(cold), 1), "ms", "lower"),
        f"{state}: picture, counts in memory, 95th percentile": Figure(_p95(counted), "ms", "lower"),
        f"{state}: picture kept, 95th percentile": Figure(_p95(kept), "ms", "lower"),
        f"{state}: manifest": Figure(round(_timed(partial(overlays.manifest, job))[1], 1), "ms", "lower"),
    }


def _picture(job: Any, level: int, column: int, row: int) -> bytes:
    from scheduling.selectors import overlays

    return overlays.overlay_tile(job, level, column, row)[1]().png


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and milliseconds."""
    began = time.perf_counter()
    made = action()
    return made, (time.perf_counter() - began) * 1e3


def _p95(times: Sequence[float]) -> float:
    return round(float(np.percentile(times, 95)), 1)
