"""INSTANSEG_WSI with the stand-in over a synthetic slide: the same bytes whatever the grid and the order, equal to a single pass."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely

from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.network import Network
from scheduling.instanseg.normalisation import Normalisation
from scheduling.instanseg.objects import whole_objects
from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes.base import JobContext, JobFailed
from scheduling.jobtypes.instanseg_wsi import NO_MODEL, InstansegWsi
from scheduling.slides.nuclei.contours import outlines
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample
from scheduling.worker.running import compute, survey
from tests.support.matching import f1_at
from tests.support.models import facts_of
from tests.support.standin import standin_bytes
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job

WIDTH, HEIGHT, CORE = 1152, 896, 320


class Shifted(InstansegWsi):
    """The same on a grid moved by whole strides."""

    grid_offset = (136, 72)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with both stand-ins and a slide."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "slide.tif", width=WIDTH, height=HEIGHT, seed=11)
    for variant, outputs in (("nuclei", ("nuclei",)), ("cells", ("nuclei", "cells"))):
        (folder / "model.pt").write_bytes(standin_bytes(variant))
        ModelStore(folder).add(folder / "model.pt", installed(variant, *outputs))
    return folder


def installed(variant: str, *outputs: str) -> ModelFacts:
    return facts_of(*outputs, file=standin_bytes(variant), name=f"standin-{variant}", is_fast=True)


def context_of(data_dir: Path, name: str, job_type: InstansegWsi, model: str = "standin-nuclei", **parameters: Any) -> JobContext:
    settled = job_type.settled({"model": model, "tile_px": CORE, **parameters}, data_dir)
    return job_context(data_dir, data_dir / "slide.tif", job_type, name=name, **settled)


@pytest.fixture(scope="module")
def plain(data_dir: Path) -> JobContext:
    context = context_of(data_dir, "plain", InstansegWsi())
    run_job(InstansegWsi(), context)
    return context


@pytest.fixture(scope="module")
def whole(data_dir: Path) -> JobContext:
    context = context_of(data_dir, "whole", InstansegWsi(), "standin-cells")
    run_job(InstansegWsi(), context)
    return context


def test_the_cells_are_there_and_the_summary_names_the_model(plain: JobContext) -> None:
    files = artifacts_of(plain)
    summary = orjson.loads(files["summary.json"])
    assert summary["cells"] == len(orjson.loads(files["results.json"])) > 150
    assert summary["model"]["name"] == "standin-nuclei"
    assert summary["model"]["hash"] == installed("nuclei").sha256 == summary["parameters"]["model_sha256"]
    assert summary["method"]["calibration"]["stains"]["source"] == "estimated"
    assert list(summary["run"]["seconds"]) == ["plan", "read", "infer", "post", "write", "export"]
    assert min(summary["run"]["seconds"].values()) > 0
    norm = summary["method"]["calibration"]["normalisation"]
    assert all(low < 150 < high for low, high in zip(norm["low"], norm["high"], strict=True))


def test_a_shifted_grid_in_shuffled_order_gives_the_same_bytes(data_dir: Path, plain: JobContext) -> None:
    other = context_of(data_dir, "shifted", Shifted())
    run_job(Shifted(), other, lambda tiles: random.Random(3).sample(list(tiles), len(tiles)))
    assert Shifted().layout(other).cores != InstansegWsi().layout(plain).cores
    assert comparable(artifacts_of(other)) == comparable(artifacts_of(plain))


def test_a_bundle_that_was_killed_and_one_that_came_twice_change_no_byte(data_dir: Path, plain: JobContext) -> None:
    context = context_of(data_dir, "killed", InstansegWsi())
    total = survey(InstansegWsi(), context).plan.tiles_total
    tiles = InstansegWsi().process(context, range(total))
    index, payload = next(iter(tiles))
    context.tiles.publish(index, payload)
    tiles.close()
    for _ in range(2):
        assert context.tiles.publish(index, payload) is False
    compute(InstansegWsi(), context, [0, 1, 1, 0], batch=1, is_over=lambda: False)
    run_job(InstansegWsi(), context)
    assert comparable(artifacts_of(context)) == comparable(artifacts_of(plain))


def single_pass(context: JobContext, model: str, *outputs: str) -> tuple[Any, Any]:
    """What the model's own forward outlines on the whole slide at once: the objects and their boxes."""
    layout, facts = InstansegWsi().layout(context), installed(model, *outputs)
    network = Network.load(ModelStore(context.settings.data_dir).path(facts.sha256), facts)
    network._fast = None
    pad = layout.grid.halo_px
    rgb = open_slide(context.slide_path).read(-pad, -pad, WIDTH + 2 * pad, HEIGHT + 2 * pad)
    norm = Normalisation.from_json(layout.constants["normalisation"])
    return whole_objects(*network.labels(rgb, norm, {}))[:2]


def shapes(labels: Any, pad: int) -> list[Any]:
    rings, _ = outlines(labels)
    return [shapely.Polygon(rings.ring(number) - pad) for number in range(len(rings))]


