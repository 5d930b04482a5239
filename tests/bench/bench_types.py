"""Each job type from plan to artifacts in one process: megapixels, cells and mm² a second, and where the time goes.

BENCH_SLIDES names the slide, else the sample slide of `make run` is written. INSTANSEG_WSI runs the stand-in model, where torch and
instanseg-torch are installed: on a CUDA device when torch sees one, else on one thread.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from scheduling.instanseg.warm import warm as warm_models
from scheduling.jobtypes.base import JobContext, JobType
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.segmentation import Segmentation
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.slides.nuclei.contours import trace
from scheduling.slides.nuclei.detection import NucleusLimits, nuclei_labels
from scheduling.slides.nuclei.stain import Stains, densities
from scheduling.slides.reading.interface import RGB
from scheduling.slides.reading.reader import describe, open_slide
from scheduling.slides.reading.tiling import Box, read_window
from scheduling.slides.synthetic.slide import write_sample
from scheduling.slides.warm import warm
from scheduling.worker.memory import keep_freed
from scheduling.worker.running import compute, finish, survey
from tests.bench import device
from tests.bench.figures import Figure
from tests.support import environment
from tests.unit.jobtypes.driving import job_context

#: Side of the largest window that goes from pixels to polygons at once, in model pixels.
_WINDOW_PX = 2048
_REPEATS = 7
#: Side of a window of INSTANSEG_WSI by its defaults.
_INSTANSEG_PX = 1088


def measure() -> dict[str, Figure]:
    """One type after the other, with the memory that a worker keeps; kernels are compiled and the model is loaded before the clock starts."""
    keep_freed()
    warm()
    warm_models()
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        folder = Path(name)
        slide = _slide(folder)
        print(f"slide: {slide.name}")
        figures = _second_run(folder, slide, TissueMask()).figures()
        run = _second_run(folder, slide, SegmentCells())
        return figures | run.figures() | _pixels_to_polygons(run.context) | _instanseg(folder, slide)


def _slide(folder: Path) -> Path:
    given = os.environ.get("BENCH_SLIDES", "").split(os.pathsep)[0]
    if given:
        return Path(given)
    write_sample(folder / "sample.tif")
    return folder / "sample.tif"


def _context(folder: Path, slide: Path, job_type: JobType, **parameters: Any) -> JobContext:
    return job_context(folder, slide, job_type, name=job_type.name, mpp=describe(slide).mpp or 0.5, **parameters)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A job that was carried out by this process alone."""

    job_type: JobType
    context: JobContext
    #: From planning to artifacts.
    seconds: float

    @classmethod
    def of(cls, job_type: JobType, context: JobContext) -> _Run:
        began = time.perf_counter()
        plan = survey(job_type, context).plan
        _, error = compute(job_type, context, range(plan.tiles_total), batch=plan.batch, is_over=lambda: False)
        if error is not None:
            raise error.error
        assert finish(job_type, context, step=0, is_over=lambda: False, tiles_total=plan.tiles_total) is None
        return cls(job_type=job_type, context=context, seconds=time.perf_counter() - began)

    def figures(self) -> dict[str, Figure]:
        """By name, the type's first."""
        summary = orjson.loads((self.context.results / "summary.json").read_bytes())
        found = {**self._rates(summary), **_split(summary["run"]["seconds"])}
        return {f"{self.job_type.name}: {name}": figure for name, figure in found.items()}

    def _rates(self, summary: dict[str, Any]) -> dict[str, Figure]:
        reader = open_slide(self.context.slide_path)
        pixels, tissue_mm2 = reader.width * reader.height, summary["tissue_area_mm2"]
        rates = {
            "slide": Figure(pixels / 1e6, "Mpx/s of the slide at full resolution", "higher"),
            "windows": Figure(
                self._window_pixels(summary) / 1e6, "Mpx/s at analysis resolution, all that tiles read: cores and halos", "higher"
            ),
            "tissue": Figure(tissue_mm2, "mm²/s of tissue", "higher"),
        }
        if "cells" in summary:
            rates["cells"] = Figure(summary["cells"], "cells/s", "higher")
        return {name: replace(figure, value=round(figure.value / self.seconds, 4)) for name, figure in rates.items()}

    def _window_pixels(self, summary: dict[str, Any]) -> int:
        """At analysis resolution."""
        if not isinstance(self.job_type, Segmentation):
            return int(summary["mask"]["width"] * summary["mask"]["height"])
        layout = self.job_type.layout(self.context)
        return len(layout.cores) * (layout.grid.core_px + 2 * layout.grid.halo_px) ** 2


