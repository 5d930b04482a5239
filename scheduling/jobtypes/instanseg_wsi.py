"""INSTANSEG_WSI on a slide: an installed InstanSeg model over the tissue, tile by tile, called directly.

Windows of one size begin at multiples of the model's stride on one global grid, and colours are normalised once for the whole
slide: two windows that see the same nucleus then give it the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from scheduling.instanseg.devices import NO_OPENVINO, NO_TORCH, has_openvino, has_torch
from scheduling.instanseg.facts import CELLS, ModelFacts, ModelUnusable
from scheduling.instanseg.normalisation import Normalisation, of_histograms
from scheduling.instanseg.objects import whole_objects
from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes.areas import check_areas
from scheduling.jobtypes.base import JobContext, JobFailed, Plan
from scheduling.jobtypes.instanseg_wsi_schema import PARAMETERS, settled_model
from scheduling.jobtypes.layout import Geometry, Layout
from scheduling.jobtypes.masks import Mask
from scheduling.jobtypes.parameters import slide_of
from scheduling.jobtypes.segmentation import Segmentation
from scheduling.jobtypes.windows import Windows
from scheduling.slides.nuclei.calibration import histograms, sampled, stains_of
from scheduling.slides.nuclei.cells import Detected
from scheduling.slides.nuclei.contours import Labels, first_pixels
from scheduling.slides.nuclei.detection import only
from scheduling.slides.nuclei.stain import Stains, densities
from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.scale import model_scale, plain
from scheduling.tilestore.stage_times import Work

if TYPE_CHECKING:
    from scheduling.instanseg.network import Network
    from scheduling.instanseg.pipeline import Pipeline

NO_MODEL = (
    "INSTANSEG_WSI needs a trained InstanSeg model, and none is installed on this server. "
    "Use SEGMENT_CELLS for classical nucleus segmentation of H&E slides."
)
#: No model is taken to look less far than InstanSeg's own network.
_LEAST_HALO_PX = 96
#: Half the side of the square around its seed in which a model outlines an object.
_CROP_PX = 32
#: Tiles in a bundle for a device, so that reading, computing and outlining go on side by side.
_GPU_TILES = 8
#: Windows over the tissue from which the normalisation is taken.
_SAMPLES = 64
#: A slide whose pixels are larger than this many of the model's has lost what the model looks for.
_COARSEST = 1.6
#: Up to so many of the model's nothing is said.
_USUAL = 1.1
#: Parameters that are arguments of the model's own forward.
_SETTINGS = ("mask_threshold", "seed_threshold", "peak_distance", "overlap_threshold")


class InstansegWsi(Segmentation):
    """Nuclei, and whole cells where the model knows them, by InstanSeg."""

    name: ClassVar[str] = "INSTANSEG_WSI"
    title: ClassVar[str] = "InstanSeg"
    description: ClassVar[str] = (
        "InstanSeg over the whole slide, with a model that is installed on this server: nuclei, and whole cells where the model outlines them, "
        "with measurements; exports for QuPath, CSV and Parquet. Uses the tissue mask before it in its branch, else makes its own."
    )
    version: ClassVar[str] = "3"
    parameters: ClassVar[dict[str, Any]] = PARAMETERS
    devices: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    #: The network over a window of 1024 pixels on one core.
    tile_s: ClassVar[float] = 5.0
    plan_s: ClassVar[float] = 120.0

    @classmethod
    def settled(cls, parameters: dict[str, Any], data_dir: Path) -> dict[str, Any]:
        """With the model that is meant now: one that gets the same name later is not this job's."""
        return settled_model(parameters, data_dir)

    def plan(self, context: JobContext) -> Plan:
        """As every segmentation. Raises JobFailed also when the model, torch, or what the job asks for in its place is not there."""
        _facts(context)
        if not has_torch():
            raise JobFailed(f"This worker cannot run InstanSeg: {NO_TORCH}")
        if context.spec.parameters.get("backend") == "openvino":
            _check_openvino(context)
        return super().plan(context)

    def geometry(self, context: JobContext, parameters: dict[str, Any]) -> Geometry:
        """Cores and halos of whole strides of the model."""
        facts, mpp = _facts(context), slide_of(context).mpp
        if mpp > _COARSEST * facts.pixel_size_um:
            raise JobFailed(f"The slide has {mpp:g} microns per pixel; the model {facts.name} needs about {facts.pixel_size_um:g}.")
        check_areas(parameters)
        core_px, halo_px = (_strides(size, facts) for size in (parameters["tile_px"], max(_LEAST_HALO_PX, facts.reach_px + _CROP_PX)))
        return Geometry(downsample=model_scale(mpp, facts.pixel_size_um), core_px=core_px, halo_px=halo_px)

    def constants(
        self, context: JobContext, reader: SlideReader, mask: Mask, geometry: Geometry, parameters: dict[str, Any]
    ) -> tuple[Stains, dict[str, Any]]:
        """Stain vectors, and what becomes 0 and 1 of each channel."""
        facts, ratio = _facts(context), mask.downsample / geometry.downsample
        windows = sampled(reader, mask.pixels, ratio, geometry.downsample, _SAMPLES)
        norm = of_histograms(sum((histograms(rgb) for rgb in windows), np.zeros((3, 256), np.int64)))
        model = {"name": facts.name, "hash": facts.sha256, "pixel_size_um": facts.pixel_size_um, "outputs": list(facts.outputs)}
        classes = ["Cell"] if CELLS in facts.outputs else ["Nucleus"]
        return stains_of(windows), {"normalisation": asdict(norm), "model": model, "classes": classes}

    def detect(self, context: JobContext, layout: Layout, parameters: dict[str, Any], windows: Windows) -> Iterator[tuple[int, Detected]]:
        """What the model outlines."""
        settings = {name: parameters[name] for name in _SETTINGS if parameters[name] is not None}
        window_px, norm = layout.grid.window_px, Normalisation.from_json(layout.constants["normalisation"])
        network = _network(context, parameters["backend"], window_px, settings)
        limits_px = [parameters[name] / (slide_of(context).mpp * layout.downsample) ** 2 for name in ("min_area_um2", "max_area_um2")]
        for tile, rgb, labels in _labelled(network, norm, settings, windows, context.work):
            with context.work.stage("post"):
                nuclei, cells, count = _within(*whole_objects(*labels), *limits_px)
                stained = densities(rgb, layout.stains)
            yield tile, Detected(nuclei=nuclei, cells=cells, count=count, stained=stained)

    def batch(self, context: JobContext) -> int:
        """On a device several, so that it never waits."""
        return 1 if context.torch_device == "cpu" else _GPU_TILES

    def described(self, layout: Layout, parameters: dict[str, Any]) -> dict[str, Any]:
        """The model, and what its windows were normalised and measured with."""
        fixed = {"normalisation": layout.constants["normalisation"], "stains": vars(layout.stains)}
        pixels = {"downsample": plain(layout.downsample), "pixels": "area mean" if layout.downsample >= 1 else "linear interpolation"}
        method = {"name": "InstanSeg", "backend": parameters["backend"], **pixels, "calibration": fixed}
        return {"method": method, "model": layout.constants["model"]}

    def doubts(self, layout: Layout, mpp: float) -> tuple[str, ...]:
        """Slides coarser than the model: what it looks for between their pixels is not there."""
        slide_mpp, wanted = mpp / float(layout.downsample), layout.constants["model"]["pixel_size_um"]
        if slide_mpp <= _USUAL * wanted:
            return ()
        return (f"The slide has {slide_mpp:.3g} microns per pixel; the model was trained at {wanted:g}, and sees less in it.",)


