"""INSTANSEG_WSI with the stand-in model: speed, the time split, and, beside instanseg-torch's own whole-slide function, how alike the result is.

BENCH_SLIDES names the slide, else a synthetic one is written. BENCH_LIBRARY_PYTHON names an interpreter that has torch, instanseg-torch
and its readers (tiffslide<4, zarr<3, tifffile<2025.5.21, geojson); without it our own figures are measured alone.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from scheduling.instanseg.store import ModelStore
from scheduling.instanseg.warm import warm as warm_models
from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.instanseg_wsi import InstansegWsi
from scheduling.slides.nuclei.contours import outlines
from scheduling.slides.reading.reader import describe
from scheduling.slides.synthetic.slide import write_sample
from scheduling.slides.warm import warm
from scheduling.worker.running import compute, finish, survey
from tests.bench.figures import Figure
from tests.support.matching import f1_at
from tests.support.models import facts_of
from tests.support.standin import standin_bytes
from tests.unit.jobtypes.driving import artifacts_of, job_context

PROCESSES = 2
LIBRARY = Path(__file__).with_name("library_whole_slide.py")


def measure() -> dict[str, Figure]:
    """Ours by two processes of one thread, the library by one of two threads, one after the other; neither counts its start."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        folder = Path(name)
        slide = _slide(folder)
        context = _context(folder, slide)
        seconds, cells, mpx = _run(context)
        figures = {
            "ours: slide": Figure(round(mpx / seconds, 3), "Mpx/s at the model's resolution, two cores", "higher"),
            "ours: cells": Figure(round(len(cells) / seconds, 1), "cells/s", "higher"),
            "ours: area": Figure(round(mpx * 0.25 / seconds, 3), "mm²/s", "higher"),
        }
        python = os.environ.get("BENCH_LIBRARY_PYTHON")
        return figures | (_beside_library(python, folder, slide, seconds, cells) if python else {})


def _slide(folder: Path) -> Path:
    given = os.environ.get("BENCH_SLIDES", "").split(os.pathsep)[0]
    path = folder / (Path(given).name if given else "made.tif")
    if given:
        shutil.copyfile(given, path)
    else:
        write_sample(path, width=2048, height=1536, seed=7)
    return path


def _context(folder: Path, slide: Path) -> JobContext:
    data, model = standin_bytes("nuclei"), folder / "model.pt"
    model.write_bytes(data)
    facts = replace(facts_of("nuclei", file=data), name="standin", is_fast=True)
    ModelStore(folder).add(model, facts)
    parameters = InstansegWsi.settled({"model": "standin", "min_area_um2": 1, "max_area_um2": 2000}, folder)
    return job_context(folder, slide, InstansegWsi(), name="job", mpp=describe(slide).mpp or 0.5, **parameters)


def _warmed(context: JobContext) -> None:
    """In a worker process: what it does before its first tile."""
    import torch

    from scheduling.jobtypes.instanseg_wsi import _network

    torch.set_num_threads(1)
    warm()
    warm_models()
    _network(context, "torch", 1024, {}).warm_up(1024)


def _tile(context: JobContext, index: int) -> None:
    _, error = compute(InstansegWsi(), context, [index], batch=1, is_over=lambda: False)
    if error is not None:
        raise error.error


def _run(context: JobContext) -> tuple[float, list[shapely.Polygon], float]:
    """Seconds from planning to artifacts, the cells, megapixels of slide."""
    job_type = InstansegWsi()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"), _warmed, (context,)) as pool:
        # Kernels are compiled once, not by both at once; then each process is started, which waits for its preparation.
        warm()
        warm_models()
        list(pool.map(time.sleep, [0.5] * PROCESSES))
        began = time.perf_counter()
        plan = survey(job_type, context).plan
        for made in [pool.submit(_tile, context, index) for index in range(plan.tiles_total)]:
            made.result()
        step: int | None = 0
        while step is not None:
            step = finish(job_type, context, step=step, is_over=lambda: False, tiles_total=plan.tiles_total)
        took = time.perf_counter() - began
    scale = job_type.layout(context).downsample
    entries: list[dict[str, Any]] = orjson.loads(artifacts_of(context)["results.json"])
    grid = job_type.layout(context).grid
    return took, [shapely.Polygon(np.array(entry["polygon"]) / scale) for entry in entries], grid.width * grid.height / 1e6


def _beside_library(python: str, folder: Path, slide: Path, seconds: float, cells: list[shapely.Polygon]) -> dict[str, Figure]:
    out = folder / "library.npz"
    subprocess.run([python, str(LIBRARY), str(slide), str(folder / "model.pt"), str(out)], check=True, stderr=subprocess.DEVNULL)
    found = np.load(out)
    once, theirs = (_polygons(found[name]) for name in ("single_pass", "labels"))
    return {
        "library: slide, as often as long as ours": Figure(round(float(found["seconds"]) / seconds, 2), "ratio", "higher"),
        "ours: F1 at IoU 0.9 with a single pass": Figure(round(f1_at(cells, once, 0.9), 4), "fraction", "higher"),
        "library: F1 at IoU 0.9 with a single pass": Figure(round(f1_at(theirs, once, 0.9), 4), "fraction", "higher"),
    }


def _polygons(labels: Any) -> list[shapely.Polygon]:
    rings, _ = outlines(np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32))
    return [shapely.Polygon(rings.ring(number)) for number in range(len(rings))]