def _second_run(folder: Path, slide: Path, job_type: JobType) -> _Run:
    """What a process loads for its first tile does not count."""
    first, second = (folder / f"{job_type.name}-{run}" for run in ("first", "second"))
    _Run.of(job_type, _context(first, slide, job_type))
    return _Run.of(job_type, _context(second, slide, job_type))


def _split(seconds: dict[str, float]) -> dict[str, Figure]:
    """The stages of `run` in a summary."""
    total = sum(seconds.values())
    return {f"time: {stage}": Figure(round(100 * took / total, 1), "% of all stages", "lower") for stage, took in seconds.items()}


def _pixels_to_polygons(context: JobContext) -> dict[str, Figure]:
    """The middle of the slide as one window, with the constants of the job that was run: RGB to outlines, without measures and files."""
    job_type = SegmentCells()
    layout = job_type.layout(context)
    mpp = (describe(context.slide_path).mpp or 0.5) * layout.downsample
    limits = NucleusLimits(mpp=mpp, dark_level=layout.constants["dark_level"], pale_level=layout.constants["pale_level"])
    width, height = (min(_WINDOW_PX, side) for side in (layout.grid.width, layout.grid.height))
    left, top = (layout.grid.width - width) // 2, (layout.grid.height - height) // 2
    box = Box(left=left, top=top, right=left + width, bottom=top + height)
    rgb = read_window(open_slide(context.slide_path), box, layout.downsample)
    _outlined(rgb, layout.stains, limits)
    took = statistics.median(_outlined(rgb, layout.stains, limits) for _ in range(_REPEATS))
    figure = Figure(round(width * height / 1e6 / took, 2), f"Mpx/s of one core, one window of {width} × {height} px", "higher")
    return {"SEGMENT_CELLS: pixels to polygons": figure}


def _outlined(rgb: RGB, stains: Stains, limits: NucleusLimits) -> float:
    """Seconds of the core that it took: what else runs on the machine does not count."""
    began = time.process_time()
    trace(*nuclei_labels(densities(rgb, stains), limits))
    return time.process_time() - began


def _instanseg(folder: Path, slide: Path) -> dict[str, Figure]:
    if not environment.has_torch():
        print("note: torch and instanseg-torch are not installed, so INSTANSEG_WSI is not measured")
        return {}
    from scheduling.instanseg.pipeline import BATCH
    from scheduling.jobtypes.instanseg_wsi import InstansegWsi, _network

    has_device = device.has_cuda()
    if not has_device:
        print("note: no CUDA device is there, so INSTANSEG_WSI runs on one core and no GPU use is measured")
    parameters = _with_standin(folder)
    plain = _context(folder, slide, InstansegWsi(), **parameters)
    context = replace(plain, spec=replace(plain.spec, device="gpu" if has_device else "cpu"))
    with _one_thread():
        _network(context, "torch", _INSTANSEG_PX, {}).warm_up(_INSTANSEG_PX, BATCH if has_device else 1)
        with device.watched() if has_device else nullcontext(device.Use()) as use:
            run = _Run.of(InstansegWsi(), context)
    seen = {f"{InstansegWsi.name}: device, {name}": figure for name, figure in use.figures().items()} if has_device else {}
    return run.figures() | seen


def _with_standin(folder: Path) -> dict[str, Any]:
    """Parameters of a job with the stand-in, which is installed."""
    from scheduling.instanseg.store import ModelStore
    from scheduling.jobtypes.instanseg_wsi import InstansegWsi
    from tests.support.models import facts_of
    from tests.support.standin import standin_bytes

    data, model = standin_bytes("nuclei"), folder / "model.pt"
    model.write_bytes(data)
    ModelStore(folder).add(model, replace(facts_of("nuclei", file=data), name="standin", is_fast=True))
    return InstansegWsi.settled({"model": "standin", "min_area_um2": 1, "max_area_um2": 2000}, folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one core; the next benchmark finds what was before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
