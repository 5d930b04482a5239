"""TISSUE_MASK from its parameters to its artifacts."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
import shapely
import tifffile
from jsonschema import Draft202012Validator

from scheduling.jobtypes.base import InputRef, JobFailed
from scheduling.jobtypes.masks import mask_of
from scheduling.jobtypes.parameters import filled
from scheduling.jobtypes.segment_cells import SegmentCells
from scheduling.jobtypes.tissue_mask import TissueMask
from scheduling.slides.reading.pyramid import from_png
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.synthetic.slide import write_sample
from scheduling.slides.tissue.constants import PRESETS, TissueParameters
from tests.unit.jobtypes.driving import artifacts_of, comparable, job_context, run_job

ARTIFACTS = {"tissue.geojson", "mask.png", "overlay.jpg", "summary.json"}
PROPERTIES = TissueMask.parameters["properties"]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "sample.tif"
    write_sample(path, width=2000, height=1500, seed=11)
    return path


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "blank.tif"
    noise = np.random.default_rng(1).normal(0, 2, (800, 1000, 3))
    tifffile.imwrite(path, (np.array((243, 240, 236)) + noise).astype(np.uint8), tile=(256, 256), photometric="rgb", metadata=None)
    return path


def made(data_dir: Path, slide: Path, name: str = "job", **parameters: Any) -> dict[str, bytes]:
    context = job_context(data_dir, slide, TissueMask(), name=name, **parameters)
    run_job(TissueMask(), context)
    return artifacts_of(context)


def test_the_artifacts_agree_with_each_other(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, TissueMask(), name="job")
    plan = run_job(TissueMask(), context)
    artifacts = artifacts_of(context)
    assert set(artifacts) == ARTIFACTS
    summary, mask = orjson.loads(artifacts["summary.json"]), from_png(artifacts["mask.png"])
    assert mask.shape == (summary["mask"]["height"], summary["mask"]["width"])
    assert summary["tiles"]["total"] == plan.tiles_total
    assert summary["tissue_area_mm2"] == pytest.approx(np.count_nonzero(mask) * 0.008**2)
    features = orjson.loads(artifacts["tissue.geojson"])["features"]
    assert len(features) == summary["pieces"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert all(shape.is_valid and shape.geom_type == "Polygon" for shape in shapes)
    assert sum(shape.area for shape in shapes) * 0.0005**2 == pytest.approx(summary["tissue_area_mm2"], abs=1e-6)
    assert all(feature["properties"]["measurements"]["Perimeter µm"] > 0 for feature in features)
    picture = cv2.imdecode(np.frombuffer(artifacts["overlay.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert 800 <= max(picture.shape[:2]) <= 1600


def test_the_order_of_tiles_changes_no_byte(tmp_path: Path, slide: Path) -> None:
    contexts = [job_context(tmp_path, slide, TissueMask(), name=name) for name in ("one", "two")]
    for context, order in zip(contexts, (list, lambda tiles: list(reversed(tiles))), strict=True):
        run_job(TissueMask(), context, order)
    assert comparable(artifacts_of(contexts[0])) == comparable(artifacts_of(contexts[1]))


def test_a_step_that_runs_again_after_all_is_published_changes_no_byte(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, TissueMask(), name="job")
    list(TissueMask().process(context, []))
    for index, payload in TissueMask().process(context, range(TissueMask().plan(context).tiles_total)):
        context.tiles.publish(index, payload)
    steps = TissueMask().finish(context)
    for step in steps:
        step()
    before = artifacts_of(context)
    for step in (steps[1], steps[2], steps[0], steps[1], steps[2]):
        step()
    assert artifacts_of(context) == before


def test_the_mask_that_a_segmentation_makes_for_itself_is_that_of_a_job_without_parameters(tmp_path: Path, slide: Path) -> None:
    artifacts = made(tmp_path, slide)
    own = mask_of(job_context(tmp_path, slide, SegmentCells(), name="cells"), open_slide(slide), 0.5)
    summary = orjson.loads(artifacts["summary.json"])
    assert np.array_equal(own.pixels, from_png(artifacts["mask.png"]))
    assert (own.downsample, list(own.warnings)) == (summary["mask"]["downsample"], summary["warnings"])


def test_the_summary_states_the_values_that_were_used(tmp_path: Path, slide: Path) -> None:
    used = orjson.loads(made(tmp_path, slide, preset="biopsy", close_um=30, dilate_um=None)["summary.json"])["parameters"]
    assert set(used) == set(PROPERTIES)
    assert used["close_um"] == 30
    assert used["dilate_um"] == PRESETS["biopsy"].dilate_um
    assert used["threshold"] is None


@pytest.mark.parametrize("method", ["saturation", "grey", "entropy"])
def test_blank_glass_succeeds_with_a_warning_and_is_no_ground_for_a_segmentation(tmp_path: Path, blank: Path, method: str) -> None:
    context = job_context(tmp_path, blank, TissueMask(), name="mask", method=method)
    run_job(TissueMask(), context)
    artifacts = artifacts_of(context)
    assert orjson.loads(artifacts["tissue.geojson"])["features"] == []
    assert context.warnings == orjson.loads(artifacts["summary.json"])["warnings"]
    assert "No tissue was found" in context.warnings[0]
    inputs = (InputRef(job="mask", job_type="TISSUE_MASK", digest="d"),)
    with pytest.raises(JobFailed, match="No tissue was found"):
        SegmentCells().plan(job_context(tmp_path, blank, SegmentCells(), name="cells", inputs=inputs))


def test_an_implausible_mask_ends_as_a_warning_on_the_job(tmp_path: Path, slide: Path) -> None:
    context = job_context(tmp_path, slide, TissueMask(), name="job", threshold=0, close_um=400)
    run_job(TissueMask(), context)
    assert context.warnings[0].endswith("If there is glass: set threshold by hand.")


def test_the_smallest_slide_has_artifacts_too(tmp_path: Path) -> None:
    write_sample(tmp_path / "s.tif", width=64, height=48, seed=1)
    assert set(made(tmp_path, tmp_path / "s.tif")) == ARTIFACTS


def test_every_parameter_has_a_description_a_default_and_limits() -> None:
    assert set(PROPERTIES) == set(TissueParameters.__dataclass_fields__)
    for name, rule in PROPERTIES.items():
        assert rule["description"], name
        assert "default" in rule, name
        assert rule["type"] in ("string", "boolean") or {"minimum", "maximum"} <= set(rule), name
        assert rule["type"] != "string" or rule["enum"], name


def test_values_that_a_preset_gives_are_in_the_schema_and_within_its_limits() -> None:
    for name, rule in PROPERTIES.items():
        for preset, value in rule.get("x-preset-defaults", {}).items():
            assert value == getattr(PRESETS[preset], name)
            assert f"{preset} {value:g}" in rule["description"]
            assert Draft202012Validator(TissueMask.parameters).is_valid({"preset": preset, name: value})


@pytest.mark.parametrize(
    "wrong", [{"preset": "smear"}, {"method": "hue"}, {"close_um": -1}, {"min_area_mm2": "0.1"}, {"remove_pen": 1}, {"threshold": 256}]
)
def test_values_outside_the_limits_are_refused(wrong: dict[str, Any]) -> None:
    assert not Draft202012Validator(TissueMask.parameters).is_valid(wrong)


def test_a_preset_gives_what_is_not_stated_and_what_is_stated_wins() -> None:
    def used(**given: Any) -> TissueParameters:
        return TissueParameters(**filled(TissueMask.parameters, given))

    assert used() == TissueParameters() == PRESETS["resection"]
    assert used(preset="biopsy") == PRESETS["biopsy"]
    assert used(preset="tma", close_um=5, min_area_mm2=None) == replace(PRESETS["tma"], close_um=5)
    assert all(preset.preset == name for name, preset in PRESETS.items())


def test_values_of_a_preset_written_out_are_the_same_work() -> None:
    written = asdict(PRESETS["biopsy"])
    assert filled(TissueMask.parameters, written) == filled(TissueMask.parameters, {"preset": "biopsy"})
    assert orjson.dumps(filled(TissueMask.parameters, {"dilate_um": 16})) == orjson.dumps(filled(TissueMask.parameters, {}))