def _facts(context: JobContext) -> ModelFacts:
    """The model that the job got when it was submitted. Raises JobFailed when it got none, or it was removed since."""
    sha256 = context.spec.parameters.get("model_sha256")
    if sha256 is None:
        raise JobFailed(NO_MODEL)
    facts = ModelStore(context.settings.data_dir).find(sha256)
    if facts is None:
        raise JobFailed(f"The model {context.spec.parameters.get('model') or sha256} is not installed any more; install it again.")
    return facts


def _check_openvino(context: JobContext) -> None:
    """Raises JobFailed."""
    if context.spec.device != "cpu":
        raise JobFailed('OpenVINO computes on the CPU: leave out "requires": "gpu", or "backend": "openvino".')
    if not has_openvino():
        raise JobFailed(NO_OPENVINO)


def _network(context: JobContext, backend: str, window_px: int, settings: dict[str, float]) -> Network:
    """This process's copy of the model, ready for such windows. Raises JobFailed."""
    from scheduling.instanseg.network import network_of  # noqa: PLC0415  (loads torch, which the web process does without)

    facts = _facts(context)
    try:
        network = network_of(ModelStore(context.settings.data_dir).path(facts.sha256), facts, context.torch_device, backend)
        network.prepare(window_px, settings)
    except ModelUnusable as error:
        raise JobFailed(str(error)) from error
    return network


def _labelled(
    network: Network, norm: Normalisation, settings: dict[str, float], windows: Windows, work: Work
) -> Iterator[tuple[int, RGB, tuple[Labels, Labels | None]]]:
    """Each window with its labels: on a device by stages side by side, on the cpu, where the cores are busy anyway, one by one."""
    from scheduling.instanseg.pipeline import Pipeline  # noqa: PLC0415  (loads torch)

    if network.is_cuda:
        yield from _piped(Pipeline(network, norm, settings), windows, work)
        return
    for tile, rgb in windows:
        with work.stage("infer"):
            inferred = network.infer([rgb], norm, settings)[0]
        with work.stage("post"):
            labels = network.finish(inferred, settings)
        yield tile, rgb, labels


def _piped(pipeline: Pipeline, windows: Windows, work: Work) -> Iterator[tuple[int, RGB, tuple[Labels, Labels | None]]]:
    """What the stages side by side have worked, the pipeline counts; reading, the windows."""
    try:
        yield from pipeline.labels(windows.tiles, windows.read)
    finally:
        work.add("infer", pipeline.seconds.infer)
        work.add("post", pipeline.seconds.post)


def _strides(size: int, facts: ModelFacts) -> int:
    """The next multiple of the model's stride."""
    return -(-size // facts.stride_px) * facts.stride_px


def _within(nuclei: Labels, cells: Labels | None, count: int, least_px: float, most_px: float) -> tuple[Labels, Labels | None, int]:
    """Only the objects whose nucleus has a permitted area, renumbered from 1; a cell without a nucleus stays."""
    areas = first_pixels(nuclei, count)[1]
    keep = (areas >= least_px) & (areas <= most_px)
    if cells is not None:
        keep |= (areas == 0) & (first_pixels(cells, count)[1] > 0)
    kept, number = only(nuclei, keep)
    return kept, None if cells is None else only(cells, keep)[0], number
