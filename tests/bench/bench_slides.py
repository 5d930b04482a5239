"""How well and how fast cells are found: against the planted nuclei of synthetic slides, and on slides named in BENCH_SLIDES."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.slides.reading.reader import describe
from scheduling.slides.synthetic.slide import write_sample
from scheduling.worker.running import compute, finish, survey
from tests.bench.figures import Figure
from tests.unit.jobtypes.driving import job_context
from tests.unit.slides.samples import agreement

#: The sample slide as `make run` writes it, and two others by the same generator.
SAMPLES: tuple[tuple[str, dict[str, int]], ...] = (
    ("sample slide", {}),
    ("seed 101", {"width": 4000, "height": 3000, "seed": 101}),
    ("seed 202", {"width": 4000, "height": 3000, "seed": 202}),
)


class Shifted(SegmentCells):
    """The same with its grid moved."""

    grid_offset = (333, 125)


def measure() -> dict[str, Figure]:
    """One process; figures of the synthetic slides first."""
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        for name, options in SAMPLES:
            figures |= _accuracy(Path(folder), name, options)
        for path in filter(None, os.environ.get("BENCH_SLIDES", "").split(os.pathsep)):
            rings, _ = _segmented(Path(folder), Path(path))
            figures[f"{Path(path).name}: cells"] = Figure(len(rings), "cells", "higher")
    return figures


def _accuracy(folder: Path, name: str, options: dict[str, int]) -> dict[str, Figure]:
    path = folder / f"{name}.tif"
    truth = write_sample(path, **options)
    rings, rate = _segmented(folder, path)
    found = agreement(truth, rings)
    figures = {
        f"{name}: recall at IoU 0.5": Figure(round(found.recall, 4), "fraction", "higher"),
        f"{name}: precision at IoU 0.5": Figure(round(found.precision, 4), "fraction", "higher"),
    }
    if not options:
        figures[f"{name}: tiles, read to measured cells"] = Figure(round(rate, 2), "Mpx/s on one process", "higher")
        for label, other in (
            ("tiles of 600 px", _segmented(folder, path, tile_px=600)),
            ("a shifted grid", _segmented(folder, path, Shifted())),
        ):
            same = len(_shapes(rings) & _shapes(other[0])) / len(_shapes(rings) | _shapes(other[0]))
            figures[f"{name}: identical cells with {label}"] = Figure(round(same, 5), "fraction", "higher")
    return figures


def _segmented(
    folder: Path, slide: Path, job_type: SegmentCells | None = None, **parameters: int
) -> tuple[list[npt.NDArray[np.int64]], float]:
    """Closed rings of all cells, and megapixels of tile cores a second."""
    job_type = job_type or SegmentCells()
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        mpp = describe(slide).mpp or 0.5
        context = job_context(Path(data_dir), slide, job_type, name="job", mpp=mpp, **parameters)
        plan = survey(job_type, context).plan
        began = time.perf_counter()
        _, error = compute(job_type, context, range(plan.tiles_total), batch=1, is_over=lambda: False)
        took = time.perf_counter() - began
        assert error is None, error
        assert finish(job_type, context, step=0, is_over=lambda: False) is None
        features = orjson.loads((context.results / "cells.geojson").read_bytes())["features"]
        tile_px = orjson.loads((context.results / "summary.json").read_bytes())["tiles"]["tile_px"]
    return [np.array(feature["geometry"]["coordinates"][0]) for feature in features], plan.tiles_total * tile_px**2 / took / 1e6


def _shapes(rings: list[npt.NDArray[np.int64]]) -> set[bytes]:
    return {ring.tobytes() for ring in rings}