def test_the_tiles_give_what_a_single_pass_over_the_slide_gives(plain: JobContext) -> None:
    nuclei, _ = single_pass(plain, "nuclei", "nuclei")
    once = shapes(nuclei, InstansegWsi().layout(plain).grid.halo_px)
    tiled = [shapely.Polygon(cell["polygon"]) for cell in orjson.loads(artifacts_of(plain)["results.json"])]
    # Not all are equal to the pixel: the step of the model's own coordinates depends on the width of its window.
    assert f1_at(tiled, once, 0.9) >= 0.99


def test_whole_cells_hold_their_nuclei(whole: JobContext) -> None:
    features = orjson.loads(artifacts_of(whole)["cells.geojson"])["features"]
    assert len(features) > 150
    assert {feature["properties"]["objectType"] for feature in features} == {"cell"}
    with_nucleus = [feature for feature in features if feature.get("nucleusGeometry")]
    assert len(with_nucleus) > 0.9 * len(features)
    for feature in with_nucleus:
        cell, nucleus = (shapely.Polygon(feature[name]["coordinates"][0]) for name in ("geometry", "nucleusGeometry"))
        assert nucleus.difference(cell).area == 0


def test_whole_cells_are_the_same_on_a_shifted_grid(data_dir: Path, whole: JobContext) -> None:
    other = context_of(data_dir, "shifted whole", Shifted(), "standin-cells")
    run_job(Shifted(), other)
    assert comparable(artifacts_of(other)) == comparable(artifacts_of(whole))


def test_nuclei_outside_the_permitted_areas_are_dropped(data_dir: Path) -> None:
    context = context_of(data_dir, "areas", InstansegWsi(), min_area_um2=30, max_area_um2=60)
    run_job(InstansegWsi(), context)
    areas = [
        cell["properties"]["measurements"]["Nucleus: Area µm^2"]
        for cell in orjson.loads(artifacts_of(context)["cells.geojson"])["features"]
    ]
    assert len(areas) > 20
    assert 30 <= min(areas) <= max(areas) <= 60


def test_settings_reach_the_model(data_dir: Path, plain: JobContext) -> None:
    context = context_of(data_dir, "seeds", InstansegWsi(), seed_threshold=0.9)
    run_job(InstansegWsi(), context)
    fewer, all_cells = (orjson.loads(artifacts_of(made)["summary.json"])["cells"] for made in (context, plain))
    assert fewer < all_cells


@pytest.mark.parametrize(("mpp", "message"), [(0.9, "needs about 0.5"), (2.0, "needs about 0.5")])
def test_a_slide_that_is_too_coarse_is_refused(data_dir: Path, mpp: float, message: str) -> None:
    job_type = InstansegWsi()
    settled = job_type.settled({"model": "standin-nuclei"}, data_dir)
    context = job_context(data_dir, data_dir / "slide.tif", job_type, name=f"coarse{mpp}", mpp=mpp, **settled)
    with pytest.raises(JobFailed, match=message):
        job_type.plan(context)


def test_a_slide_that_is_not_quite_the_models_is_warned_of(data_dir: Path) -> None:
    job_type = InstansegWsi()
    settled = job_type.settled({"model": "standin-nuclei"}, data_dir)
    context = job_context(data_dir, data_dir / "slide.tif", job_type, name="other mpp", mpp=0.6, **settled)
    assert any("trained at 0.5" in warning for warning in job_type.plan(context).warnings)


def test_without_a_model_the_job_says_what_is_needed(data_dir: Path) -> None:
    job_type = InstansegWsi()
    with pytest.raises(JobFailed, match="none is installed"):
        job_type.plan(job_context(data_dir, data_dir / "slide.tif", job_type, name="none"))
    assert "SEGMENT_CELLS" in NO_MODEL


def test_a_model_that_was_removed_or_changed_is_not_used(tmp_path: Path) -> None:
    write_sample(tmp_path / "slide.tif", width=600, height=600, seed=11)
    (tmp_path / "model.pt").write_bytes(standin_bytes("nuclei"))
    facts, job_type, store = installed("nuclei", "nuclei"), InstansegWsi(), ModelStore(tmp_path)
    store.add(tmp_path / "model.pt", facts)
    settled = job_type.settled({}, tmp_path)
    context = job_context(tmp_path, tmp_path / "slide.tif", job_type, name="job", **settled)
    job_type.plan(context)
    forget_networks()
    store.path(facts.sha256).write_bytes(standin_bytes("nuclei") + b" ")
    _, error = compute(job_type, context, [0], batch=1, is_over=lambda: False)
    assert error is not None
    assert isinstance(error.error, JobFailed)
    assert "has changed" in str(error.error)
    store.remove(facts.sha256)
    with pytest.raises(JobFailed, match="not installed any more"):
        job_type.plan(context)


def forget_networks() -> None:
    from scheduling.instanseg import network

    network._networks.clear()
